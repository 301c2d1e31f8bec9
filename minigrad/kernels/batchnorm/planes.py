"""BatchNorm of (n, c, s): each channel is n planes of s values, and inner loops run over those.

The terms are explained in minigrad.kernels.batchnorm, `team`, and what is called for each part, a
group of channels, in team.py beside it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..jit.decorators import kernel, part
from ..threading.parallel_for import Team, sharing
from .channel import affine, finite, first, gradients, recall, run_dots, run_sums, settle

Array = NDArray[Any]

SEGMENT = 4096  # of a plane, for the same reason as ROWS of batchnorm_rows
# Values of channels that are done together: 512 KiB in float32; twice as many took as long, and are
# fewer parts to share. Channel by channel, where the next plane of a channel is far away,
# (16, 256, 14, 14) took 1.7 times as long, (32, 64, 28, 28) 1.3.
GROUP = 1 << 17


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
    """sums = sum of g, sum of g * (x - K), g gated by y; channels from start to stop."""
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
                sums[1, j] += s2


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
                if training:
                    h = (h - p2) - ((xs[k] - p0) * p3 + p4)
                out[k] = h * p1


plane_sums = part(_plane_sums, exact=True)
plane_scale = part(_plane_scale, exact=True)
plane_dots = part(_plane_dots, exact=True)
plane_dx = part(_plane_dx, exact=True)


def _group(x: Array) -> int:
    """How many channels are done together, which is a part."""
    m: int = x.shape[0] * x.shape[2]
    return max(1, GROUP // max(m, 1))


def _groups(x: Array) -> int:
    """How many parts there are; at least one."""
    c: int = x.shape[1]
    return max(1, (c + part_group(x) - 1) // part_group(x))


part_group = part(_group)
groups = part(_groups)


def _train_group(
    part: int,
    _thread: int,
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    relu: bool,
    y: Array,
    stats: Array,
    sums: Array,
    p: Array,
) -> None:
    a, b = part * part_group(x), min((part + 1) * part_group(x), x.shape[1])
    plane_sums(x, stats, sums, a, b)
    settle(x.shape[0] * x.shape[2], sums, eps, stats, p, a, b)
    affine(gamma, beta, stats, p, a, b)
    plane_scale(x, p, relu, y, a, b)


def _eval_group(
    part: int,
    _thread: int,
    x: Array,
    gamma: Array,
    beta: Array,
    relu: bool,
    y: Array,
    stats: Array,
    p: Array,
) -> None:
    a, b = part * part_group(x), min((part + 1) * part_group(x), x.shape[1])
    affine(gamma, beta, stats, p, a, b)
    plane_scale(x, p, relu, y, a, b)


def _backward_group(
    part: int,
    _thread: int,
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
    p: Array,
) -> None:
    a, b = part * part_group(x), min((part + 1) * part_group(x), x.shape[1])
    if training or dgamma.size or dbeta.size:
        plane_dots(g, x, y, stats, sums, a, b)
    gradients(x.shape[0] * x.shape[2], sums, gamma, stats, dgamma, dbeta, p, a, b)
    if dx.size:
        plane_dx(g, x, y, p, training, dx, a, b)


train_group = sharing(part(_train_group, exact=True))
eval_group = sharing(part(_eval_group, exact=True))
backward_group = sharing(part(_backward_group, exact=True))


def _plane_train(
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
    sums, p = np.empty((2, x.shape[1])), np.empty((3, x.shape[1]), x.dtype)
    train_group(team, groups(x), x.size, (x, gamma, beta, eps, relu, y, stats, sums, p))


def _plane_eval(
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
    recall(x, running_mean, running_var, eps, stats)
    p = np.empty((3, x.shape[1]), x.dtype)
    eval_group(team, groups(x), x.size, (x, gamma, beta, relu, y, stats, p))


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
    team: Team,
) -> None:
    """backward."""
    sums, p = np.zeros((2, x.shape[1])), np.empty((5, x.shape[1]), x.dtype)
    arguments = g, x, y, gamma, stats, training, dx, dgamma, dbeta, sums, p
    backward_group(team, groups(x), x.size, arguments)


plane_train = kernel(_plane_train, exact=True, allocates=True)
plane_eval = kernel(_plane_eval, exact=True, allocates=True)
plane_backward = kernel(_plane_backward, exact=True, allocates=True)
