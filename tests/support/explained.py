"""A small network to explain, and a comparison to rounding."""

from typing import Any

import numpy as np

import minigrad as mg
import minigrad.explainer
from minigrad import functional as F
from minigrad import nn
from minigrad.engine.tensor import Tensor


def close(a: Any, b: Any) -> None:
    """Check equality to rounding in float64, relative to the largest element."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12 * max(1.0, np.abs(b).max(initial=0.0)))


def network(fused: bool, dtype: Any = np.float64) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a small network with BatchNorm, its input, and its loss."""
    rng = np.random.default_rng(0)
    mg.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 5), nn.BatchNorm1d(5, fused=fused), nn.ReLU(), nn.Linear(5, 3)
    ).to(dtype)
    x = mg.tensor(rng.normal(size=(8, 6)).astype(dtype), requires_grad=True)
    return model, x, F.cross_entropy(model(x), rng.integers(0, 3, 8))
