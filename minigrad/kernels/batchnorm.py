"""BatchNorm in closed form, forward and backward, on x of shape (n, c) or (n, c, s), in C order.

The caller views x of more axes as (n, c, s), where s is the product of the spatial sizes. An empty
array stands for one that is absent. For each channel, with m = n * s values:

    stats[0] + stats[1] = mean          in two parts: K, a number of x's dtype, and the rest
    stats[2] = 1 / sqrt(var + eps)
    stats[3] = var                      biased
    stats[4] = mean                     rounded

`stats`, (5, c) in float64, is all that backward needs besides x, and a snapshot. Sums are in
float64, of x - K with K near the mean: it is the mean of the channel's first m' values, so that
(K - mean)^2 <= var * m / m' whatever the data, and nothing cancels. In a channel of equal values
x - K is 0 exactly. NaN and inf stay in their channel.

The order of every sum is fixed by the shape alone: rows are summed in blocks, and the blocks'
sums added in order; planes are summed channel by channel. Hence the same bits in any number of
threads. Loops over channels (rows) and over space (planes) are what LLVM makes vector code of.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import kernel
from .threads import split

Array = NDArray[Any]
MEAN, VAR = 4, 3  # rows of stats

# A block of rows, which is what a thread takes at least, and what is summed before it joins the
# total, has this many rows, or if they are short this many values.
ROWS, VALUES = 256, 1 << 14
# Rows shorter than this are taken several at a time, or entering the inner loop costs most. Where
# x comes from L2 or L1, 256 was best. The sums, which read four such runs at once, took a third of
# the time with 1024 where x (65536, 64) came from memory: a run is then a page.
RUN, LONG_RUN, LARGE = 256, 1024, 1 << 18
SEGMENT = 4096  # of a plane, for the same reason as ROWS
# Values of channels that are done together: 1 MiB in float32. Channel by channel, where the next
# plane of a channel is far away, (16, 256, 14, 14) took 1.7 times as long, (32, 64, 28, 28) 1.3.
GROUP = 1 << 18
# Values from which steps in threads are faster than one call. With 2 threads, rows of 256: 2**18
# values took 1.8 times as long, 2**19 1.1 times, 2**20 0.75 to 1, 2**21 0.7, and (65536, 64) 0.65.
# Where one thread already takes all that memory gives, as planes do here, nothing is won: 1.0 to
# 1.08 times as long at 2**20 and above. Minima of 400 runs in turn, on two cores that others used.
THREADED = 1 << 20


# --- one channel's numbers, for both layouts ------------------------------------------------------


def _first(m: int) -> int:
    """How many of m values K is at first the mean of: m / m' <= 256 costs var 256 units at most."""
    return 1 + m // 256


def _finite(shift: Any) -> Any:
    """K, or 0 for it, so that the mean of a channel with an infinity is infinite, not NaN."""
    return shift if np.isfinite(shift) else type(shift)(0.0)


finite = kernel(_finite)


def _settle(
    m: int,
    sums: Array,
    eps: float,
    running_mean: Array,
    running_var: Array,
    factor: float,
    stats: Array,
    p: Array,
    start: int,
    stop: int,
) -> None:
    """stats, of K and sums of x - K and (x - K)^2, for channels from start to stop; and with them

    running <- (1 - factor) * running + factor * batch, var times m / (m - 1). From here on K is
    the mean, rounded to the dtype of x, which is that of p.
    """
    for j in range(start, stop):
        rest = sums[0, j] / m
        var = (sums[1, j] - sums[0, j] * rest) / m  # not below 0, by the bound at `first`
        stats[4, j] = stats[0, j] + rest
        shift = np.float64(p.dtype.type(stats[4, j]))
        stats[1, j] = (stats[0, j] - shift) + rest
        stats[0, j] = shift
        stats[2, j] = 1.0 / np.sqrt(var + eps)
        stats[3, j] = var
        if running_mean.size:
            mean, unbiased = stats[4, j], var * (m / max(m - 1, 1))
            running_mean[j] = (1.0 - factor) * running_mean[j] + factor * mean
            running_var[j] = (1.0 - factor) * running_var[j] + factor * unbiased


def _recall(x: Array, running_mean: Array, running_var: Array, eps: float, stats: Array) -> None:
    """stats, of running statistics; of x only the dtype counts."""
    for j in range(running_mean.size):
        stats[0, j] = x.dtype.type(running_mean[j])
        stats[1, j] = running_mean[j] - stats[0, j]
        stats[2, j] = 1.0 / np.sqrt(running_var[j] + eps)
        stats[3, j] = running_var[j]


def _affine(gamma: Array, beta: Array, stats: Array, p: Array, start: int, stop: int) -> None:
    """p = K, scale, offset of y = (x - K) * scale + offset, for channels from start to stop."""
    for j in range(start, stop):
        scale = stats[2, j] * (gamma[j] if gamma.size else 1.0)
        p[0, j] = stats[0, j]
        p[1, j] = scale
        p[2, j] = (beta[j] if beta.size else 0.0) - stats[1, j] * scale


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
    """dgamma = sum of g * x_hat, dbeta = sum of g, of sums of g and g * (x - K) * inv_std; and p of

    dx = g * p2 + p3 - (x - p0) * p1 * p4, in evaluation dx = g * p2, channels start to stop.
    """
    for j in range(start, stop):
        rest, inv_std = stats[1, j] * stats[2, j], stats[2, j]
        dot = sums[1, j] - rest * sums[0, j]
        scale = inv_std * (gamma[j] if gamma.size else 1.0)
        if dgamma.size:
            dgamma[j] = dot
        if dbeta.size:
            dbeta[j] = sums[0, j]
        p[2, j] = scale
        p[3, j] = scale * (rest * (dot / m) - sums[0, j] / m)
        p[4, j] = scale * (dot / m)


def _centre(stats: Array, p: Array, start: int, stop: int) -> None:
    """p0 = K, p1 = inv_std, for channels from start to stop."""
    for j in range(start, stop):
        p[0, j] = stats[0, j]
        p[1, j] = stats[2, j]


first = kernel(_first)
settle = kernel(_settle, exact=True)
recall = kernel(_recall, exact=True)
affine = kernel(_affine, exact=True)
gradients = kernel(_gradients, exact=True)
centre = kernel(_centre)


# --- runs of consecutive values, the inner loops --------------------------------------------------


def _minus(a: Any, b: float) -> Any:
    """a - b in float64; compiled on its own, where no reordering may take it apart."""
    return np.float64(a) - b


minus = kernel(_minus, exact=True)


def _run_sums(x: Array, shift: float) -> tuple[float, float]:
    """Sum of x - K, sum of (x - K)^2."""
    s1 = s2 = 0.0
    for k in range(x.size):
        d = minus(x[k], shift)
        s1 += d
        s2 += d * d
    return s1, s2


def _run_dots(g: Array, x: Array, y: Array, gated: bool, shift: float) -> tuple[float, float]:
    """Sum of g, sum of g * (x - K), where g counts as 0 where y <= 0 if gated."""
    s1 = s2 = 0.0
    zero = g.dtype.type(0)
    for k in range(x.size):
        h = g[k]
        if gated:
            h = zero if y[k] <= zero else h
        s1 += np.float64(h)
        s2 += h * minus(x[k], shift)
    return s1, s2


# The only sums that may be reordered, into as many as a vector register holds.
run_sums = kernel(_run_sums)
run_dots = kernel(_run_dots)


# --- (n, c) ---------------------------------------------------------------------------------------


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


def _width(c: int, run: int) -> int:
    """Columns that are done in one go: c, or those of several rows."""
    return c * max(1, run // max(c, 1))


def _sums_width(n: int, c: int) -> int:
    """The same for sums."""
    return width(c, LONG_RUN if n * c >= LARGE else RUN)


def _block(c: int) -> int:
    """Rows in a block."""
    return max(ROWS, VALUES // max(c, 1))


def _blocks(n: int, c: int) -> int:
    """Blocks in n rows; at least one, so that there is a sum of none."""
    return max(1, (n + block(c) - 1) // block(c))


width = kernel(_width)
sums_width = kernel(_sums_width)
block = kernel(_block)
blocks = kernel(_blocks)


def _row_sums(x: Array, stats: Array, sums: Array, start: int, stop: int) -> None:
    """sums[b] = sum of x - K, sum of (x - K)^2 in each block of rows b, from start to stop."""
    n, c = x.shape
    xs, w, rows = x.reshape(x.size), sums_width(n, c), block(c)
    shift, t1, t2 = np.empty(w), np.empty(w), np.empty(w)
    for j in range(w):
        shift[j] = stats[0, j % c]
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


fold = kernel(_fold, exact=True)


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
    running_mean: Array,
    running_var: Array,
    factor: float,
    eps: float,
    stats: Array,
    p: Array,
) -> None:
    """What comes between the two passes over x: stats, running statistics, p."""
    n, c = x.shape
    row_total(sums)
    settle(n, sums[0], eps, running_mean, running_var, factor, stats, p, 0, c)
    affine(gamma, beta, stats, p, 0, c)
    repeat(p, c)


def _row_centre(stats: Array, p: Array) -> None:
    """p0 = K, p1 = inv_std."""
    c = stats.shape[1]
    centre(stats, p, 0, c)
    repeat(p, c)


def _row_gradients(
    x: Array, sums: Array, gamma: Array, stats: Array, dgamma: Array, dbeta: Array, p: Array
) -> None:
    """What comes between the two passes over g: dgamma, dbeta, p."""
    n, c = x.shape
    row_total(sums)
    centre(stats, p, 0, c)
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
    xs, ys, w, rows = x.reshape(x.size), y.reshape(x.size), p.shape[1], block(c)
    low = x.dtype.type(0.0 if relu else np.nan)  # nothing is <= NaN
    end = min(stop * rows, n) * c
    for i in range(start * rows * c, end, w):
        a, b = xs[i : min(i + w, end)], ys[i : min(i + w, end)]
        for j in range(b.size):
            v = (a[j] - p[0, j]) * p[1, j] + p[2, j]
            b[j] = low if v <= low else v


def _row_dots(g: Array, x: Array, y: Array, p: Array, sums: Array, start: int, stop: int) -> None:
    """sums[b] = sum of g, sum of g * (x - p0) * p1 in each block of rows b; g gated by y.

    Four terms are added in the dtype of x, and such fours in float64.
    """
    n, c = x.shape
    xs, gs, w, rows = x.reshape(x.size), g.reshape(x.size), p.shape[1], block(c)
    gated, zero = y.size > 0, x.dtype.type(0)
    ys = y.reshape(x.size) if gated else gs
    t1, t2 = np.empty(w), np.empty(w)
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
                shift, inv_std = p[0, j], p[1, j]
                a0, a1 = h0 * ((x0[j] - shift) * inv_std), h1 * ((x1[j] - shift) * inv_std)
                a2, a3 = h2 * ((x2[j] - shift) * inv_std), h3 * ((x3[j] - shift) * inv_std)
                t1[j] += np.float64((h0 + h1) + (h2 + h3))
                t2[j] += np.float64((a0 + a1) + (a2 + a3))
            i += 4 * w
        while i < end:
            e = min(i + w, end)
            g0, x0, y0 = gs[i:e], xs[i:e], ys[i:e]
            for j in range(x0.size):
                h0 = g0[j]
                if gated:
                    h0 = zero if y0[j] <= zero else h0
                t1[j] += h0
                t2[j] += h0 * ((x0[j] - p[0, j]) * p[1, j])
            i += w
        fold(t1, t2, sums[k])


def _row_dx(
    g: Array, x: Array, y: Array, p: Array, training: bool, dx: Array, start: int, stop: int
) -> None:
    """dx of the formula at `gradients`, g gated by y."""
    n, c = x.shape
    xs, gs, ds, w = x.reshape(x.size), g.reshape(x.size), dx.reshape(x.size), p.shape[1]
    gated, zero, rows = y.size > 0, x.dtype.type(0), block(c)
    ys = y.reshape(x.size) if gated else gs
    end = min(stop * rows, n) * c
    for i in range(start * rows * c, end, w):
        e = min(i + w, end)
        g0, x0, y0, d0 = gs[i:e], xs[i:e], ys[i:e], ds[i:e]
        for j in range(d0.size):
            h = g0[j]
            if gated:
                h = zero if y0[j] <= zero else h
            v = h * p[2, j]
            if training:
                v = v + p[3, j] - (x0[j] - p[0, j]) * p[1, j] * p[4, j]
            d0[j] = v


row_shift = kernel(_row_shift, exact=True)
row_sums = kernel(_row_sums, exact=True)
row_total = kernel(_row_total, exact=True)
repeat = kernel(_repeat)
row_settle = kernel(_row_settle, exact=True)
row_centre = kernel(_row_centre)
row_gradients = kernel(_row_gradients, exact=True)
prepare = kernel(_prepare, exact=True)
row_scale = kernel(_row_scale, exact=True)
row_dots = kernel(_row_dots, exact=True)
row_dx = kernel(_row_dx, exact=True)


# --- (n, c, s) ------------------------------------------------------------------------------------


def _plane_scale(x: Array, p: Array, relu: bool, y: Array, start: int, stop: int) -> None:
    """y = (x - K) * scale + offset, or 0 where that is below and relu is asked for."""
    low = x.dtype.type(0.0 if relu else np.nan)
    for i in range(x.shape[0]):
        for j in range(start, stop):
            xs, ys = x[i, j], y[i, j]
            shift, scale, offset = p[0, j], p[1, j], p[2, j]
            for k in range(ys.size):
                v = (xs[k] - shift) * scale + offset
                ys[k] = low if v <= low else v


def _plane_sums(x: Array, stats: Array, sums: Array, start: int, stop: int) -> None:
    """stats[0] = K; sums = sum of x - K, sum of (x - K)^2; channels from start to stop."""
    n, _, s = x.shape
    m = first(n * s)
    for j in range(start, stop):
        origin, total, i, count = np.float64(x[0, j, 0]), 0.0, 0, 0
        while count < m:
            run = x[i, j, : m - count]
            total += run_sums(run, origin)[0]
            count += run.size
            i += 1
        stats[0, j] = finite(x.dtype.type(origin + total / m))
    sums[:, start:stop] = 0.0
    for i in range(n):
        for j in range(start, stop):
            for k in range(0, s, SEGMENT):
                s1, s2 = run_sums(x[i, j, k : k + SEGMENT], stats[0, j])
                sums[0, j] += s1
                sums[1, j] += s2


def _plane_dots(
    g: Array, x: Array, y: Array, stats: Array, sums: Array, start: int, stop: int
) -> None:
    """sums = sum of g, sum of g * (x - K) * inv_std, g gated by y; channels from start to stop."""
    n, _, s = x.shape
    gated = y.size > 0
    ys = y if gated else g
    sums[:, start:stop] = 0.0
    for i in range(n):
        for j in range(start, stop):
            for k in range(0, s, SEGMENT):
                e = min(k + SEGMENT, s)
                s1, s2 = run_dots(g[i, j, k:e], x[i, j, k:e], ys[i, j, k:e], gated, stats[0, j])
                sums[0, j] += s1
                sums[1, j] += s2 * stats[2, j]


def _plane_dx(
    g: Array, x: Array, y: Array, p: Array, training: bool, dx: Array, start: int, stop: int
) -> None:
    """dx of the formula at `gradients`, g gated by y; channels from start to stop."""
    gated, zero = y.size > 0, x.dtype.type(0)
    y = y if gated else g
    for i in range(x.shape[0]):
        for j in range(start, stop):
            gs, xs, ys, out = g[i, j], x[i, j], y[i, j], dx[i, j]
            p0, p1, p2, p3, p4 = p[0, j], p[1, j], p[2, j], p[3, j], p[4, j]
            for k in range(out.size):
                h = gs[k]
                if gated:
                    h = zero if ys[k] <= zero else h
                v = h * p2
                if training:
                    v = v + p3 - (xs[k] - p0) * p1 * p4
                out[k] = v


plane_sums = kernel(_plane_sums, exact=True)
plane_scale = kernel(_plane_scale, exact=True)
plane_dots = kernel(_plane_dots, exact=True)
plane_dx = kernel(_plane_dx, exact=True)


def _group(x: Array) -> int:
    """How many channels are done together."""
    m: int = x.shape[0] * x.shape[2]
    return max(1, GROUP // m)


group = kernel(_group)


def _plane_train(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    factor: float,
    eps: float,
    relu: bool,
    y: Array,
    stats: Array,
    start: int,
    stop: int,
) -> None:
    """forward_train for channels from start to stop."""
    n, c, s = x.shape
    step, sums, p = group(x), np.empty((2, c)), np.empty((3, c), x.dtype)
    for a in range(start, stop, step):
        b = min(a + step, stop)
        plane_sums(x, stats, sums, a, b)
        settle(n * s, sums, eps, running_mean, running_var, factor, stats, p, a, b)
        affine(gamma, beta, stats, p, a, b)
        plane_scale(x, p, relu, y, a, b)


def _plane_backward(
    g: Array,
    x: Array,
    y: Array,
    gamma: Array,
    stats: Array,
    training: bool,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
    start: int,
    stop: int,
) -> None:
    """backward for channels from start to stop."""
    n, c, s = x.shape
    step, sums, p = group(x), np.zeros((2, c)), np.empty((5, c), x.dtype)
    for a in range(start, stop, step):
        b = min(a + step, stop)
        if training or dgamma.size or dbeta.size:
            plane_dots(g, x, y, stats, sums, a, b)
        centre(stats, p, a, b)
        gradients(n * s, sums, gamma, stats, dgamma, dbeta, p, a, b)
        if dx.size:
            plane_dx(g, x, y, p, training, dx, a, b)


plane_train = kernel(_plane_train, exact=True)
plane_backward = kernel(_plane_backward, exact=True)


# --- whole, in one call ---------------------------------------------------------------------------


def _row_train(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    factor: float,
    eps: float,
    relu: bool,
    y: Array,
    stats: Array,
) -> None:
    """forward_train in one call, where calls would cost more than threads save."""
    n, c = x.shape
    k = blocks(n, c)
    sums, p = np.empty((k, 2, c)), np.empty((3, width(c, RUN)), x.dtype)
    row_shift(x, stats)
    row_sums(x, stats, sums, 0, k)
    row_settle(x, sums, gamma, beta, running_mean, running_var, factor, eps, stats, p)
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
    k = blocks(n, c)
    sums, p = np.zeros((k, 2, c)), np.empty((5, width(c, RUN)), x.dtype)
    if training or dgamma.size or dbeta.size:
        q = np.empty((2, sums_width(n, c)), x.dtype)
        row_centre(stats, q)
        row_dots(g, x, y, q, sums, 0, k)
    row_gradients(x, sums, gamma, stats, dgamma, dbeta, p)
    if dx.size:
        row_dx(g, x, y, p, training, dx, 0, k)


row_train = kernel(_row_train, exact=True)
row_backward = kernel(_row_backward, exact=True)


# --- what callers use -----------------------------------------------------------------------------


def forward_train(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    factor: float,
    eps: float,
    relu: bool,
    y: Array,
    stats: Array,
) -> None:
    """y = gamma * (x - mean) / sqrt(var + eps) + beta, and of that max(., 0) if relu; stats.

    Running statistics, unless empty, move by `factor` towards the batch's. An empty batch leaves
    them alone.
    """
    if not x.size:
        stats.fill(0.0)
    elif x.ndim == 3:
        arguments = (x, gamma, beta, running_mean, running_var, factor, eps, relu, y, stats)
        if x.size < THREADED:
            plane_train(*arguments, 0, x.shape[1])
        else:
            split(plane_train, x.shape[1], *arguments)
    elif x.size < THREADED:
        row_train(x, gamma, beta, running_mean, running_var, factor, eps, relu, y, stats)
    else:
        n, c = x.shape
        k = _blocks(n, c)
        sums, p = np.empty((k, 2, c)), np.empty((3, _width(c, RUN)), x.dtype)
        row_shift(x, stats)
        split(row_sums, k, x, stats, sums)
        row_settle(x, sums, gamma, beta, running_mean, running_var, factor, eps, stats, p)
        split(row_scale, k, x, p, relu, y)


def forward_eval(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    eps: float,
    relu: bool,
    y: Array,
    stats: Array,
) -> None:
    """y = gamma * (x - running_mean) / sqrt(running_var + eps) + beta, relu as above; stats."""
    n, c = x.shape[:2]
    p = np.empty((3, _width(c, RUN)), x.dtype)
    prepare(x, gamma, beta, running_mean, running_var, eps, stats, p)
    if not x.size:
        return
    step, count = (plane_scale, c) if x.ndim == 3 else (row_scale, _blocks(n, c))
    if x.size < THREADED:
        step(x, p, relu, y, 0, count)
    else:
        split(step, count, x, p, relu, y)


def backward(
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
    """dbeta = sum of g, dgamma = sum of g * x_hat, each unless empty, and unless empty

    dx = gamma * inv_std * (g - mean(g) - x_hat * mean(g * x_hat)), or without `training`, where
    mean and var were constants, dx = gamma * inv_std * g. y: empty, or what relu gave: there g
    counts as 0 where y <= 0.
    """
    if not x.size:
        dgamma.fill(0)
        dbeta.fill(0)
    elif x.ndim == 3:
        arguments = (g, x, y, gamma, stats, training, dx, dgamma, dbeta)
        if x.size < THREADED:
            plane_backward(*arguments, 0, x.shape[1])
        else:
            split(plane_backward, x.shape[1], *arguments)
    elif x.size < THREADED:
        row_backward(g, x, y, gamma, stats, training, dx, dgamma, dbeta)
    else:
        n, c = x.shape
        k = _blocks(n, c)
        sums, p = np.zeros((k, 2, c)), np.empty((5, _width(c, RUN)), x.dtype)
        if training or dgamma.size or dbeta.size:
            q = np.empty((2, _sums_width(n, c)), x.dtype)
            row_centre(stats, q)
            split(row_dots, k, g, x, y, q, sums)
        row_gradients(x, sums, gamma, stats, dgamma, dbeta, p)
        if dx.size:
            split(row_dx, k, g, x, y, p, training, dx)
