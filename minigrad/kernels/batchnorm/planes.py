"""In BatchNorm of (n, c, s), a channel has n planes of s values; the inner loops run over planes.

The terms are explained in entry_points.py. The parts of the parallel loops are groups of channels.
All passes over a group are made one after the other, while its values are in the cache.
"""

import numpy as np

from ...types import Array
from ..jit.decorators import device_function, kernel
from ..jit.new_arrays import empty, zeros
from ..threading.parallel_for import Pool, parallel_for
from .channel import (
    affine,
    batch_stats,
    finite,
    gradients,
    run_dots,
    run_sums,
    running_stats,
    sample_size,
)

# The number of values of a plane that are summed before they are added to the total.
SEGMENT = 4096
# The number of values in a group of channels: small enough for the cache, and large enough that the
# data of a group are close together in memory.
GROUP = 1 << 17


def _plane_scale(x: Array, p: Array, relu: bool, y: Array, start: int, stop: int) -> None:
    """Set y to (x - K) * scale + offset, or to max(0, this) with relu."""
    low = x.dtype.type(0.0 if relu else np.nan)
    for i in range(x.shape[0]):
        for j in range(start, stop):
            xs, ys = x[i, j], y[i, j]
            shift, scale, offset = p[0, j], p[1, j], p[2, j]
            for k in range(ys.size):
                v = (xs[k] - shift) * scale + offset
                ys[k] = low if v <= low else v


def _plane_sums(x: Array, stats: Array, sums: Array, start: int, stop: int) -> None:
    """Set stats[0] to K and sums to the sums of x - K and (x - K)^2.

    start, stop: the first channel, and the one after the last.
    """
    n, _, s = x.shape
    m = sample_size(n * s)
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
    """Set sums to the sums of g and g * (x - K), for channels start to stop - 1.

    If y is not empty, g counts as 0 where y <= 0.
    """
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
    """Compute dx by the formula in `_gradients`, for channels start to stop - 1.

    If y is not empty, g counts as 0 where y <= 0.
    """
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


plane_sums = device_function(_plane_sums, exact=True)
plane_scale = device_function(_plane_scale, exact=True)
plane_dots = device_function(_plane_dots, exact=True)
plane_dx = device_function(_plane_dx, exact=True)


def _group_size(x: Array) -> int:
    """Return the number of channels in a group."""
    m: int = x.shape[0] * x.shape[2]
    return max(1, GROUP // max(m, 1))


def _groups(x: Array) -> int:
    """Return the number of groups, which is at least one."""
    c: int = x.shape[1]
    return max(1, (c + group_size(x) - 1) // group_size(x))


def _channels(group: int, x: Array) -> tuple[int, int]:
    """Return the first channel of a group and the one after its last."""
    start = group * group_size(x)
    return start, min(start + group_size(x), x.shape[1])


group_size = device_function(_group_size)
groups, channels = device_function(_groups), device_function(_channels)


def _train_group(
    group: int,
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
    start, stop = channels(group, x)
    plane_sums(x, stats, sums, start, stop)
    batch_stats(x.shape[0] * x.shape[2], sums, eps, stats, p, start, stop)
    affine(gamma, beta, stats, p, start, stop)
    plane_scale(x, p, relu, y, start, stop)


def _eval_group(
    group: int,
    _thread: int,
    x: Array,
    gamma: Array,
    beta: Array,
    relu: bool,
    y: Array,
    stats: Array,
    p: Array,
) -> None:
    start, stop = channels(group, x)
    affine(gamma, beta, stats, p, start, stop)
    plane_scale(x, p, relu, y, start, stop)


def _backward_group(
    group: int,
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
    start, stop = channels(group, x)
    if training or dgamma.size or dbeta.size:
        plane_dots(g, x, y, stats, sums, start, stop)
    gradients(x.shape[0] * x.shape[2], sums, gamma, stats, dgamma, dbeta, p, start, stop)
    if dx.size:
        plane_dx(g, x, y, p, training, dx, start, stop)


train_group = parallel_for(device_function(_train_group, exact=True))
eval_group = parallel_for(device_function(_eval_group, exact=True))
backward_group = parallel_for(device_function(_backward_group, exact=True))


def _plane_train(
    x: Array, gamma: Array, beta: Array, eps: float, relu: bool, y: Array, stats: Array, pool: Pool
) -> None:
    """Compute what forward_train in entry_points.py describes."""
    sums, p = empty((2, x.shape[1]), np.float64), empty((3, x.shape[1]), x.dtype)
    train_group(pool, groups(x), x.size, (x, gamma, beta, eps, relu, y, stats, sums, p))


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
    pool: Pool,
) -> None:
    """Compute what forward_eval in entry_points.py describes."""
    running_stats(x, running_mean, running_var, eps, stats)
    p = empty((3, x.shape[1]), x.dtype)
    eval_group(pool, groups(x), x.size, (x, gamma, beta, relu, y, stats, p))


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
    pool: Pool,
) -> None:
    """Compute what backward in entry_points.py describes."""
    sums, p = zeros((2, x.shape[1]), np.float64), empty((5, x.shape[1]), x.dtype)
    arguments = g, x, y, gamma, stats, training, dx, dgamma, dbeta, sums, p
    backward_group(pool, groups(x), x.size, arguments)


plane_train = kernel(_plane_train, exact=True, allocates=True)
plane_eval = kernel(_plane_eval, exact=True, allocates=True)
plane_backward = kernel(_plane_backward, exact=True, allocates=True)
