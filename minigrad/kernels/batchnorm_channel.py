"""What BatchNorm computes for one channel, for both layouts, and for a run of consecutive values.

The terms are explained in minigrad.kernels.batchnorm.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import part

Array = NDArray[Any]


def _first(m: int) -> int:
    """How many of m values K is at first the mean of: m / m' <= 256 costs var 256 units at most."""
    return 1 + m // 256


def _finite(shift: Any) -> Any:
    """K, or 0 for it, so that the mean of a channel with an infinity is infinite, not NaN."""
    return shift if np.isfinite(shift) else type(shift)(0.0)


finite = part(_finite)


def _settle(
    m: int,
    sums: Array,
    eps: float,
    stats: Array,
    p: Array,
    start: int,
    stop: int,
) -> None:
    """stats, of K and sums of x - K and (x - K)^2, for channels from start to stop. From here on K
    is the mean, rounded to the dtype of x, which is that of p.
    """
    for j in range(start, stop):
        rest = sums[0, j] / m
        var = (sums[1, j] - sums[0, j] * rest) / m  # not below 0, by the bound at `first`
        stats[4, j] = stats[0, j] + rest
        shift = np.float64(p.dtype.type(stats[4, j]))
        stats[1, j] = (stats[0, j] - shift) + rest
        stats[0, j] = shift
        stats[2, j] = 1.0 / np.sqrt(var + eps)
        stats[3, j] = var


def _recall(x: Array, running_mean: Array, running_var: Array, eps: float, stats: Array) -> None:
    """stats, of running statistics; of x only the dtype counts."""
    for j in range(running_mean.size):
        stats[0, j] = x.dtype.type(running_mean[j])
        stats[1, j] = running_mean[j] - stats[0, j]
        stats[2, j] = 1.0 / np.sqrt(running_var[j] + eps)
        stats[3, j] = running_var[j]


def _affine(gamma: Array, beta: Array, stats: Array, p: Array, start: int, stop: int) -> None:
    """p = K, scale, offset of y = (x - K) * scale + offset, for channels from start to stop."""
    for j in range(start, stop):
        scale = stats[2, j] * (gamma[j] if gamma.size else 1.0)
        p[0, j] = stats[0, j]
        p[1, j] = scale
        p[2, j] = (beta[j] if beta.size else 0.0) - stats[1, j] * scale


def _gradients(
    m: int,
    sums: Array,
    gamma: Array,
    stats: Array,
    dgamma: Array,
    dbeta: Array,
    p: Array,
    start: int,
    stop: int,
) -> None:
    """dgamma = sum of g * x_hat, dbeta = sum of g, of sums of g and g * (x - K) * inv_std; and p of

    dx = g * p2 + p3 - (x - p0) * p1 * p4, in evaluation dx = g * p2, channels start to stop.
    """
    for j in range(start, stop):
        rest, inv_std = stats[1, j] * stats[2, j], stats[2, j]
        dot = sums[1, j] - rest * sums[0, j]
        scale = inv_std * (gamma[j] if gamma.size else 1.0)
        if dgamma.size:
            dgamma[j] = dot
        if dbeta.size:
            dbeta[j] = sums[0, j]
        p[2, j] = scale
        p[3, j] = scale * (rest * (dot / m) - sums[0, j] / m)
        p[4, j] = scale * (dot / m)


def _centre(stats: Array, p: Array, start: int, stop: int) -> None:
    """p0 = K, p1 = inv_std, for channels from start to stop."""
    for j in range(start, stop):
        p[0, j] = stats[0, j]
        p[1, j] = stats[2, j]


first = part(_first)
settle = part(_settle, exact=True)
recall = part(_recall, exact=True)
affine = part(_affine, exact=True)
gradients = part(_gradients, exact=True)
centre = part(_centre)


# --- runs of consecutive values, the inner loops --------------------------------------------------


def _minus(a: Any, b: float) -> Any:
    """a - b in float64; compiled on its own, where no reordering may take it apart."""
    return np.float64(a) - b


minus = part(_minus, exact=True)


def _run_sums(x: Array, shift: float) -> tuple[float, float]:
    """Sum of x - K, sum of (x - K)^2."""
    s1 = s2 = 0.0
    for k in range(x.size):
        d = minus(x[k], shift)
        s1 += d
        s2 += d * d
    return s1, s2


def _run_dots(g: Array, x: Array, y: Array, gated: bool, shift: float) -> tuple[float, float]:
    """Sum of g, sum of g * (x - K), where g counts as 0 where y <= 0 if gated."""
    s1 = s2 = 0.0
    zero = g.dtype.type(0)
    for k in range(x.size):
        h = g[k]
        if gated:
            h = zero if y[k] <= zero else h
        s1 += np.float64(h)
        s2 += h * minus(x[k], shift)
    return s1, s2


# The only sums that may be reordered, into as many as a vector register holds.
run_sums = part(_run_sums)
run_dots = part(_run_dots)
