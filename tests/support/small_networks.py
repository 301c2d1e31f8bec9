"""A small network with BatchNorm, data for it, and its state."""

from itertools import pairwise
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim


def network(
    sizes: tuple[int, ...] = (6, 5, 4),
    fused: bool = True,
    activation: Any = nn.ReLU,
    dropout: float = 0.0,
    dtype: Any = np.float32,
    seed: int = 0,
    average: float | None = 0.1,
    **options: Any,
) -> tuple[Any, Any, Any]:
    """Return a model with BatchNorm, its optimizer, and a step that trains it.

    sizes: the numbers of features; average: BatchNorm's momentum; options: those of SGD.
    """
    mg.manual_seed(seed)
    layers: list[nn.Module] = []
    for n, m in pairwise(sizes[:-1]):
        norm = nn.BatchNorm1d(m, momentum=average, fused=fused)
        layers += [nn.Linear(n, m), norm, activation()]
        layers += [nn.Dropout(dropout)] if dropout else []
    model = nn.Sequential(*layers, nn.Linear(*sizes[-2:])).to(dtype)
    opt = optim.SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9, **options})

    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return model, opt, step


def batches(count, n=8, features=6, classes=4, dtype=np.float32, seed=1):
    """Return batches of n random samples."""
    rng = np.random.default_rng(seed)
    return [
        (rng.standard_normal((n, features)).astype(dtype), rng.integers(0, classes, n))
        for _ in range(count)
    ]


def state(model, opt):
    """Return everything that training changes."""
    found = dict(model.state_dict())
    for i, p in enumerate(model.parameters()):
        if p in opt.state:
            found[f"momentum {i}"] = opt.state[p]["momentum_buffer"].copy()
    return found


def same(a, b, tolerance=0.0):
    """Check that two states are equal, or within a tolerance."""
    assert a.keys() == b.keys()
    for name, x in a.items():
        if tolerance:
            np.testing.assert_allclose(x, b[name], rtol=tolerance, atol=tolerance, err_msg=name)
        else:
            np.testing.assert_array_equal(x, b[name], err_msg=name)
