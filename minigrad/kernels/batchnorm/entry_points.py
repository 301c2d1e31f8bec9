"""Choose the kernel of the fused BatchNorm for x of shape (n, c) or (n, c, s), in C order.

The caller reshapes x with more axes to (n, c, s), where s is the product of the spatial sizes. An
empty array stands for an absent one. For each channel, with m = n * s values:

    stats[0] + stats[1] = mean          in two parts: K, rounded to x's dtype, and the rest
    stats[2] = 1 / sqrt(var + eps)
    stats[3] = var                      biased
    stats[4] = mean                     rounded

`stats`, of shape (5, c) in float64, is a snapshot with all that backward needs besides x. Sums are
computed in float64, and over x - K, where K is near the mean. At first, K is the mean of the
channel's first m' values, so that (K - mean)^2 <= var * m / m' for any data, and the variance does
not suffer from cancellation. In a channel of equal values, x - K is exactly 0. NaN and inf affect
only their own channel. If |x - K| exceeds the dtype's largest number (as for values of both signs
above 1.7e38 in float32), y and dx are infinite.

The shape alone determines the order of every sum: rows are summed in blocks, whose sums are added
in order, and planes channel by channel. So the bits are the same for any number of threads. LLVM
vectorises the loops over channels (rows.py) and over space (planes.py). A small array (n, c) has
kernels without blocks and threads, which compile in a fraction of the time (small_rows.py).
"""

import functools

from ...types import Array, Shape
from ..threading.pool import pool_for
from . import small_rows
from .planes import plane_backward, plane_eval, plane_train
from .rows import row_backward, row_eval, row_train
from .small_rows import small_backward, small_eval, small_train

MEAN, VAR = 4, 3  # rows of stats
# By kind of array: the kernels for training, for evaluation, and for backward.
KERNELS = {
    "plane": (plane_train, plane_eval, plane_backward),
    "row": (row_train, row_eval, row_backward),
    "small": (small_train, small_eval, small_backward),
}


@functools.lru_cache(maxsize=1024)
def kind(shape: Shape) -> str:
    """Return the kind of an array of shape (n, c) or (n, c, s), a key of KERNELS."""
    if len(shape) == 3:
        return "plane"
    return "small" if small_rows.is_small(*shape) else "row"


def forward_train(
    x: Array, gamma: Array, beta: Array, eps: float, relu: bool, y: Array, stats: Array
) -> None:
    """Compute y = gamma * (x - mean) / sqrt(var + eps) + beta, or max(y, 0) if relu, and stats."""
    if not x.size:
        stats.fill(0.0)
    else:
        train, _, _ = KERNELS[kind(x.shape)]
        train(x, gamma, beta, eps, relu, y, stats, pool_for(x.size))


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
    """Compute y and stats like forward_train, but with running_mean and running_var."""
    _, evaluate, _ = KERNELS[kind(x.shape)]
    evaluate(x, gamma, beta, running_mean, running_var, eps, relu, y, stats, pool_for(x.size))


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
    """Compute those of dx, dgamma and dbeta that are not empty.

    dbeta = sum of g, dgamma = sum of g * x_hat, and in training
    dx = gamma * inv_std * (g - mean(g) - x_hat * mean(g * x_hat)). In evaluation, mean and var are
    constants, so dx = gamma * inv_std * g.
    y: the output of a forward pass with relu, else empty; g counts as 0 where y <= 0.
    """
    if not x.size:
        dgamma.fill(0)
        dbeta.fill(0)
    else:
        _, _, differentiate = KERNELS[kind(x.shape)]
        differentiate(g, x, y, gamma, stats, training, dx, dgamma, dbeta, pool_for(x.size))
