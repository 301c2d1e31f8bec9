"""Samples, formulas in plain NumPy and snapshots of a layer, shared by the BatchNorm tests."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import nn


@pytest.fixture(params=[True, False], ids=["fused", "composed"], autouse=True)
def fused(request, monkeypatch):
    """Run each test of the file that imports this for both forms, by their default argument."""
    monkeypatch.setattr(
        F.batch_norm, "__defaults__", (*F.batch_norm.__defaults__[:-2], request.param, None)
    )
    init = nn.BatchNorm1d.__init__
    monkeypatch.setattr(init, "__defaults__", (*init.__defaults__[:-1], request.param))
    return request.param


def normal(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def expected(x, mean=None, var=None, gamma=None, beta=None, eps=1e-5):
    """Return y by the formulas, in float64; mean and var are the batch's unless given."""
    y = np.empty(x.shape)
    given = [None if p is None else np.asarray(p, np.float64) for p in (mean, var, gamma, beta)]
    mean, var, gamma, beta = given
    for c in range(x.shape[1]):
        v = x[:, c].astype(np.float64)
        mu = v.mean() if mean is None else mean[c]
        s2 = ((v - mu) ** 2).mean() if var is None else var[c]
        y[:, c] = (v - mu) / np.sqrt(s2 + eps)
        y[:, c] = y[:, c] * (1 if gamma is None else gamma[c]) + (0 if beta is None else beta[c])
    return y


def statistics(x):
    """Return the mean and the unbiased variance of each channel, in float64."""
    channels = [x[:, c].astype(np.float64).ravel() for c in range(x.shape[1])]
    return np.array([v.mean() for v in channels]), np.array([v.var(ddof=1) for v in channels])


def run(x, gamma, beta, g, wanted=(True, True, True), **options):
    """Return y, and the gradients of x, gamma and beta as arrays, or None where not needed."""
    options = {"training": True, **options}
    leaves = [mg.Tensor(a).requires_grad_(n) for a, n in zip((x, gamma, beta), wanted, strict=True)]
    y = F.batch_norm(leaves[0], weight=leaves[1], bias=leaves[2], **options)
    y.backward(g)
    return y.numpy(), *(None if t.grad is None else t.grad.numpy() for t in leaves)


def state(bn):
    """Return what a layer must not change when it raises: names, identities, bytes, the mode."""
    named = [*bn.named_parameters(), *bn.named_buffers()]
    return [(n, id(t), t.data.tobytes(), t.grad is None) for n, t in named], bn.training
