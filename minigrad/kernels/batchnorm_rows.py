"""BatchNorm of (n, c), forward: channels lie side by side, and inner loops run over them.

The terms are explained in minigrad.kernels.batchnorm, `turns` and `lead` in threads.py beside it.
A kernel that is not to be shared gets no turns, and makes its own.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batchnorm_channel import affine, finite, first, recall, settle
from .jit import kernel, part
from .threads import TURNS, fetch_add

Array = NDArray[Any]

# A block of rows, which is what a thread takes at a time, and what is summed before it joins the
# total, has this many rows, or if they are short this many values.
ROWS, VALUES = 128, 1 << 14
# Rows shorter than this are taken several at a time, or entering the inner loop costs most. Where
# x comes from L2 or L1, 256 was best. The sums, which read four such runs at once, took a third of
# the time with 1024 where x (65536, 64) came from memory: a run is then a page.
RUN, LONG_RUN, LARGE = 256, 1024, 1 << 18
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


def _sums_run(size: int) -> int:
    """RUN for sums of so many values."""
    return LONG_RUN if size >= LARGE else RUN


part_width = part(width)
part_block = part(block)
part_blocks = part(blocks)
sums_run = part(_sums_run)


def _row_sums(
    x: Array, shift: Array, t1: Array, t2: Array, start: int, end: int, sums: Array
) -> None:
    """sums = sum of x - K, sum of (x - K)^2, of flat x from start to end, in runs of t1's size."""
    w = t1.size
    t1[:] = 0.0
    t2[:] = 0.0
    i = start
    while i + 4 * w <= end:  # four at a time: a quarter of the traffic on the accumulators
        a, b = x[i : i + w], x[i + w : i + 2 * w]
        d, e = x[i + 2 * w : i + 3 * w], x[i + 3 * w : i + 4 * w]
        for j in range(w):
            s = shift[j]
            q, r, u, v = a[j] - s, b[j] - s, d[j] - s, e[j] - s
            t1[j] += (q + r) + (u + v)
            t2[j] += (q * q + r * r) + (u * u + v * v)
        i += 4 * w
    while i < end:
        a = x[i : min(i + w, end)]
        for j in range(a.size):
            q = a[j] - shift[j]
            t1[j] += q
            t2[j] += q * q
        i += w
    fold(t1, t2, sums)


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
    """Columns from c to w become those of c before."""
    for i in range(p.shape[0]):
        for j in range(c, w):
            p[i, j] = p[i, j - c]


def _row_scale(x: Array, p: Array, w: int, low: Any, start: int, end: int, y: Array) -> None:
    """y = (x - p0) * p1 + p2, or low where that is below, of flat x and y from start to end."""
    for i in range(start, end, w):
        a, b = x[i : min(i + w, end)], y[i : min(i + w, end)]
        for j in range(b.size):
            v = (a[j] - p[0, j]) * p[1, j] + p[2, j]
            b[j] = low if v <= low else v


row_shift = part(_row_shift, exact=True)
fold = part(_fold, exact=True)
row_sums = part(_row_sums, exact=True)
row_total = part(_row_total, exact=True)
repeat = part(_repeat)
row_scale = part(_row_scale, exact=True)


def _row_apply(
    x: Array, p: Array, w: int, relu: bool, y: Array, turns: Array, i: int, lead: bool
) -> None:
    """Scale all blocks, by turns i and i + 1."""
    n, c = x.shape
    rows = part_block(c)
    size, k = rows * c, part_blocks(n, rows)
    xs, ys = x.reshape(x.size), y.reshape(y.size)
    low = x.dtype.type(0.0 if relu else np.nan)  # nothing is <= NaN
    repeat(p, c, w)
    b = fetch_add(turns, i, 1)
    while b < k:
        row_scale(xs, p, w, low, b * size, min((b + 1) * size, x.size), ys)
        fetch_add(turns, i + 1, 1)
        b = fetch_add(turns, i, 1)
    while lead and fetch_add(turns, i + 1, 0) < k:
        pass


row_apply = part(_row_apply, exact=True)


def _row_train(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    relu: bool,
    y: Array,
    stats: Array,
    sums: Array,
    turns: Array,
    lead: bool,
) -> None:
    """forward_train. sums: (blocks, 2, c), shared."""
    n, c = x.shape
    rows = part_block(c)
    size, k = rows * c, part_blocks(n, rows)
    if not turns.size:
        turns, sums = np.zeros(TURNS, np.int64), np.empty((k, 2, c))
    own = stats if lead else np.empty_like(stats)
    xs, w = x.reshape(x.size), part_width(c, sums_run(x.size))
    shift, t1, t2 = np.empty(w), np.empty(w), np.empty(w)
    row_shift(x, own)
    for j in range(w):
        shift[j] = own[0, j] if j < c else shift[j - c]
    b = fetch_add(turns, 0, 1)
    while b < k:
        row_sums(xs, shift, t1, t2, b * size, min((b + 1) * size, x.size), sums[b])
        fetch_add(turns, 1, 1)
        b = fetch_add(turns, 0, 1)
    w = part_width(c, RUN)
    p = np.empty((3, w + GAP), x.dtype)
    while fetch_add(turns, 1, 0) < k:  # what another has begun
        pass
    settle(n, row_total(sums), eps, own, p, 0, c)
    affine(gamma, beta, own, p, 0, c)
    row_apply(x, p, w, relu, y, turns, 2, lead)


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
    turns: Array,
    lead: bool,
) -> None:
    """forward_eval."""
    c = x.shape[1]
    w = part_width(c, RUN)
    if not turns.size:
        turns = np.zeros(TURNS, np.int64)
    own, p = stats if lead else np.empty_like(stats), np.empty((3, w + GAP), x.dtype)
    recall(x, running_mean, running_var, eps, own)
    affine(gamma, beta, own, p, 0, c)
    row_apply(x, p, w, relu, y, turns, 0, lead)


row_train = kernel(_row_train, exact=True)
row_eval = kernel(_row_eval, exact=True)
