"""Activations are elementwise primitives.

elementwise.py states what they return at kinks, infinity and NaN.
"""

import math

import numpy as np

from ..kernels import relu as kernels
from ..kernels.allocator import empty
from .elementwise import erf, exp, gated, greater, maximum, minimum, pointwise, where
from .primitive import Operand, Primitive, Scalar


def _relu(a: Operand) -> Operand:
    if not isinstance(a, np.ndarray) or a.dtype.kind != "f" or not a.flags.carray:
        return np.maximum(a, 0)
    out = empty(a.shape, a.dtype)
    kernels.relu(a, out)
    return out


relu = pointwise(
    "relu",
    _relu,
    (lambda g, y, _a: gated(g, y),),
    "max(a, 0); its derivative at 0 is 0",
    scalar=Scalar("{zero} if {0} <= {zero} else {0}", cheap=True),
)


def _leaky_relu(a: Operand, negative_slope: float = 0.01) -> Operand:
    if negative_slope == 0:
        return np.maximum(a, 0)  # the product would be NaN at -inf
    return np.where(a > 0, a, a * negative_slope)


leaky_relu = pointwise(
    "leaky_relu",
    _leaky_relu,
    (lambda g, _y, a, negative_slope=0.01: where(greater(a, 0), g, g * negative_slope),),
    "a where a > 0, negative_slope * a elsewhere; its derivative at 0 is negative_slope",
    formula=lambda a, negative_slope=0.01: (
        "where(a > 0, a, negative_slope * a)" if negative_slope else "maximum(a, 0)"
    ),
    scalar=Scalar(
        lambda a, negative_slope: (
            "{0} if {0} > {zero} else {0} * {negative_slope}"
            if negative_slope
            else "{zero} if {0} <= {zero} else {0}"
        ),
        cheap=True,
    ),
)
tanh = pointwise(
    "tanh",
    np.tanh,
    (lambda g, y, _a: g * (1.0 - y * y),),
    "the hyperbolic tangent of a",
    scalar=Scalar("tanh({0})"),
)


def as_float(a: Operand) -> Operand:
    """Return a, as float32 unless it holds floats, since -a wraps for unsigned integers."""
    a = np.asarray(a)
    return a if a.dtype.kind == "f" else a.astype(np.float32)


def _sigmoid(a: Operand) -> Operand:
    a = as_float(a)
    e = np.exp(-np.abs(a))  # at most 1: cannot overflow
    return np.where(a >= 0, 1.0, e) / (1.0 + e)


sigmoid = pointwise(
    "sigmoid",
    _sigmoid,
    (lambda g, y, _a: g * y * (1.0 - y),),
    "1 / (1 + exp(-a))",
    scalar=Scalar("e = exp(-abs({0}))\n({one} if {0} >= {zero} else {e}) / ({one} + {e})"),
)


def _softplus(a: Operand) -> Operand:
    a = as_float(a)
    return np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))


softplus = pointwise(
    "softplus",
    _softplus,
    (lambda g, _y, a: g * sigmoid(a),),
    "log(1 + exp(a)), computed without overflow",
    scalar=Scalar("({zero} if {0} <= {zero} else {0}) + log1p(exp(-abs({0})))"),
)


def _gelu(a: Operand) -> Operand:
    from scipy.special import erfc  # imported late, as in _erf; 1 + erf(a) would cancel for a < 0

    return np.maximum(a, -40.0) * (0.5 * erfc(a * -math.sqrt(0.5)))


def _gelu_vjp(g: Operand, _y: Operand, a: Operand) -> Operand:
    # Beyond 40, Phi is 0 or 1 and its derivative is 0, and 0 * inf would be NaN.
    a = minimum(maximum(a, -40.0), 40.0)
    cdf = 0.5 * (1.0 + erf(a * math.sqrt(0.5)))
    pdf = exp(-0.5 * (a * a)) * (1.0 / math.sqrt(2.0 * math.pi))
    return g * (cdf + a * pdf)


gelu = pointwise(
    "gelu",
    _gelu,
    (_gelu_vjp,),
    "a * Phi(a), where Phi is the standard normal distribution function",
    scalar=Scalar(
        "low = {dtype}(-40.0)\n"
        "phi = {dtype}(0.5) * erfc({0} * {dtype}(-0.7071067811865476))\n"
        "({low} if {0} < {low} else {0}) * {phi}"
    ),
)


def _binary_cross_entropy(x: Operand, t: Operand, positive: Operand, negative: Operand) -> Operand:
    """Return the loss: a term that is linear in |x|, plus a log1p term that both classes share."""
    x = as_float(x)
    positive, negative = positive * t, negative * (1.0 - t)
    growing: Operand = np.where(x >= 0, negative, positive)
    linear = growing * np.where(growing == 0, 0.0, np.abs(x))  # 0 * inf would be NaN
    return linear + (positive + negative) * np.log1p(np.exp(-np.abs(x)))


def _bce_wrt_x(
    g: Operand, _y: Operand, x: Operand, t: Operand, positive: Operand, negative: Operand
) -> Operand:
    return g * (negative * (1.0 - t) * sigmoid(x) - positive * t * sigmoid(-x))


def _bce_wrt_t(
    g: Operand, _y: Operand, x: Operand, _t: Operand, positive: Operand, negative: Operand
) -> Operand:
    """Return g times the loss at t = 1 minus the loss at t = 0, since the loss is linear in t."""
    if type(positive) is type(negative) is float and positive == negative:
        return g * (-positive * x)
    at_1 = binary_cross_entropy(x, 1.0, positive, negative)
    return g * (at_1 - binary_cross_entropy(x, 0.0, positive, negative))


def _bce_formula(x: Operand, t: Operand, positive: Operand, negative: Operand) -> str | None:
    if np.isinf(x).any():
        return None  # the expression would be NaN where a factor is 0
    return "positive * t * softplus(-x) + negative * (1 - t) * softplus(x)"


binary_cross_entropy: Primitive = pointwise(
    "binary_cross_entropy",
    _binary_cross_entropy,
    (
        _bce_wrt_x,
        _bce_wrt_t,
        lambda g, _y, x, t, _positive, _negative: g * binary_cross_entropy(x, t, 1.0, 0.0),
        lambda g, _y, x, t, _positive, _negative: g * binary_cross_entropy(x, t, 0.0, 1.0),
    ),
    "-(positive * t * log(p) + negative * (1 - t) * log(1 - p)), where p is sigmoid(x); a term "
    "whose factor is 0 is 0, even if its logarithm is infinite",
    formula=_bce_formula,
    scalar=Scalar(
        "positive = {2} * {1}\n"
        "negative = {3} * ({one} - {1})\n"
        "growing = {negative} if {0} >= {zero} else {positive}\n"
        "common = ({positive} + {negative}) * log1p(exp(-abs({0})))\n"
        "{common} + ({zero} if {growing} == {zero} else {growing} * abs({0}))"
    ),
)
