"""Sums with float64 accumulators, over rows or along rows.

Sums are cut into blocks of fixed size whose partial sums are added in order: the rounding error
grows with the block length plus the number of blocks, not with their product, and the result
never depends on the number of threads.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import kernel

BLOCK = 512  # n = 2**18 terms: 512 blocks of 512, the size that keeps block + n / block smallest


def _sum_rows(x: NDArray[Any], divisor: float, out: NDArray[Any]) -> None:
    """out[j] = (sum over i of x[i, j]) / divisor, for x (n, c) and out of c elements in C order."""
    n, c = x.shape
    flat = out.reshape(out.size)
    total = np.zeros(c, np.float64)
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        partial = np.zeros(c, np.float64)
        i = start
        while i + 4 <= stop:  # four rows a pass: a quarter of the traffic on the accumulators
            for j in range(c):
                partial[j] += (np.float64(x[i, j]) + np.float64(x[i + 1, j])) + (
                    np.float64(x[i + 2, j]) + np.float64(x[i + 3, j])
                )
            i += 4
        while i < stop:
            for j in range(c):
                partial[j] += x[i, j]
            i += 1
        for j in range(c):
            total[j] += partial[j]
    for j in range(c):
        flat[j] = total[j] / divisor


def _mean_square_rows(x: NDArray[Any], out: NDArray[Any]) -> None:
    """out[j] = (sum over i of x[i, j]^2) / n, for x (n, c) and out of c elements in C order."""
    n, c = x.shape
    flat = out.reshape(out.size)
    total = np.zeros(c, np.float64)
    for start in range(0, n, BLOCK):
        partial = np.zeros(c, np.float64)
        for i in range(start, min(start + BLOCK, n)):
            for j in range(c):
                v = np.float64(x[i, j])
                partial[j] += v * v
        for j in range(c):
            total[j] += partial[j]
    for j in range(c):
        flat[j] = total[j] / n


def _sum_along(x: NDArray[Any], divisor: float, out: NDArray[Any]) -> None:
    """out[i] = (sum over j of x[i, j]) / divisor, for x (m, k) and out of m elements in C order."""
    m, k = x.shape
    flat = out.reshape(out.size)
    for i in range(m):
        total = 0.0
        for start in range(0, k, BLOCK):
            partial = 0.0
            row = x[i, start : min(start + BLOCK, k)]
            for j in range(row.size):
                partial += np.float64(row[j])
            total += partial
        flat[i] = total / divisor


sum_rows = kernel(_sum_rows, allocates=True)
mean_square_rows = kernel(_mean_square_rows, allocates=True)
sum_along = kernel(_sum_along)
