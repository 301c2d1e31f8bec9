"""Calls of BatchNorm's kernels on plain arrays."""

import numba
import numpy as np

from minigrad.kernels import inplace
from minigrad.kernels.batchnorm import entry_points

COMPILED = not numba.config.DISABLE_JIT


DTYPES = [np.float32, np.float64]


TOLERANCE = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-12}


EPS = 1e-5


def sample(shape, dtype, seed=0):
    """Return x, g, gamma and beta; some of gamma are negative."""
    rng = np.random.default_rng(seed)
    c = shape[1]
    x = 3.0 * rng.standard_normal(shape) + rng.standard_normal((c,) + (1,) * (len(shape) - 2))
    return (*(a.astype(dtype) for a in (x, rng.standard_normal(shape))),
            *(rng.standard_normal(c).astype(dtype) for _ in range(2)))  # fmt: skip


def empty(x, ndim=1):
    return np.empty((0,) * ndim, x.dtype)


def forward(x, gamma=None, beta=None, running=None, factor=0.1, eps=EPS, relu=False, eval=False):
    """Return y and stats. running: mean and var."""
    gamma, beta = (empty(x) if p is None else p for p in (gamma, beta))
    mean, var = (empty(x), empty(x)) if running is None else running
    y, stats = np.full(x.shape, 77, x.dtype), np.full((5, x.shape[1]), 77.0)
    with np.errstate(all="ignore"):
        if eval:
            entry_points.forward_eval(x, gamma, beta, mean, var, eps, relu, y, stats)
        else:
            entry_points.forward_train(x, gamma, beta, eps, relu, y, stats)
            n = x.size // max(x.shape[1], 1)
            if running is not None and n:
                inplace.running(mean, var, stats[4], stats[3], factor, n / max(n - 1, 1))
    return y, stats


def backward(g, x, stats, gamma=None, y=None, training=True, wanted=(True, True, True)):
    """Return dx, dgamma and dbeta, and an empty array for what is not needed."""
    gamma = empty(x) if gamma is None else gamma
    y = empty(x, x.ndim) if y is None else y
    dx = np.full(x.shape, 77, x.dtype) if wanted[0] else empty(x, x.ndim)
    dgamma, dbeta = (np.full(x.shape[1], 77, x.dtype) if n else empty(x) for n in wanted[1:])
    with np.errstate(all="ignore"):
        entry_points.backward(g, x, y, gamma, stats, training, dx, dgamma, dbeta)
    return dx, dgamma, dbeta


def close(got, expected, factor=1.0):
    """Check that the largest error, relative to the largest value, is within tolerance."""
    scale = np.max(np.abs(expected)) + np.finfo(got.dtype).tiny
    error = np.max(np.abs(got.astype(np.float64) - expected)) / scale
    assert error <= factor * TOLERANCE[got.dtype], error
