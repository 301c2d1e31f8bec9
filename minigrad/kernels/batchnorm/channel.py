"""This is the arithmetic of one channel for both layouts, with sums over consecutive values.

The terms are explained in entry_points.py.
"""

import numpy as np

from ...types import Array, Number
from ..jit.decorators import device_function

# The largest numbers of float32 and float64. Numba compiles these and comparisons much faster than
# np.finfo, np.isfinite and np.copysign.
LARGEST_32, LARGEST_64 = float(np.finfo(np.float32).max), float(np.finfo(np.float64).max)


def _sample_size(m: int) -> int:
    """Return m', the number of first values, of m in all, whose mean is the initial K.

    Since m / m' <= 256, the variance loses at most 256 units in the last place.
    """
    return 1 + m // 256


def _finite(shift: Number) -> Number:
    """Return K, or 0 if it is not finite, so that infinite values make the mean inf, not NaN."""
    return shift if -np.inf < shift < np.inf else type(shift)(0.0)


def _within(value: float, like: Array) -> float:
    """Return value, or the largest number of like's dtype if a finite value exceeds it."""
    largest = LARGEST_32 if like.itemsize == 4 else LARGEST_64
    if not largest < abs(value) < np.inf:
        return value
    return largest if value > 0.0 else -largest


def _times(small: float, factor: float) -> float:
    """Return small * factor, or 0 if factor is not finite, since 0 * inf would be NaN."""
    return small * factor if abs(factor) < np.inf else 0.0


finite = device_function(_finite, exact=True)
within = device_function(_within, exact=True)
times = device_function(_times, exact=True)


def _batch_stats(
    m: int, sums: Array, eps: float, stats: Array, p: Array, start: int, stop: int
) -> None:
    """Compute stats from K and the sums of x - K and (x - K)^2, for channels start to stop - 1.

    K becomes the mean, rounded to the dtype of x. inv_std is made finite in this dtype, which is
    also the dtype of p.
    """
    for j in range(start, stop):
        rest = sums[0, j] / m
        var = (sums[1, j] - sums[0, j] * rest) / m  # not negative: see _sample_size
        stats[4, j] = stats[0, j] + rest
        shift = np.float64(p.dtype.type(stats[4, j]))
        stats[1, j] = (stats[0, j] - shift) + rest
        stats[0, j] = shift
        stats[2, j] = within(1.0 / np.sqrt(var + eps), p)
        stats[3, j] = var


def _running_stats(
    x: Array, running_mean: Array, running_var: Array, eps: float, stats: Array
) -> None:
    """Compute stats from running statistics; only the dtype of x is used."""
    for j in range(running_mean.size):
        stats[0, j] = x.dtype.type(running_mean[j])
        stats[1, j] = running_mean[j] - stats[0, j] if abs(stats[0, j]) < np.inf else 0.0
        stats[2, j] = within(1.0 / np.sqrt(np.float64(running_var[j]) + eps), x)
        stats[3, j] = running_var[j]
        stats[4, j] = running_mean[j]


def _affine(gamma: Array, beta: Array, stats: Array, p: Array, start: int, stop: int) -> None:
    """Set p to the coefficients K, scale and offset of y = (x - K) * scale + offset.

    start, stop: the first channel, and the one after the last.
    """
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
    """Compute dgamma, dbeta and p for channels start to stop - 1, from sums of g and g * (x - K).

    dgamma = sum of g * x_hat, which replaces sums[1], and dbeta = sum of g. p holds the
    coefficients of dx = (g - p2 - ((x - p0) * p3 + p4)) * p1 or, in evaluation, of dx = g * p1. The
    mean of g is stored in two parts, p2 and p4, like the mean of x, so that g - mean(g) loses no
    precision. p4 also holds the term for the difference between x_hat and (x - K) * inv_std.
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
    # Separate loops, since LLVM vectorises no combined one.
    if dgamma.size:
        for j in range(start, stop):
            dgamma[j] = sums[1, j]
    if dbeta.size:
        for j in range(start, stop):
            dbeta[j] = sums[0, j]


sample_size = device_function(_sample_size)
# Literal, since some of their arrays may be empty.
batch_stats = device_function(_batch_stats, literal=True)
running_stats = device_function(_running_stats, literal=True)
affine = device_function(_affine, literal=True)
gradients = device_function(_gradients, literal=True)


# --- runs of consecutive values, the inner loops --------------------------------------------------


def _minus(a: Number, b: float) -> float:
    """Return a - b in float64, exact, since its callers may reorder sums."""
    return np.float64(a) - b


minus = device_function(_minus, exact=True)


def _run_sums(x: Array, shift: float) -> tuple[float, float]:
    """Return the sum of x - K and the sum of (x - K)^2."""
    s1 = s2 = 0.0
    for k in range(x.size):
        d = minus(x[k], shift)
        s1 += d
        s2 += d * d
    return s1, s2


def _run_dots(g: Array, x: Array, y: Array, gated: bool, shift: float) -> tuple[float, float]:
    """Return the sums of g and of g * (x - K); if gated, g counts as 0 where y <= 0."""
    s1 = s2 = 0.0
    zero = g.dtype.type(0)
    for k in range(x.size):
        h = g[k]
        if gated:
            h = zero if y[k] <= zero else h
        s1 += np.float64(h)
        s2 += h * minus(x[k], shift)
    return s1, s2


# Not exact, so that LLVM may vectorise the sums.
run_sums = device_function(_run_sums)
run_dots = device_function(_run_dots)
