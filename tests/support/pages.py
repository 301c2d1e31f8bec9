"""Losses that the tests of pages explain."""

import numpy as np

import minigrad as mg
from minigrad import functional as F
from minigrad import nn


def digits_loss() -> tuple[mg.Tensor, nn.Module]:
    """Return the loss of the network of examples/digits.py with composed BatchNorm, and the net."""
    mg.manual_seed(0)
    hidden = [
        [nn.Linear(n, m), nn.BatchNorm1d(m, fused=False), nn.ReLU()]
        for n, m in ((64, 128), (128, 64))
    ]
    net = nn.Sequential(*hidden[0], *hidden[1], nn.Linear(64, 10))
    x = np.random.default_rng(1).uniform(0, 16, size=(64, 64)).astype(np.float32)
    return F.cross_entropy(net(mg.tensor(x)), mg.tensor(np.arange(64) % 10)), net


def small_loss() -> tuple[mg.Tensor, dict[str, mg.Tensor]]:
    """Return a small loss, with an input used twice and a rule in several lines, and its inputs."""
    rng = np.random.default_rng(1)
    x, w = (mg.tensor(rng.normal(size=(5, 3)), requires_grad=True) for _ in range(2))
    y = F.batch_norm(x, None, None, training=True, fused=False)
    return (y * F.gelu(w) + x * x).sum(), {"x": x, "w": w}
