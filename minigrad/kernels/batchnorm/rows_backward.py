"""BatchNorm of (n, c), backward; see rows.py."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..jit.decorators import kernel, part
from ..threading.parallel_for import Team, sharing
from .channel import gradients
from .rows import (
    GAP,
    RUN,
    RUNS,
    SUMS_RUN,
    fold,
    part_block,
    part_blocks,
    part_width,
    repeat,
    row_total,
    spare,
)

Array = NDArray[Any]


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
    """sums[b] = sum of g, sum of g * (x - K), of block b of flat arrays; g gated by y."""
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
    fold(t1, t2, sums[b])


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
    """dx of the formula at `gradients`, of flat arrays; g gated by y; last: the last block."""
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


row_dots = sharing(part(_row_dots, exact=True))
row_dx = sharing(part(_row_dx, exact=True))


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
    team: Team,
) -> None:
    """backward."""
    n, c = x.shape
    rows = part_block(c)
    size, k = rows * c, part_blocks(n, rows)
    gated = y.size > 0
    gs, xs = g.reshape(x.size), x.reshape(x.size)
    ys = y.reshape(x.size) if gated else gs
    sums = np.zeros((k, 2, c))
    if training or dgamma.size or dbeta.size:
        w = part_width(c, SUMS_RUN)
        shift = np.empty((1, w), x.dtype)
        for j in range(c):  # a slice's errors take Numba 1.5 s to compile
            shift[0, j] = stats[0, j]
        repeat(shift, c, w)
        row_dots(team, k, x.size, (gs, xs, ys, gated, shift[0], size, spare(team, w), sums))
    w = part_width(c, min(RUN, x.size // RUNS))
    p = np.empty((5, w + GAP), x.dtype)
    gradients(n, row_total(sums), gamma, stats, dgamma, dbeta, p, 0, c)
    if dx.size:
        repeat(p, c, w)
        ds = dx.reshape(x.size)
        row_dx(team, k, x.size, (gs, xs, ys, gated, p, w, training, size, k - 1, ds))


row_backward = kernel(_row_backward, exact=True, allocates=True)
