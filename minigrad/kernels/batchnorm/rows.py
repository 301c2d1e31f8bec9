"""BatchNorm of (n, c), forward: channels lie side by side, and inner loops run over them.

The terms are explained in minigrad.kernels.batchnorm, `team`, `share` and what it calls for each
part in team.py beside it. Both passes go over blocks of rows, the second one backwards: what was
summed last may still be in a cache.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..jit.decorators import kernel, part
from ..threading.parallel_for import Team, sharing, threads
from .channel import affine, finite, first, recall, settle

Array = NDArray[Any]

# A block of rows, which is a part, and what is summed before it joins the total, has this many
# rows, or if they are short this many values.
ROWS, VALUES = 32, 1 << 15
# Rows shorter than this are taken several at a time, or entering the inner loop costs most: 512
# took 0.8 times as long as 256 where x comes from L2. Sums, which read four such runs at once, did
# not gain by it, and from memory took 1.4 times as long with 512 as with 128.
RUN, SUMS_RUN = 512, 128
# Runs that an array has at least: to fill one with coefficients takes time, too. In runs of 512
# values, 4 of them, both directions of (32, 64) took 6.7 us; in 16 of 128, 5.6.
RUNS = 16
# Rows at least so long are scaled four at a time: with one after the other (1024, 4096) took 2.2
# times as long, (4096, 1024) 0.9. Four runs of shorter rows come from the same pages of memory, and
# (65536, 64) took twice as long. dx, which reads twice as many arrays, gained nothing by it.
LONG = 1536
# Between rows of coefficients: with 1024 channels they were all in the same few lines of L1, and
# dx took 1.4 times as long.
GAP = 16


def _row_shift(x: Array, stats: Array) -> None:
    """stats[0] = K, one for each channel."""
    m = first(x.shape[0])
    origin, total = x[0], np.zeros(x.shape[1])
    for i in range(m):
        a = x[i]
        for j in range(total.size):
            total[j] += np.float64(a[j]) - np.float64(origin[j])
    for j in range(total.size):
        stats[0, j] = finite(x.dtype.type(np.float64(origin[j]) + total[j] / m))


# These call nothing, so that Python can, too, without a compiler: kernels call what follows them.


def width(c: int, run: int) -> int:
    """Columns that are done in one go: c, or those of several rows."""
    c = max(c, 1)
    return c * max(1, run // c)


def block(c: int) -> int:
    """Rows in a block."""
    return max(ROWS, VALUES // max(c, 1))


def blocks(n: int, rows: int) -> int:
    """Blocks of so many rows in n; at least one, so that there is a sum of none."""
    return max(1, (n + rows - 1) // rows)


part_width = part(width)
part_block = part(block)
part_blocks = part(blocks)


def _row_sums(
    b: int, thread: int, x: Array, shift: Array, size: int, spare: Array, sums: Array
) -> None:
    """sums[b] = sum of x - K, sum of (x - K)^2, of block b of flat x, in runs as long as shift."""
    t1, t2, w = spare[thread, 0], spare[thread, 1], shift.size
    t1[:] = 0.0
    t2[:] = 0.0
    start, end = b * size, min((b + 1) * size, x.size)
    m = (end - start) // (4 * w) * w
    # Four runs at once are a quarter of the traffic on the accumulators. Of one after the other,
    # in the same pages, memory gave (65536, 64) half as fast as of the block's four quarters.
    for i in range(start, start + m, w):
        x0, x1 = x[i : i + w], x[i + m : i + m + w]
        x2, x3 = x[i + 2 * m : i + 2 * m + w], x[i + 3 * m : i + 3 * m + w]
        for j in range(w):
            s = shift[j]
            d0, d1, d2, d3 = x0[j] - s, x1[j] - s, x2[j] - s, x3[j] - s
            t1[j] += (d0 + d1) + (d2 + d3)
            # One after the other, all are fused with a multiplication: in pairs it took 1.2 times
            # as long.
            t2[j] = d0 * d0 + (d1 * d1 + (d2 * d2 + (d3 * d3 + t2[j])))
    for i in range(start + 4 * m, end, w):
        x0 = x[i : min(i + w, end)]
        for j in range(x0.size):
            d0 = x0[j] - shift[j]
            t1[j] += d0
            t2[j] += d0 * d0
    fold(t1, t2, sums[b])


def _fold(t1: Array, t2: Array, sums: Array) -> None:
    """Add up the columns of each channel."""
    c = sums.shape[1]
    for j in range(c):
        sums[0, j] = t1[j]
        sums[1, j] = t2[j]
    for i in range(c, t1.size, c):
        for j in range(c):
            sums[0, j] += t1[i + j]
            sums[1, j] += t2[i + j]


def _row_total(sums: Array) -> Array:
    """The sum over all blocks, in order."""
    total: Array = sums[0].copy()
    for b in range(1, sums.shape[0]):
        s = sums[b]
        for i in range(2):
            for j in range(s.shape[1]):
                total[i, j] += s[i, j]
    return total


def _repeat(p: Array, c: int, w: int) -> None:
    """Columns from c to w become those of c before, all from the first c: where each is copied from
    the one before, which is no vector code, both directions of (32, 64) took 8.9 us, not 6.7."""
    for i in range(p.shape[0]):
        row = p[i]
        for start in range(c, w, max(c, 1)):
            target = row[start : start + c]
            for j in range(c):
                target[j] = row[j]


def _spare(team: Team, w: int) -> Array:
    """Two rows of accumulators for each thread."""
    return np.empty((threads(team), 2, w))


def _row_scale(
    b: int, _thread: int, x: Array, p: Array, w: int, low: Any, size: int, last: int, y: Array
) -> None:
    """y = (x - p0) * p1 + p2, or low where that is below, of flat x and y; last: the last block."""
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


row_shift = part(_row_shift, exact=True, allocates=True)
fold = part(_fold, exact=True)
row_sums = sharing(part(_row_sums, exact=True))
row_total = part(_row_total, exact=True, allocates=True)
repeat = part(_repeat)
spare = part(_spare, allocates=True)
row_scale = sharing(part(_row_scale, exact=True))


def _row_apply(x: Array, p: Array, w: int, relu: bool, y: Array, team: Team) -> None:
    """Scale all blocks."""
    n, c = x.shape
    rows = part_block(c)
    k = part_blocks(n, rows)
    low = x.dtype.type(0.0 if relu else np.nan)  # nothing is <= NaN
    repeat(p, c, w)
    flat = x.reshape(x.size), p, w, low, rows * c, k - 1, y.reshape(y.size)
    row_scale(team, k, x.size, flat)


row_apply = part(_row_apply, exact=True)


def _row_train(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    relu: bool,
    y: Array,
    stats: Array,
    team: Team,
) -> None:
    """forward_train."""
    n, c = x.shape
    rows = part_block(c)
    k = part_blocks(n, rows)
    w = part_width(c, SUMS_RUN)
    shift, sums = np.empty((1, w)), np.empty((k, 2, c))
    row_shift(x, stats)
    for j in range(c):  # a slice's errors take Numba 1.5 s to compile
        shift[0, j] = stats[0, j]
    repeat(shift, c, w)
    row_sums(team, k, x.size, (x.reshape(x.size), shift[0], rows * c, spare(team, w), sums))
    w = part_width(c, min(RUN, x.size // RUNS))
    p = np.empty((3, w + GAP), x.dtype)
    settle(n, row_total(sums), eps, stats, p, 0, c)
    affine(gamma, beta, stats, p, 0, c)
    row_apply(x, p, w, relu, y, team)


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
    team: Team,
) -> None:
    """forward_eval."""
    c = x.shape[1]
    w = part_width(c, min(RUN, x.size // RUNS))
    p = np.empty((3, w + GAP), x.dtype)
    recall(x, running_mean, running_var, eps, stats)
    affine(gamma, beta, stats, p, 0, c)
    row_apply(x, p, w, relu, y, team)


row_train = kernel(_row_train, exact=True, allocates=True)
row_eval = kernel(_row_eval, exact=True, allocates=True)
