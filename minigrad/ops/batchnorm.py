"""BatchNorm is one primitive and its derivative another; each runs a closed-form Numba kernel.

    y       = gamma * x_hat + beta                 x_hat = (x - mean) * inv_std
    dbeta   = sum of g                             sums over batch and space, per channel
    dgamma  = sum of g * x_hat
    dx      = gamma * inv_std * (g - dbeta / n - x_hat * dgamma / n)

Given statistics (in evaluation) are constants, so there dx = gamma * inv_std * g. The same function
composed of small primitives is in functional/batchnorm.py.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..arrays import as_carray
from ..kernels.allocator import ABSENT, empty
from ..kernels.batchnorm import entry_points as kernels
from ..types import Array
from .elementwise import astype, gated, inv_std
from .indexing import getitem
from .primitive import Operand, Primitive, primitive
from .reductions import mean_over, mean_square, sum_over
from .shapes import reshape


def _forward(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array | None = None,
    var: Array | None = None,
    *,
    eps: float,
    relu: bool,
) -> tuple[Array, tuple[Array, Array | None]]:
    shape, dtype = x.shape, x.dtype
    y, stats = empty(shape, dtype), np.empty((5, shape[1]))
    out = y
    if len(shape) != 2 or not x.flags.carray:
        x, out = _planes(x), _planes(y)
    gamma = ABSENT[dtype, 1] if gamma is None else as_carray(gamma)
    beta = ABSENT[dtype, 1] if beta is None else as_carray(beta)
    if mean is None or var is None:
        kernels.forward_train(x, gamma, beta, eps, relu, out, stats)
    else:
        kernels.forward_eval(x, gamma, beta, as_carray(mean), as_carray(var), eps, relu, out, stats)
    return y, (stats, y if relu else None)


def _planes(a: Array) -> Array:
    """Return a in C order with shape (n, c, s), where s is the product of all spatial dimensions.

    If s is 1, the shape is (n, c), since loops over planes of one value are slow.
    """
    n, c, *space = a.shape
    s = math.prod(space)
    shape = (n, c) if s == 1 else (n, c, s)
    return as_carray(a).reshape(shape)


def _vjp(
    g: Operand,
    y: Operand,
    x: Operand,
    gamma: Operand,
    _beta: Operand,
    _mean: Operand = None,
    _var: Operand = None,
    *,
    wrt: Sequence[int],
    eps: float,
    relu: bool,
) -> tuple[Operand, ...]:
    stats, gate = y[1]
    wanted, batch = (0 in wrt, 1 in wrt, 2 in wrt), _mean is None
    # Only the formula reads given statistics; the kernel reads the copy in `stats`.
    given = () if batch else (_mean, _var)
    how = {"wanted": wanted, "batch": batch, "eps": eps}
    return *batch_norm_grad(g, x, gamma, gate, stats, *given, **how), None, None


def _grad_forward(
    g: Array,
    x: Array,
    gamma: Array | None,
    y: Array | None,
    stats: Array,
    _mean: Array | None = None,
    _var: Array | None = None,
    *,
    wanted: tuple[bool, bool, bool],
    batch: bool,
    eps: float,
) -> tuple[Array | None, ...]:
    dtype, shape = x.dtype, x.shape
    dx = empty(shape, dtype) if wanted[0] else None
    dgamma = np.empty(shape[1], dtype) if wanted[1] else None
    dbeta = np.empty(shape[1], dtype) if wanted[2] else None
    out = dx
    if len(shape) != 2 or not (g.flags.carray and x.flags.carray):
        g, x = _planes(g), _planes(x)
        y, out = [a if a is None else _planes(a) for a in (y, out)]
    kernels.backward(
        g,
        x,
        ABSENT[dtype, x.ndim] if y is None else y,
        ABSENT[dtype, 1] if gamma is None else as_carray(gamma),
        stats,
        batch,
        ABSENT[dtype, x.ndim] if out is None else out,
        ABSENT[dtype, 1] if dgamma is None else dgamma,
        ABSENT[dtype, 1] if dbeta is None else dbeta,
    )
    return dx, dgamma, dbeta


def _grad_vjp(
    u: Operand,
    _outputs: Operand,
    g: Operand,
    x: Operand,
    gamma: Operand,
    y: Operand,
    stats: Operand,
    _mean: Operand = None,
    _var: Operand = None,
    *,
    wrt: Sequence[int],
    wanted: tuple[bool, bool, bool],
    batch: bool,
    eps: float,
) -> tuple[Operand, ...]:
    """Compute the second derivative from primitives, so that it can be differentiated again.

    Let u = (ux, ugamma, ubeta) be the cotangents of (dx, dgamma, dbeta), and <a> the mean of a over
    batch and space. Let P(a) = a - <a> - x_hat * <a * x_hat>, which is its own transpose, or
    P(a) = a with given statistics. Then dx = gamma * inv_std * P(g), and the derivatives of
    sum(ux * dx) + sum(ugamma * dgamma) + sum(ubeta * dbeta) are

        wrt g      gamma * inv_std * P(ux) + ugamma * x_hat + ubeta
        wrt gamma  sum of ux * inv_std * P(g)
        wrt x      inv_std * P(h) - gamma * inv_std^2 * x_hat * <ux * P(g)>
                   h = ugamma * g - gamma * inv_std * (ux * <g * x_hat> + g * <ux * x_hat>)

    With given statistics, the derivative wrt x is inv_std * ugamma * g alone. An input that no
    cotangent reaches gets None.
    """
    axes = (0, *range(2, x.ndim))
    by_channel = (-1, *[1] * (x.ndim - 2))

    def mean(a: Operand) -> Operand:
        return mean_over(a, axis=axes, keepdims=True)

    def project(a: Operand) -> Operand:
        return a - mean(a) - x_hat * mean(a * x_hat) if batch else a

    def spread(p: Operand) -> Operand:
        return p if x.ndim == 2 else reshape(p, by_channel)

    def saved(row: int) -> Operand:  # kernels/batchnorm/entry_points.py explains the rows
        return spread(astype(getitem(stats, row), dtype=x.dtype))

    if batch:
        centred = x - saved(0)  # subtracting the saved mean first leaves little to round
        centred = centred - mean(centred)
        scale = inv_std(mean_square(centred, axis=axes, keepdims=True), eps=eps)
    else:
        centred = x - saved(0) - saved(1)
        scale = saved(2)
    x_hat = centred * scale
    gated_g = g if y is None else gated(g, y)
    ux, ugamma, ubeta = u
    factor = scale if gamma is None else spread(gamma) * scale
    wrt_g = wrt_x = wrt_gamma = h = None
    if ux is not None:
        projected = project(gated_g)
        wrt_g = factor * project(ux)
        wrt_gamma = sum_over(ux * (scale * projected), axis=axes, keepdims=False)
    if ux is not None and batch and 1 in wrt:
        h = -factor * (ux * mean(gated_g * x_hat) + gated_g * mean(ux * x_hat))
        wrt_x = -(factor * scale) * x_hat * mean(ux * projected)
    if ugamma is not None:
        wrt_g = _sum(wrt_g, spread(ugamma) * x_hat)
        h = _sum(h, spread(ugamma) * gated_g) if 1 in wrt else None
    if ubeta is not None:
        wrt_g = _sum(wrt_g, spread(ubeta))
    if y is not None:
        wrt_g = gated(wrt_g, y)
    if h is not None:
        wrt_x = _sum(wrt_x, scale * project(h))
    return wrt_g, wrt_x, wrt_gamma, None, None, None, None


def _sum(a: Operand, b: Operand) -> Operand:
    """Return a + b, or b if a is None."""
    return b if a is None else a + b


# --- formulas for explanations ------------------------------------------------------------------


def _by_channel(x: Operand) -> tuple[str, Callable[[str], str]]:
    """Return the arguments that reduce over all but channels, and a function that writes a
    per-channel parameter so that it broadcasts."""
    if x.ndim == 2:
        return "axis=0", str
    axes, shape = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
    return f"axis={axes}, keepdims=True", lambda p: f"reshape({p}, {shape})"


def _formula(
    x: Operand,
    gamma: Operand,
    beta: Operand,
    mean: Operand = None,
    var: Operand = None,
    *,
    eps: float,
    relu: bool,
) -> str:
    over, spread = _by_channel(x)
    y = "x_hat" if gamma is None else f"{spread('gamma')} * x_hat"
    y = y if beta is None else f"{y} + {spread('beta')}"
    y = f"relu({y})" if relu else y
    if mean is not None:
        return f"x_hat = (x - {spread('mean')}) / sqrt({spread('var')} + eps)\n{y}"
    return (
        f"mean = mean(x, {over})\nvar = var(x, {over})\nx_hat = (x - mean) / sqrt(var + eps)\n{y}"
    )


def _grad_formula(
    g: Operand,
    x: Operand,
    gamma: Operand,
    y: Operand,
    stats: Operand,
    mean: Operand = None,
    var: Operand = None,
    *,
    wanted: tuple[bool, bool, bool],
    batch: bool,
    eps: float,
) -> str:
    over, spread = _by_channel(x)
    gate = "g" if y is None else "where(y > 0, g, 0)"
    factor = "" if gamma is None else f"{spread('gamma')} * "
    sums = over.removesuffix(", keepdims=True")
    if not batch:
        scaled = f"g_hat / sqrt({spread('var')} + eps)"
        return f"""\
g_hat = {gate}
x_hat = (x - {spread("mean")}) / sqrt({spread("var")} + eps)
{factor}{scaled}, sum(g_hat * x_hat, {sums}), sum(g_hat, {sums})"""
    return f"""\
g_hat = {gate}
mean = mean(x, {over})
var = var(x, {over})
x_hat = (x - mean) / sqrt(var + eps)
mean_g = mean(g_hat, {over})
mean_gx = mean(g_hat * x_hat, {over})
(
    {factor}(g_hat - mean_g - x_hat * mean_gx) / sqrt(var + eps),
    sum(g_hat * x_hat, {sums}),
    sum(g_hat, {sums}),
)"""


batch_norm_grad: Primitive = primitive(
    "batch_norm_grad",
    _grad_forward,
    _grad_vjp,
    "the derivative of batch_norm: those that are wanted of dx, dgamma and dbeta; if relu was "
    "applied, y is its result, and g counts as 0 where y <= 0",
    outputs=3,
    formula=_grad_formula,
)
batch_norm = primitive(
    "batch_norm",
    _forward,
    _vjp,
    "gamma * (x - mean) / sqrt(var + eps) + beta for each channel, followed by relu if asked for; "
    "unless given, mean and var are the mean and biased variance of the batch; the statistics are "
    "residuals",
    residuals=("stats", "y"),
    formula=_formula,
)
