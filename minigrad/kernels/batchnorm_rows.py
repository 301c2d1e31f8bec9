"""BatchNorm of (n, c): channels lie side by side, and inner loops run over them.

The terms are explained in minigrad.kernels.batchnorm.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batchnorm_channel import affine, finite, first, gradients, recall, settle
from .jit import kernel, part

Array = NDArray[Any]

# A block of rows, which is what a thread takes at least, and what is summed before it joins the
# total, has this many rows, or if they are short this many values.
ROWS, VALUES = 256, 1 << 14
# Rows shorter than this are taken several at a time, or entering the inner loop costs most. Where
# x comes from L2 or L1, 256 was best. The sums, which read four such runs at once, took a third of
# the time with 1024 where x (65536, 64) came from memory: a run is then a page.
RUN, LONG_RUN, LARGE = 256, 1024, 1 << 18


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
    return c * max(1, run // max(c, 1))


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


def _row_sums(x: Array, stats: Array, sums: Array, start: int, stop: int) -> None:
    """sums[b] = sum of x - K, sum of (x - K)^2 in each block of rows b, from start to stop."""
    n, c = x.shape
    xs, w, rows = x.reshape(x.size), part_width(c, sums_run(x.size)), part_block(c)
    shift, t1, t2 = np.empty(w), np.empty(w), np.empty(w)
    for j in range(w):
        shift[j] = stats[0, j] if j < c else shift[j - c]
    for k in range(start, stop):
        t1[:] = 0.0
        t2[:] = 0.0
        i, end = k * rows * c, min((k + 1) * rows, n) * c
        while i + 4 * w <= end:  # four at a time: a quarter of the traffic on the accumulators
            a, b = xs[i : i + w], xs[i + w : i + 2 * w]
            d, e = xs[i + 2 * w : i + 3 * w], xs[i + 3 * w : i + 4 * w]
            for j in range(w):
                s = shift[j]
                q, r, u, v = a[j] - s, b[j] - s, d[j] - s, e[j] - s
                t1[j] += (q + r) + (u + v)
                t2[j] += (q * q + r * r) + (u * u + v * v)
            i += 4 * w
        while i < end:
            a = xs[i : min(i + w, end)]
            for j in range(a.size):
                q = a[j] - shift[j]
                t1[j] += q
                t2[j] += q * q
            i += w
        fold(t1, t2, sums[k])


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


fold = part(_fold, exact=True)


def _row_total(sums: Array) -> None:
    """sums[0] = the sum over all blocks, in order."""
    for b in range(1, sums.shape[0]):
        s = sums[b]
        for i in range(2):
            for j in range(s.shape[1]):
                sums[0, i, j] += s[i, j]


def _row_settle(
    x: Array,
    sums: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    stats: Array,
    p: Array,
) -> None:
    """What comes between the sums and row_scale: stats, p."""
    n, c = x.shape
    row_total(sums)
    settle(n, sums[0], eps, stats, p, 0, c)
    affine(gamma, beta, stats, p, 0, c)
    repeat(p, c)


def _row_gradients(
    x: Array, sums: Array, gamma: Array, stats: Array, dgamma: Array, dbeta: Array, p: Array
) -> None:
    """What comes between row_dots and row_dx: dgamma, dbeta, p."""
    n, c = x.shape
    row_total(sums)
    gradients(n, sums[0], gamma, stats, dgamma, dbeta, p, 0, c)
    repeat(p, c)


def _repeat(p: Array, c: int) -> None:
    """Columns from c on become those of c before."""
    for i in range(p.shape[0]):
        for j in range(c, p.shape[1]):
            p[i, j] = p[i, j - c]


def _prepare(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    eps: float,
    stats: Array,
    p: Array,
) -> None:
    """What evaluation needs: stats, and p."""
    c = x.shape[1]
    recall(x, running_mean, running_var, eps, stats)
    affine(gamma, beta, stats, p, 0, c)
    repeat(p, c)


def _row_scale(x: Array, p: Array, relu: bool, y: Array, start: int, stop: int) -> None:
    """y = (x - p0) * p1 + p2, or 0 where that is below and relu is asked for."""
    n, c = x.shape
    xs, ys, w, rows = x.reshape(x.size), y.reshape(x.size), p.shape[1], part_block(c)
    low = x.dtype.type(0.0 if relu else np.nan)  # nothing is <= NaN
    end = min(stop * rows, n) * c
    for i in range(start * rows * c, end, w):
        a, b = xs[i : min(i + w, end)], ys[i : min(i + w, end)]
        for j in range(b.size):
            v = (a[j] - p[0, j]) * p[1, j] + p[2, j]
            b[j] = low if v <= low else v


def _row_dots(
    g: Array, x: Array, y: Array, stats: Array, sums: Array, start: int, stop: int
) -> None:
    """sums[b] = sum of g, sum of g * (x - K) in each block of rows b; g gated by y."""
    n, c = x.shape
    xs, gs, w, rows = (
        x.reshape(x.size),
        g.reshape(x.size),
        part_width(c, sums_run(x.size)),
        part_block(c),
    )
    gated, zero = y.size > 0, x.dtype.type(0)
    ys = y.reshape(x.size) if gated else gs
    shift, t1, t2 = np.empty(w, x.dtype), np.empty(w), np.empty(w)
    for j in range(w):
        shift[j] = stats[0, j] if j < c else shift[j - c]
    for k in range(start, stop):
        t1[:] = 0.0
        t2[:] = 0.0
        i, end = k * rows * c, min((k + 1) * rows, n) * c
        while i + 4 * w <= end:
            i1, i2, i3 = i + w, i + 2 * w, i + 3 * w
            g0, x0, y0 = gs[i : i + w], xs[i : i + w], ys[i : i + w]
            g1, x1, y1 = gs[i1 : i1 + w], xs[i1 : i1 + w], ys[i1 : i1 + w]
            g2, x2, y2 = gs[i2 : i2 + w], xs[i2 : i2 + w], ys[i2 : i2 + w]
            g3, x3, y3 = gs[i3 : i3 + w], xs[i3 : i3 + w], ys[i3 : i3 + w]
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
                t2[j] += (h0 * d0 + h1 * d1) + (h2 * d2 + h3 * d3)
            i += 4 * w
        while i < end:
            e = min(i + w, end)
            g0, x0, y0 = gs[i:e], xs[i:e], ys[i:e]
            for j in range(x0.size):
                h0 = g0[j]
                if gated:
                    h0 = zero if y0[j] <= zero else h0
                t1[j] += h0
                t2[j] += h0 * np.float64(x0[j] - shift[j])
            i += w
        fold(t1, t2, sums[k])


def _row_dx(
    g: Array, x: Array, y: Array, p: Array, training: bool, dx: Array, start: int, stop: int
) -> None:
    """dx of the formula at `gradients`, g gated by y."""
    n, c = x.shape
    xs, gs, ds, w = x.reshape(x.size), g.reshape(x.size), dx.reshape(x.size), p.shape[1]
    gated, zero, rows = y.size > 0, x.dtype.type(0), part_block(c)
    ys = y.reshape(x.size) if gated else gs
    end = min(stop * rows, n) * c
    for i in range(start * rows * c, end, w):
        e = min(i + w, end)
        g0, x0, y0, d0 = gs[i:e], xs[i:e], ys[i:e], ds[i:e]
        for j in range(d0.size):
            h = g0[j]
            if gated:
                h = zero if y0[j] <= zero else h
            if training:
                h = (h - p[2, j]) - ((x0[j] - p[0, j]) * p[3, j] + p[4, j])
            d0[j] = h * p[1, j]


row_shift = kernel(_row_shift, exact=True)
row_sums = kernel(_row_sums, exact=True)
row_total = part(_row_total, exact=True)
repeat = part(_repeat)
row_settle = kernel(_row_settle, exact=True)
row_gradients = kernel(_row_gradients, exact=True)
prepare = kernel(_prepare, exact=True)
row_scale = kernel(_row_scale, exact=True)
row_dots = kernel(_row_dots, exact=True)
row_dx = kernel(_row_dx, exact=True)


def _row_train(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    relu: bool,
    y: Array,
    stats: Array,
) -> None:
    """forward_train in one call, where calls would cost more than threads save."""
    n, c = x.shape
    k = part_blocks(n, part_block(c))
    sums, p = np.empty((k, 2, c)), np.empty((3, part_width(c, RUN)), x.dtype)
    row_shift(x, stats)
    row_sums(x, stats, sums, 0, k)
    row_settle(x, sums, gamma, beta, eps, stats, p)
    row_scale(x, p, relu, y, 0, k)


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
) -> None:
    """backward in one call."""
    n, c = x.shape
    k = part_blocks(n, part_block(c))
    sums, p = np.zeros((k, 2, c)), np.empty((5, part_width(c, RUN)), x.dtype)
    if training or dgamma.size or dbeta.size:
        row_dots(g, x, y, stats, sums, 0, k)
    row_gradients(x, sums, gamma, stats, dgamma, dbeta, p)
    if dx.size:
        row_dx(g, x, y, p, training, dx, 0, k)


row_train = kernel(_row_train, exact=True)
row_backward = kernel(_row_backward, exact=True)
