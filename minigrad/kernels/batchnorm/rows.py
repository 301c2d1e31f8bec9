"""In BatchNorm of (n, c), channels are adjacent in memory, and the inner loops run over them.

The terms are explained in entry_points.py. An array is split into blocks of rows, which are the
parts of the parallel loops. A block is split into runs: slices of one row or of several whole rows.
The coefficients of the c channels, `p` or `shift`, are repeated to the length of a run. Forward and
backward each make two passes. The second pass takes the blocks in reverse order, since those that
the first pass read last may still be in the cache.
"""

import numpy as np

from ...types import Array, Number
from ..jit.decorators import device_function, kernel
from ..jit.new_arrays import empty, reshaped, zeros
from ..threading.parallel_for import Pool, parallel_for, threads
from .channel import affine, batch_stats, finite, gradients, running_stats, sample_size

# A block has this many rows or, if they are short, this many values. Each block has its own sums,
# which are then added to the total.
ROWS, VALUES = 32, 1 << 15
# A run of short rows has about this many values, so that the start of the inner loop costs little.
# Sums read four runs at once, so their runs are shorter.
RUN, SUMS_RUN = 512, 128
# An array has at least this many runs, since repeating the coefficients costs time, too.
RUNS = 16
# Rows of at least this length are scaled four at a time. Four runs of shorter rows would lie in the
# same pages of memory. dx does not do this, since it reads twice as many arrays.
LONG = 1536
# The space between rows of coefficients, which otherwise would compete for the same lines of the L1
# cache if c is a power of two.
GAP = 16

# --- blocks and runs ------------------------------------------------------------------------------


def _run_length(c: int, values: int) -> int:
    """Return the length of a run of about this many values: a multiple of c."""
    c = max(c, 1)
    return c * max(1, values // c)


def _block_rows(c: int) -> int:
    """Return the number of rows in a block."""
    return max(ROWS, VALUES // max(c, 1))


def _count_blocks(n: int, rows: int) -> int:
    """Return the number of blocks in n rows, at least one, so that no rows have a sum, too."""
    return max(1, (n + rows - 1) // rows)


def _repeat(p: Array, c: int, w: int) -> None:
    """Fill columns c to w - 1 with repetitions of columns 0 to c - 1.

    Each repetition is copied from the first c columns, which LLVM can vectorise.
    """
    for i in range(p.shape[0]):
        row = p[i]
        for start in range(c, w, max(c, 1)):
            target = row[start : start + c]
            for j in range(c):
                target[j] = row[j]


def _accumulators(pool: Pool, w: int) -> Array:
    """Return two rows of w accumulators for each thread."""
    space: Array = empty((threads(pool), 2, w), np.float64)
    return space


def _add_channels(t1: Array, t2: Array, sums: Array) -> None:
    """Set sums[0] and sums[1] to the sums of the accumulators t1 and t2 of each channel."""
    c = sums.shape[1]
    for j in range(c):
        sums[0, j] = t1[j]
        sums[1, j] = t2[j]
    for i in range(c, t1.size, c):
        for j in range(c):
            sums[0, j] += t1[i + j]
            sums[1, j] += t2[i + j]


def _row_total(sums: Array) -> Array:
    """Return the sum over all blocks, added in order."""
    total: Array = sums[0].copy()
    for b in range(1, sums.shape[0]):
        s = sums[b]
        for i in range(2):
            for j in range(s.shape[1]):
                total[i, j] += s[i, j]
    return total


run_length = device_function(_run_length)
block_rows, count_blocks = device_function(_block_rows), device_function(_count_blocks)
repeat = device_function(_repeat)
accumulators = device_function(_accumulators, allocates=True)
add_channels = device_function(_add_channels, exact=True)
row_total = device_function(_row_total, exact=True, allocates=True)


def _shift_run(stats: Array, like: Array) -> Array:
    """Return K of each channel, repeated to fill a run of sums, in the dtype of `like`."""
    c = stats.shape[1]
    w = run_length(c, SUMS_RUN)
    shift: Array = empty((1, w), like.dtype)
    for j in range(c):  # Numba compiles a loop much faster than the assignment of a slice
        shift[0, j] = stats[0, j]
    repeat(shift, c, w)
    return shift.reshape(w)


shift_run = device_function(_shift_run, allocates=True)

# --- forward --------------------------------------------------------------------------------------


def _row_shift(x: Array, stats: Array) -> None:
    """Set stats[0] to the initial K of each channel."""
    m = sample_size(x.shape[0])
    origin, total = x[0], zeros((x.shape[1],), np.float64)
    for i in range(m):
        a = x[i]
        for j in range(total.size):
            total[j] += np.float64(a[j]) - np.float64(origin[j])
    for j in range(total.size):
        stats[0, j] = finite(x.dtype.type(np.float64(origin[j]) + total[j] / m))


def _row_sums(
    b: int, thread: int, x: Array, shift: Array, size: int, spare: Array, sums: Array
) -> None:
    """Set sums[b] to the sums of x - K and (x - K)^2 over block b of the flat array x."""
    t1, t2, w = spare[thread, 0], spare[thread, 1], shift.size
    t1[:] = 0.0
    t2[:] = 0.0
    start, end = b * size, min((b + 1) * size, x.size)
    m = (end - start) // (4 * w) * w
    # One run from each quarter of the block: the accumulators are read and written less often.
    for i in range(start, start + m, w):
        x0, x1 = x[i : i + w], x[i + m : i + m + w]
        x2, x3 = x[i + 2 * m : i + 2 * m + w], x[i + 3 * m : i + 3 * m + w]
        for j in range(w):
            s = shift[j]
            d0, d1, d2, d3 = x0[j] - s, x1[j] - s, x2[j] - s, x3[j] - s
            t1[j] += (d0 + d1) + (d2 + d3)
            # Nested, so that each addition is fused with a multiplication.
            t2[j] = d0 * d0 + (d1 * d1 + (d2 * d2 + (d3 * d3 + t2[j])))
    for i in range(start + 4 * m, end, w):
        x0 = x[i : min(i + w, end)]
        for j in range(x0.size):
            d0 = x0[j] - shift[j]
            t1[j] += d0
            t2[j] += d0 * d0
    add_channels(t1, t2, sums[b])


def _row_scale(
    b: int, _thread: int, x: Array, p: Array, w: int, low: Number, size: int, last: int, y: Array
) -> None:
    """Set y to (x - p0) * p1 + p2, but at least low, for block last - b of the flat arrays.

    A low of NaN is no bound.
    """
    start = (last - b) * size
    end = min(start + size, x.size)
    m = (end - start) // (4 * w) * (4 * w) if w >= LONG else 0
    for i in range(start, start + m, 4 * w):
        x0, y0 = x[i : i + w], y[i : i + w]
        x1, y1 = x[i + w : i + 2 * w], y[i + w : i + 2 * w]
        x2, y2 = x[i + 2 * w : i + 3 * w], y[i + 2 * w : i + 3 * w]
        x3, y3 = x[i + 3 * w : i + 4 * w], y[i + 3 * w : i + 4 * w]
        for j in range(w):
            shift, scale, offset = p[0, j], p[1, j], p[2, j]
            v0, v1 = (x0[j] - shift) * scale + offset, (x1[j] - shift) * scale + offset
            v2, v3 = (x2[j] - shift) * scale + offset, (x3[j] - shift) * scale + offset
            y0[j] = low if v0 <= low else v0
            y1[j] = low if v1 <= low else v1
            y2[j] = low if v2 <= low else v2
            y3[j] = low if v3 <= low else v3
    for i in range(start + m, end, w):
        e = min(i + w, end)
        x0, y0 = x[i:e], y[i:e]
        for j in range(y0.size):
            v = (x0[j] - p[0, j]) * p[1, j] + p[2, j]
            y0[j] = low if v <= low else v


row_shift = device_function(_row_shift, exact=True, allocates=True)
row_sums = parallel_for(device_function(_row_sums, exact=True))
row_scale = parallel_for(device_function(_row_scale, exact=True))


def _row_apply(x: Array, p: Array, w: int, relu: bool, y: Array, pool: Pool) -> None:
    """Set y to (x - p0) * p1 + p2, or to max(0, this) with relu, in runs of length w."""
    n, c = x.shape
    rows = block_rows(c)
    k = count_blocks(n, rows)
    low = x.dtype.type(0.0 if relu else np.nan)  # no value is <= NaN
    repeat(p, c, w)
    arguments = reshaped(x, (x.size,)), p, w, low, rows * c, k - 1, reshaped(y, (y.size,))
    row_scale(pool, k, x.size, arguments)


row_apply = device_function(_row_apply, exact=True)


def _row_train(
    x: Array, gamma: Array, beta: Array, eps: float, relu: bool, y: Array, stats: Array, pool: Pool
) -> None:
    """Compute what forward_train in entry_points.py describes."""
    n, c = x.shape
    rows = block_rows(c)
    k = count_blocks(n, rows)
    sums = empty((k, 2, c), np.float64)
    row_shift(x, stats)
    shift = shift_run(stats, stats)
    spare = accumulators(pool, shift.size)
    row_sums(pool, k, x.size, (reshaped(x, (x.size,)), shift, rows * c, spare, sums))
    w = run_length(c, min(RUN, x.size // RUNS))
    p = empty((3, w + GAP), x.dtype)
    batch_stats(n, row_total(sums), eps, stats, p, 0, c)
    affine(gamma, beta, stats, p, 0, c)
    row_apply(x, p, w, relu, y, pool)


def _row_eval(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    eps: float,
    relu: bool,
    y: Array,
    stats: Array,
    pool: Pool,
) -> None:
    """Compute what forward_eval in entry_points.py describes."""
    c = x.shape[1]
    w = run_length(c, min(RUN, x.size // RUNS))
    p = empty((3, w + GAP), x.dtype)
    running_stats(x, running_mean, running_var, eps, stats)
    affine(gamma, beta, stats, p, 0, c)
    row_apply(x, p, w, relu, y, pool)


# --- backward -------------------------------------------------------------------------------------


def _row_dots(
    b: int,
    thread: int,
    g: Array,
    x: Array,
    y: Array,
    gated: bool,
    shift: Array,
    size: int,
    spare: Array,
    sums: Array,
) -> None:
    """Set sums[b] to the sums of g and g * (x - K) over block b of flat arrays.

    If gated, g counts as 0 where y <= 0.
    """
    t1, t2, w, zero = spare[thread, 0], spare[thread, 1], shift.size, x.dtype.type(0)
    t1[:] = 0.0
    t2[:] = 0.0
    start, end = b * size, min((b + 1) * size, x.size)
    m = (end - start) // (4 * w) * w
    for i in range(start, start + m, w):
        i1, i2, i3 = i + m, i + 2 * m, i + 3 * m
        g0, x0, y0 = g[i : i + w], x[i : i + w], y[i : i + w]
        g1, x1, y1 = g[i1 : i1 + w], x[i1 : i1 + w], y[i1 : i1 + w]
        g2, x2, y2 = g[i2 : i2 + w], x[i2 : i2 + w], y[i2 : i2 + w]
        g3, x3, y3 = g[i3 : i3 + w], x[i3 : i3 + w], y[i3 : i3 + w]
        for j in range(w):
            h0, h1, h2, h3 = g0[j], g1[j], g2[j], g3[j]
            if gated:
                h0 = zero if y0[j] <= zero else h0
                h1 = zero if y1[j] <= zero else h1
                h2 = zero if y2[j] <= zero else h2
                h3 = zero if y3[j] <= zero else h3
            s = shift[j]
            d0, d1 = np.float64(x0[j] - s), np.float64(x1[j] - s)
            d2, d3 = np.float64(x2[j] - s), np.float64(x3[j] - s)
            t1[j] += (np.float64(h0) + np.float64(h1)) + (np.float64(h2) + np.float64(h3))
            t2[j] = h0 * d0 + (h1 * d1 + (h2 * d2 + (h3 * d3 + t2[j])))
    for i in range(start + 4 * m, end, w):
        e = min(i + w, end)
        g0, x0, y0 = g[i:e], x[i:e], y[i:e]
        for j in range(x0.size):
            h0 = g0[j]
            if gated:
                h0 = zero if y0[j] <= zero else h0
            t1[j] += h0
            t2[j] += h0 * np.float64(x0[j] - shift[j])
    add_channels(t1, t2, sums[b])


def _row_dx(
    b: int,
    _thread: int,
    g: Array,
    x: Array,
    y: Array,
    gated: bool,
    p: Array,
    w: int,
    training: bool,
    size: int,
    last: int,
    dx: Array,
) -> None:
    """Compute dx by the formula in `_gradients`, for block last - b of flat arrays.

    If gated, g counts as 0 where y <= 0.
    """
    zero, start = x.dtype.type(0), (last - b) * size
    for i in range(start, min(start + size, x.size), w):
        e = min(i + w, start + size, x.size)
        g0, x0, y0, d0 = g[i:e], x[i:e], y[i:e], dx[i:e]
        for j in range(d0.size):
            h = g0[j]
            if gated:
                h = zero if y0[j] <= zero else h
            if training:
                h = (h - p[2, j]) - ((x0[j] - p[0, j]) * p[3, j] + p[4, j])
            d0[j] = h * p[1, j]


row_dots = parallel_for(device_function(_row_dots, exact=True))
row_dx = parallel_for(device_function(_row_dx, exact=True))


def _row_backward(
    g: Array,
    x: Array,
    y: Array,
    gamma: Array,
    stats: Array,
    training: bool,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
    pool: Pool,
) -> None:
    """Compute what backward in entry_points.py describes."""
    n, c = x.shape
    rows = block_rows(c)
    size, k = rows * c, count_blocks(n, rows)
    gated = y.size > 0
    gs, xs = reshaped(g, (x.size,)), reshaped(x, (x.size,))
    ys = reshaped(y, (x.size,)) if gated else gs
    sums = zeros((k, 2, c), np.float64)
    if training or dgamma.size or dbeta.size:
        shift = shift_run(stats, x)
        spare = accumulators(pool, shift.size)
        row_dots(pool, k, x.size, (gs, xs, ys, gated, shift, size, spare, sums))
    w = run_length(c, min(RUN, x.size // RUNS))
    p = empty((5, w + GAP), x.dtype)
    gradients(n, row_total(sums), gamma, stats, dgamma, dbeta, p, 0, c)
    if dx.size:
        repeat(p, c, w)
        ds = reshaped(dx, (x.size,))
        row_dx(pool, k, x.size, (gs, xs, ys, gated, p, w, training, size, k - 1, ds))


row_train = kernel(_row_train, exact=True, allocates=True)
row_eval = kernel(_row_eval, exact=True, allocates=True)
row_backward = kernel(_row_backward, exact=True, allocates=True)
