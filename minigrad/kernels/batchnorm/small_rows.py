"""BatchNorm of a small array of shape (n, c) runs plain loops, which compile in a short time.

The terms are explained in entry_points.py. For larger arrays, the kernels of rows.py are faster.
"""

import numpy as np

from ...types import Array
from ..jit.decorators import device_function, kernel
from ..jit.new_arrays import empty, zeros
from ..threading.parallel_for import Pool
from .channel import affine, batch_stats, finite, gradients, running_stats, sample_size

# An array is small if it has at most ROWS * min(c, CHANNELS) values: the loops over the channels
# are fast only if there are enough of them.
ROWS, CHANNELS = 128, 64


def is_small(n: int, c: int) -> bool:
    """Return whether the kernels of this file are meant for an array of shape (n, c)."""
    return n * c <= ROWS * min(c, CHANNELS)


def _first_mean(x: Array, stats: Array) -> None:
    """Set stats[0] to the initial K of each channel."""
    m = sample_size(x.shape[0])
    total = zeros((x.shape[1],), np.float64)
    for i in range(m):
        for j in range(total.size):
            total[j] += np.float64(x[i, j]) - np.float64(x[0, j])
    for j in range(total.size):
        stats[0, j] = finite(x.dtype.type(np.float64(x[0, j]) + total[j] / m))


def _scale(x: Array, p: Array, relu: bool, y: Array) -> None:
    """Set y to (x - p0) * p1 + p2, or to max(0, this) with relu."""
    low = x.dtype.type(0.0 if relu else np.nan)  # no value is <= NaN
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            v = (x[i, j] - p[0, j]) * p[1, j] + p[2, j]
            y[i, j] = low if v <= low else v


first_mean = device_function(_first_mean, exact=True, allocates=True)
scale = device_function(_scale, exact=True)


def _small_train(
    x: Array, gamma: Array, beta: Array, eps: float, relu: bool, y: Array, stats: Array, _pool: Pool
) -> None:
    """Compute what forward_train in entry_points.py describes."""
    n, c = x.shape
    sums, p = zeros((2, c), np.float64), empty((3, c), x.dtype)
    first_mean(x, stats)
    for i in range(n):
        for j in range(c):
            d = np.float64(x[i, j]) - stats[0, j]
            sums[0, j] += d
            sums[1, j] += d * d
    batch_stats(n, sums, eps, stats, p, 0, c)
    affine(gamma, beta, stats, p, 0, c)
    scale(x, p, relu, y)


def _small_eval(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    eps: float,
    relu: bool,
    y: Array,
    stats: Array,
    _pool: Pool,
) -> None:
    """Compute what forward_eval in entry_points.py describes."""
    p = empty((3, x.shape[1]), x.dtype)
    running_stats(x, running_mean, running_var, eps, stats)
    affine(gamma, beta, stats, p, 0, x.shape[1])
    scale(x, p, relu, y)


def _small_backward(
    g: Array,
    x: Array,
    y: Array,
    gamma: Array,
    stats: Array,
    training: bool,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
    _pool: Pool,
) -> None:
    """Compute what backward in entry_points.py describes."""
    n, c = x.shape
    zero = x.dtype.type(0)
    gate, low = (y, zero) if y.size > 0 else (x, x.dtype.type(np.nan))  # no value is <= NaN
    sums, p = zeros((2, c), np.float64), empty((5, c), x.dtype)
    for i in range(n):
        for j in range(c):
            h = zero if gate[i, j] <= low else g[i, j]
            sums[0, j] += h
            sums[1, j] += h * (np.float64(x[i, j]) - stats[0, j])
    gradients(n, sums, gamma, stats, dgamma, dbeta, p, 0, c)
    if dx.size == 0:
        return
    for i in range(n):
        for j in range(c):
            h = zero if gate[i, j] <= low else g[i, j]
            if training:
                h = (h - p[2, j]) - ((x[i, j] - p[0, j]) * p[3, j] + p[4, j])
            dx[i, j] = h * p[1, j]


small_train = kernel(_small_train, exact=True, allocates=True)
small_eval = kernel(_small_eval, exact=True, allocates=True)
small_backward = kernel(_small_backward, exact=True, allocates=True)
