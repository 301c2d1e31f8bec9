"""What BatchNorm computes for one channel, for both layouts, and for a run of consecutive values.

The terms are explained in minigrad.kernels.batchnorm.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..jit.decorators import part

Array = NDArray[Any]


def _first(m: int) -> int:
    """How many of m values K is at first the mean of: m / m' <= 256 costs var 256 units at most."""
    return 1 + m // 256


def _finite(shift: Any) -> Any:
    """K, or 0 for it, so that the mean of a channel with an infinity is infinite, not NaN."""
    return shift if -np.inf < shift < np.inf else type(shift)(0.0)


def _within(value: Any, like: Array) -> Any:
    """value, or the largest finite number of the dtype of `like` for a finite one beyond it."""
    largest = np.float64(np.finfo(like.dtype).max)
    return np.copysign(largest, value) if largest < abs(value) < np.inf else value


def _times(small: Any, factor: Any) -> Any:
    """small * factor, or 0 where factor is not finite: no NaN of 0 * inf where nothing is lost."""
    return small * factor if np.isfinite(factor) else 0.0


finite = part(_finite, exact=True)
within = part(_within, exact=True)
times = part(_times, exact=True)


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
    is the mean, rounded to the dtype of x, which is that of p; inv_std is finite there.
    """
    for j in range(start, stop):
        rest = sums[0, j] / m
        var = (sums[1, j] - sums[0, j] * rest) / m  # not below 0, by the bound at `first`
        stats[4, j] = stats[0, j] + rest
        shift = np.float64(p.dtype.type(stats[4, j]))
        stats[1, j] = (stats[0, j] - shift) + rest
        stats[0, j] = shift
        stats[2, j] = within(1.0 / np.sqrt(var + eps), p)
        stats[3, j] = var


def _recall(x: Array, running_mean: Array, running_var: Array, eps: float, stats: Array) -> None:
    """stats, of running statistics; of x only the dtype counts."""
    for j in range(running_mean.size):
        stats[0, j] = x.dtype.type(running_mean[j])
        stats[1, j] = running_mean[j] - stats[0, j] if np.isfinite(stats[0, j]) else 0.0
        stats[2, j] = within(1.0 / np.sqrt(np.float64(running_var[j]) + eps), x)
        stats[3, j] = running_var[j]
        stats[4, j] = running_mean[j]


def _affine(gamma: Array, beta: Array, stats: Array, p: Array, start: int, stop: int) -> None:
    """p = K, scale, offset of y = (x - K) * scale + offset, for channels from start to stop."""
    for j in range(start, stop):
        scale = within(stats[2, j] * (gamma[j] if gamma.size else 1.0), p)
        p[0, j] = stats[0, j]
        p[1, j] = scale
        p[2, j] = (beta[j] if beta.size else 0.0) - times(stats[1, j], scale)


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
    """dgamma = sum of g * x_hat, which replaces sums[1], and dbeta = sum of g, of sums of g and of
    g * (x - K); and p of

    dx = (g - p2 - ((x - p0) * p3 + p4)) * p1, in evaluation dx = g * p1, channels start to stop.
    p2 + p4 is the mean of g, in two parts like that of x, so that g - mean(g) loses nothing; p4
    also has what x_hat is beside (x - K) * inv_std.
    """
    for j in range(start, stop):
        rest, inv_std = times(stats[1, j], stats[2, j]), stats[2, j]
        dot, mean = sums[1, j] * inv_std - times(rest, sums[0, j]), sums[0, j] / m
        sums[1, j] = dot
        p[0, j] = stats[0, j]
        p[1, j] = within(inv_std * (gamma[j] if gamma.size else 1.0), p)
        p[2, j] = mean
        p[3, j] = within(inv_std * (dot / m), p)
        p[4, j] = (mean - p[2, j]) - rest * (dot / m)
    # In loops of their own, or none of them becomes vector code: 4 us for 1024 channels, not 1.
    if dgamma.size:
        for j in range(start, stop):
            dgamma[j] = sums[1, j]
    if dbeta.size:
        for j in range(start, stop):
            dbeta[j] = sums[0, j]


# Few of them, and of arrays that may be empty.
first = part(_first)
settle = part(_settle, literal=True)
recall = part(_recall, literal=True)
affine = part(_affine, literal=True)
gradients = part(_gradients, literal=True)


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
