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
x - K is 0 exactly. NaN and inf stay in their channel. An |x - K| beyond the dtype's largest number
(values of both signs above 1.7e38 in float32) is infinite in y and dx.

The order of every sum is fixed by the shape alone: rows are summed in blocks, and the blocks'
sums added in order; planes are summed channel by channel. Hence the same bits in any number of
threads. Loops over channels (rows) and over space (planes) are what LLVM makes vector code of.
"""

from typing import Any

from numpy.typing import NDArray

from ..threading.pool import team_for
from .planes import plane_backward, plane_eval, plane_train
from .rows import row_eval, row_train
from .rows_backward import row_backward

Array = NDArray[Any]
MEAN, VAR = 4, 3  # rows of stats


def forward_train(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    relu: bool,
    y: Array,
    stats: Array,
) -> None:
    """y = gamma * (x - mean) / sqrt(var + eps) + beta, and of that max(., 0) if relu; stats."""
    if not x.size:
        stats.fill(0.0)
    elif x.ndim == 3:
        plane_train(x, gamma, beta, eps, relu, y, stats, team_for(x.size))
    else:
        row_train(x, gamma, beta, eps, relu, y, stats, team_for(x.size))


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
    constants = gamma, beta, running_mean, running_var, eps
    if x.ndim == 3:
        plane_eval(x, *constants, relu, y, stats, team_for(x.size))
    else:
        row_eval(x, *constants, relu, y, stats, team_for(x.size))


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
        plane_backward(g, x, y, gamma, stats, training, dx, dgamma, dbeta, team_for(x.size))
    else:
        row_backward(g, x, y, gamma, stats, training, dx, dgamma, dbeta, team_for(x.size))
