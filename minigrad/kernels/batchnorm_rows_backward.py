"""BatchNorm of (n, c), backward; see minigrad.kernels.batchnorm_rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batchnorm_channel import gradients
from .batchnorm_rows import (
    GAP,
    RUN,
    fold,
    part_block,
    part_blocks,
    part_width,
    repeat,
    row_total,
    sums_run,
)
from .jit import kernel, part
from .threads import TURNS, fetch_add

Array = NDArray[Any]


def _row_dots(
    g: Array,
    x: Array,
    y: Array,
    gated: bool,
    shift: Array,
    t1: Array,
    t2: Array,
    start: int,
    end: int,
    sums: Array,
) -> None:
    """sums = sum of g, sum of g * (x - K), of flat arrays from start to end; g gated by y."""
    w, zero = t1.size, x.dtype.type(0)
    t1[:] = 0.0
    t2[:] = 0.0
    i = start
    while i + 4 * w <= end:
        i1, i2, i3 = i + w, i + 2 * w, i + 3 * w
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
            t2[j] += (h0 * d0 + h1 * d1) + (h2 * d2 + h3 * d3)
        i += 4 * w
    while i < end:
        e = min(i + w, end)
        g0, x0, y0 = g[i:e], x[i:e], y[i:e]
        for j in range(x0.size):
            h0 = g0[j]
            if gated:
                h0 = zero if y0[j] <= zero else h0
            t1[j] += h0
            t2[j] += h0 * np.float64(x0[j] - shift[j])
        i += w
    fold(t1, t2, sums)


def _row_dx(
    g: Array,
    x: Array,
    y: Array,
    gated: bool,
    p: Array,
    w: int,
    training: bool,
    start: int,
    end: int,
    dx: Array,
) -> None:
    """dx of the formula at `gradients`, of flat arrays from start to end; g gated by y."""
    zero = x.dtype.type(0)
    for i in range(start, end, w):
        e = min(i + w, end)
        g0, x0, y0, d0 = g[i:e], x[i:e], y[i:e], dx[i:e]
        for j in range(d0.size):
            h = g0[j]
            if gated:
                h = zero if y0[j] <= zero else h
            if training:
                h = (h - p[2, j]) - ((x0[j] - p[0, j]) * p[3, j] + p[4, j])
            d0[j] = h * p[1, j]


row_dots = part(_row_dots, exact=True)
row_dx = part(_row_dx, exact=True)


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
    sums: Array,
    turns: Array,
    lead: bool,
) -> None:
    """backward. sums: (blocks, 2, c), shared."""
    n, c = x.shape
    rows = part_block(c)
    size, k = rows * c, part_blocks(n, rows)
    if not turns.size:
        turns, sums = np.zeros(TURNS, np.int64), np.zeros((k, 2, c))
    if not lead:  # of whose results only dx counts
        dgamma, dbeta = np.empty_like(dgamma), np.empty_like(dbeta)
    gated = y.size > 0
    gs, xs = g.reshape(x.size), x.reshape(x.size)
    ys = y.reshape(x.size) if gated else gs
    if training or dgamma.size or dbeta.size:
        w = part_width(c, sums_run(x.size))
        shift, t1, t2 = np.empty(w, x.dtype), np.empty(w), np.empty(w)
        for j in range(w):
            shift[j] = stats[0, j] if j < c else shift[j - c]
        b = fetch_add(turns, 0, 1)
        while b < k:
            end = min((b + 1) * size, x.size)
            row_dots(gs, xs, ys, gated, shift, t1, t2, b * size, end, sums[b])
            fetch_add(turns, 1, 1)
            b = fetch_add(turns, 0, 1)
    w = part_width(c, RUN)
    p = np.empty((5, w + GAP), x.dtype)
    if training or dgamma.size or dbeta.size:
        while fetch_add(turns, 1, 0) < k:  # what another has begun
            pass
    gradients(n, row_total(sums), gamma, stats, dgamma, dbeta, p, 0, c)
    if dx.size:
        ds = dx.reshape(x.size)
        repeat(p, c, w)
        b = fetch_add(turns, 2, 1)
        while b < k:
            end = min((b + 1) * size, x.size)
            row_dx(gs, xs, ys, gated, p, w, training, b * size, end, ds)
            fetch_add(turns, 3, 1)
            b = fetch_add(turns, 2, 1)
        while lead and fetch_add(turns, 3, 0) < k:
            pass


row_backward = kernel(_row_backward, exact=True)
