"""Reduction kernels sum in float64 over rows, along rows or over the middle axis.

The terms of a short block are added directly, in loops that LLVM may vectorise. The sums of the
blocks are added by TwoSum, which also computes the rounding error of each addition (Knuth, The Art
of Computer Programming, volume 2, 4.2.2). So a result is rounded about once, for any number of
terms, and does not depend on the number of threads. TwoSum allows no fast-math flags: a compiler
that may reorder sums would replace the errors by zero.
"""

import numpy as np

from ..types import Array, DType
from .jit.decorators import device_function, kernel
from .jit.new_arrays import reshaped, zeros

BLOCK_32, BLOCK_64 = 512, 32  # rows in a block of float32 and float64


def _rows_in_block(x: Array) -> int:
    """Return the number of rows per block, larger for float32: float64 has 29 bits more."""
    return BLOCK_32 if x.itemsize == 4 else BLOCK_64


def is_one_block(rows: int, dtype: DType) -> bool:
    """Return whether the sum over this many rows has a single block."""
    return rows <= (BLOCK_32 if dtype.itemsize == 4 else BLOCK_64)


def _add_rows(x: Array, start: int, stop: int, block: Array) -> None:
    """Add the sum of x[i, j] over rows start to stop - 1 to block[j]."""
    i = start
    while i + 4 <= stop:  # four rows at once, so that `block` is read and written less often
        for j in range(block.size):
            block[j] += (np.float64(x[i, j]) + np.float64(x[i + 1, j])) + (
                np.float64(x[i + 2, j]) + np.float64(x[i + 3, j])
            )
        i += 4
    while i < stop:
        for j in range(block.size):
            block[j] += x[i, j]
        i += 1


def _add_squares(x: Array, start: int, stop: int, block: Array) -> None:
    """Add the sum of x[i, j]^2 over rows start to stop - 1 to block[j]."""
    for i in range(start, stop):
        for j in range(block.size):
            v = np.float64(x[i, j])
            block[j] += v * v


def _add_along(x: Array, i: int, start: int, stop: int) -> float:
    """Return the sum of x[i, j] over columns start to stop - 1."""
    row, block = x[i, start:stop], 0.0
    for j in range(row.size):
        block += np.float64(row[j])
    return block


def _two_sum(a: float, b: float) -> tuple[float, float]:
    """Return the rounded sum of a and b and the exact rounding error."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _with_errors(total: float, errors: float) -> float:
    """Return the total plus its rounding errors, which are NaN if the total is not finite."""
    return total + errors if errors - errors == 0.0 else total


def _flush_block(sums: Array) -> None:
    """Add the block to the totals, add up the errors, and set the block to zero.

    The rows of `sums` are the block, the totals and the errors.
    """
    block, total, errors = sums[0], sums[1], sums[2]
    for j in range(total.size):
        total[j], error = two_sum(total[j], block[j])
        errors[j] += error
        block[j] = 0.0


def _finish(sums: Array, divisor: float, out: Array) -> None:
    """Set out to (totals + errors) / divisor, and set both to zero."""
    total, errors = sums[1], sums[2]
    for j in range(total.size):
        out[j] = with_errors(total[j], errors[j]) / divisor
        total[j], errors[j] = 0.0, 0.0


def _total_rows(x: Array, divisor: float, sums: Array, out: Array) -> None:
    """Set out[j] to (sum over i of x[i, j]) / divisor; sums (3, c) is zero before and after."""
    n, size = x.shape[0], rows_in_block(x)
    for start in range(0, n, size):
        add_rows(x, start, min(start + size, n), sums[0])
        flush_block(sums)
    finish(sums, divisor, out)


add_rows = device_function(_add_rows, exact=True)
add_squares = device_function(_add_squares, exact=True)
add_along = device_function(_add_along)
two_sum = device_function(_two_sum, literal=True)
with_errors = device_function(_with_errors, literal=True)
flush_block = device_function(_flush_block, literal=True)
finish = device_function(_finish, literal=True)
rows_in_block = device_function(_rows_in_block)
total_rows = device_function(_total_rows, literal=True)


def _sum_rows(x: Array, divisor: float, out: Array) -> None:
    """Set out[j] to (sum over i of x[i, j]) / divisor, for x (n, c).

    out has c elements in C order.
    """
    total_rows(x, divisor, zeros((3, x.shape[1]), np.float64), reshaped(out, (out.size,)))


def _sum_few_rows(x: Array, out: Array) -> None:
    """Set out[j] to the sum over i of x[i, j], for the rows of one block; see `is_one_block`.

    Numba compiles it in a fraction of the time of `_sum_rows`.
    """
    total = zeros((out.size,), np.float64)
    for i in range(x.shape[0]):
        for j in range(total.size):
            total[j] += x[i, j]
    for j in range(total.size):
        out[j] = total[j]


def _sum_between(x: Array, divisor: float, out: Array) -> None:
    """Set out[i, j] to (sum over k of x[i, k, j]) / divisor, for x (p, n, c).

    out has p * c elements in C order.
    """
    p, _, c = x.shape
    flat, sums = reshaped(out, (p, c)), zeros((3, c), np.float64)
    for i in range(p):
        total_rows(x[i], divisor, sums, flat[i])


def _sum_along(x: Array, divisor: float, out: Array) -> None:
    """Set out[i] to (sum over j of x[i, j]) / divisor, for x (m, k).

    out has m elements in C order.
    """
    m, k = x.shape
    flat = reshaped(out, (out.size,))
    size = 2 * rows_in_block(x)  # longer, since LLVM adds to several accumulators
    for i in range(m):
        total, errors = add_along(x, i, 0, min(size, k)), 0.0
        for start in range(size, k, size):
            total, error = two_sum(total, add_along(x, i, start, min(start + size, k)))
            errors += error
        flat[i] = with_errors(total, errors) / divisor


def _mean_square_rows(x: Array, out: Array) -> None:
    """Set out[j] to (sum over i of x[i, j]^2) / n, for x (n, c).

    out has c elements in C order.
    """
    n, size, sums = x.shape[0], rows_in_block(x), zeros((3, x.shape[1]), np.float64)
    for start in range(0, n, size):
        add_squares(x, start, min(start + size, n), sums[0])
        flush_block(sums)
    finish(sums, n, reshaped(out, (out.size,)))


sum_few_rows = kernel(_sum_few_rows, exact=True, allocates=True)
sum_rows = kernel(_sum_rows, literal=True, allocates=True)
sum_between = kernel(_sum_between, literal=True, allocates=True)
sum_along = kernel(_sum_along, literal=True)
mean_square_rows = kernel(_mean_square_rows, literal=True, allocates=True)
