"""Elementwise primitives do arithmetic, exponentials, choices, comparisons and casts.

All of them broadcast as in NumPy. A rule returns a cotangent of the output's shape, and the
backward pass sums it to the input's shape.

At plus and minus infinity, values and derivatives are limits, or NaN if there is no limit. At -0.0
they follow IEEE arithmetic: 1 / -0.0 is -inf. The value at NaN is NaN, and so is a derivative that
depends on the input. A derivative that only chooses between constants (relu, leaky_relu, clip,
maximum, minimum, sign, where) equals PyTorch's at NaN, at kinks and at ties: a comparison with NaN
is false, so relu, maximum and minimum pass the cotangent on, leaky_relu scales it, and clip stops
it.
"""

import math
import operator

import numpy as np
from numpy.typing import DTypeLike

from ..checks import is_number
from ..errors import DtypeError
from ..kernels import relu as kernels
from ..kernels.allocator import empty
from ..types import Array
from .primitive import Formula, Forward, Operand, Primitive, Rule, Scalar, primitive


def pointwise(
    name: str,
    forward: Forward,
    vjp: tuple[Rule | None, ...] | None,
    doc: str = "",
    formula: Formula = None,
    scalar: Scalar | None = None,
) -> Primitive:
    """Declare an elementwise primitive; integers become floats if the result needs floats."""
    return primitive(name, forward, vjp, doc, promotes=True, formula=formula, scalar=scalar)


# Python's operators run faster on arrays than the NumPy functions that they call.
# --- arithmetic ---------------------------------------------------------------------------------

add = pointwise(
    "add",
    operator.add,
    (lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: g),
    formula="a + b",
    scalar=Scalar("{0} + {1}", cheap=True, integers=True),
)
sub = pointwise(
    "sub",
    operator.sub,
    (lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: -g),
    formula="a - b",
    scalar=Scalar("{0} - {1}", cheap=True, integers=True),
)
mul = pointwise(
    "mul",
    operator.mul,
    (lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: g * a),
    formula="a * b",
    scalar=Scalar("{0} * {1}", cheap=True, integers=True),
)
div = pointwise(
    "div",
    operator.truediv,
    (lambda g, _y, _a, b: g / b, lambda g, y, _a, b: -(g * y) / b),
    formula="a / b",
    scalar=Scalar("{0} / {1}"),
)


def _pow_wrt_base(g: Operand, _y: Operand, a: Operand, b: Operand) -> Operand:
    """Return g * b * a**(b - 1).

    The result is 0 where b is 0, for every a, and where b is infinite and the power is 0.
    """
    if hasattr(b, "shape"):
        flat = equal(b, 0)
        power = a ** where(flat, 1.0, b - 1)
        vanished = logical_and(equal(abs(b), math.inf), equal(power, 0))
        return where(logical_or(flat, vanished), 0.0, g * (b * power))
    if b in (-math.inf, math.inf):
        power = a**b
        return where(equal(power, 0), 0.0, g * (b * power))
    return g * 0.0 if b == 0 else g * (b * (a if b == 2 else a ** (b - 1)))


def _pow_wrt_exponent(g: Operand, y: Operand, a: Operand, b: Operand) -> Operand:
    """Return g * y * log(a).

    The result is 0 where a is 0 and b >= 0, and where a is inf and b < 0.
    """
    if hasattr(a, "shape"):
        flat = logical_or(
            logical_and(equal(a, 0), greater_equal(b, 0)),
            logical_and(equal(a, math.inf), less(b, 0)),
        )
        return where(flat, 0.0, g * (y * log(where(flat, 1.0, a))))
    if a == 0:
        return where(greater_equal(b, 0), 0.0, g * (y * -math.inf))
    if a == math.inf:
        return where(less(b, 0), 0.0, g * (y * math.inf))
    return g * (y * (math.log(a) if a > 0 else math.nan))


def _pow(a: Operand, b: Operand) -> Operand:
    if isinstance(b, int) and b < 0:
        b = float(b)  # NumPy refuses an integer to a negative integer
    return operator.pow(a, b)  # unlike np.power, it computes a square as a product


# For these powers NumPy uses another formula, or products are faster.
_POWERS = {0.5: "sqrt({0})", 2: "{0} * {0}", 3: "{0} * {0} * {0}"}


pow = pointwise(
    "pow",
    _pow,
    (_pow_wrt_base, _pow_wrt_exponent),
    "a ** b, where 0 ** 0 is 1 with derivative 0",
    formula="a ** b",
    scalar=Scalar(lambda a, b: _POWERS.get(b, "{0} ** {1}")),
)
square = pointwise(
    "square",
    np.square,
    (lambda g, _y, a: g * (2.0 * a),),
    formula="a ** 2",
    scalar=Scalar("{0} * {0}", cheap=True),
)
neg = pointwise(
    "neg",
    operator.neg,
    (lambda g, _y, _a: -g,),
    formula="-a",
    scalar=Scalar("-{0}", cheap=True, integers=True),
)
sign = pointwise(
    "sign",
    np.sign,
    (lambda g, _y, _a: g * 0.0,),
    "the sign of a: -1, 0 or 1",
    scalar=Scalar("sign({0})"),
)
abs = pointwise(
    "abs",
    np.abs,
    (lambda g, _y, a: g * sign(a),),
    "the absolute value of a; its derivative at 0 is 0",
    scalar=Scalar("abs({0})", cheap=True),
)

# --- exponentials -------------------------------------------------------------------------------

exp = pointwise(
    "exp", np.exp, (lambda g, y, _a: g * y,), "e to the power of a", scalar=Scalar("exp({0})")
)
log = pointwise(
    "log",
    np.log,
    (lambda g, _y, a: g / a,),
    "the natural logarithm of a",
    scalar=Scalar("log({0})"),
)
sqrt = pointwise(
    "sqrt",
    np.sqrt,
    (lambda g, y, _a: g * (0.5 / y),),
    "the square root of a; its derivative at 0 is inf",
    scalar=Scalar("sqrt({0})"),
)
rsqrt = pointwise(
    "rsqrt",
    lambda a: 1.0 / np.sqrt(a),
    (lambda g, y, a: g * (y * (-0.5 / a)),),
    formula="1 / sqrt(a)",
    scalar=Scalar("{one} / sqrt({0})"),
)
inv_std = pointwise(
    "inv_std",
    lambda var, eps: 1.0 / np.sqrt(var + eps),
    (lambda g, y, _var, eps: g * (-0.5 * y * y * y),),
    formula="1 / sqrt(var + eps)",
    scalar=Scalar("{one} / sqrt({0} + {eps})"),
)


def _erf(a: Operand) -> Operand:
    from scipy.special import erf  # imported late: it would double the time to import minigrad

    return erf(a)


erf = pointwise(
    "erf",
    _erf,
    (lambda g, _y, a: g * (2.0 / math.sqrt(math.pi)) * exp(-(a * a)),),
    "the Gauss error function of a",
    scalar=Scalar("erf({0})"),
)


# --- choices ------------------------------------------------------------------------------------


def _share(g: Operand, a: Operand, b: Operand, loses: Primitive) -> Operand:
    """Return the cotangent of a: g where a wins against b, g / 2 at ties, else 0."""
    return where(equal(a, b), 0.5 * g, where(loses(a, b), 0.0, g))


maximum = pointwise(
    "maximum",
    np.maximum,
    (
        lambda g, _y, a, b: _share(g, a, b, less),
        lambda g, _y, a, b: _share(g, b, a, less),
    ),
    "the larger of a and b; at ties, each gets half of the cotangent",
    scalar=Scalar("maximum({0}, {1})", cheap=True, integers=True),
)
minimum = pointwise(
    "minimum",
    np.minimum,
    (
        lambda g, _y, a, b: _share(g, a, b, greater),
        lambda g, _y, a, b: _share(g, b, a, greater),
    ),
    "the smaller of a and b; at ties, each gets half of the cotangent",
    scalar=Scalar("minimum({0}, {1})", cheap=True, integers=True),
)
where: Primitive = pointwise(
    "where",
    lambda condition, a, b: np.where(condition, a, b),
    (
        None,
        lambda g, _y, c, _a, _b: where(c, g, 0.0),
        lambda g, _y, c, _a, _b: where(c, 0.0, g),
    ),
    "a where the condition is true, b elsewhere",
    scalar=Scalar("{1} if {0} else {2}", cheap=True, integers=True, raw=(0,)),
)


def _gate(g: Array, y: Array) -> Array:
    out = empty(y.shape, g.dtype)
    ready = type(g) is type(y) is np.ndarray and g.flags.carray and y.flags.carray
    if not ready or g.shape != y.shape:
        g, y = (np.ascontiguousarray(np.broadcast_to(a, out.shape)) for a in (g, y))
    kernels.gate(g, y, out)
    return out


gated: Primitive = primitive(
    "gated",
    _gate,
    (lambda g, _y, _a, b: gated(g, b), None),
    "a where b is positive or NaN, 0 elsewhere; relu's rule calls it with a = g and b = y",
    formula="where(b > 0, a, 0)",
    scalar=Scalar("{zero} if {1} <= {zero} else {0}", cheap=True),
)


def _clip_forward(a: Operand, low: float | None, high: float | None) -> Operand:
    y = a.copy() if low is None else np.maximum(a, low)
    return y if high is None else np.minimum(y, high)


def _clip_vjp(
    g: Operand, _y: Operand, a: Operand, low: float | None, high: float | None
) -> Operand:
    """Return g where low <= a <= high, and 0 elsewhere, also where a is NaN."""
    if low is not None:
        g = where(greater_equal(a, low), g, 0.0)
    return g if high is None else where(less_equal(a, high), g, 0.0)


def _clip_scalar(_a: Operand, low: float | None, high: float | None) -> str:
    raised = "{0}" if low is None else "maximum({0}, {low})"
    return raised if high is None else f"minimum({raised}, {{high}})"


_clip = pointwise(
    "clip",
    _clip_forward,
    (_clip_vjp,),
    "a, limited to the range from low to high",
    formula="clip(a, low, high)",
    scalar=Scalar(_clip_scalar, cheap=True),
)


def clip(x: Operand, min: float | None = None, max: float | None = None) -> Operand:
    """Return x between the bounds `min` and `max`; the derivative at a bound is 1.

    min, max: Python numbers; None means no bound. Errors: DtypeError for anything else.
    """
    for bound in (min, max):
        if bound is not None and not is_number(bound):
            raise DtypeError(
                f"clip: bounds are Python numbers or None, got {type(bound).__name__}; use "
                "maximum and minimum for bounds that vary"
            )
    # Python numbers keep float32; NumPy's scalars would widen it.
    low, high = (b.item() if isinstance(b, np.generic) else b for b in (min, max))
    return _clip(x, low=low, high=high)


# --- comparisons and casts ----------------------------------------------------------------------


def comparison(name: str, forward: Forward, scalar: str, doc: str = "") -> Primitive:
    """Declare a primitive that returns a boolean constant.

    Without a `doc`, the formula is the scalar expression with a and b as its operands.
    """
    formula = None if doc else scalar.format("a", "b")
    how = Scalar(scalar, cheap=True, compares=True)
    return primitive(name, forward, None, doc, formula=formula, scalar=how)


equal = comparison("equal", np.equal, "{0} == {1}")
not_equal = comparison("not_equal", np.not_equal, "{0} != {1}")
less: Primitive = comparison("less", np.less, "{0} < {1}")
less_equal = comparison("less_equal", np.less_equal, "{0} <= {1}")
greater: Primitive = comparison("greater", np.greater, "{0} > {1}")
greater_equal = comparison("greater_equal", np.greater_equal, "{0} >= {1}")
logical_and = comparison(
    "logical_and",
    np.logical_and,
    "bool({0}) and bool({1})",
    "the logical AND of a and b, a boolean constant",
)
logical_or = comparison(
    "logical_or",
    np.logical_or,
    "bool({0}) or bool({1})",
    "the logical OR of a and b, a boolean constant",
)
logical_not = comparison(
    "logical_not", np.logical_not, "not {0}", "the logical NOT of a, a boolean constant"
)
isnan = comparison("isnan", np.isnan, "{0} != {0}", "whether a is NaN, as a boolean constant")


def _astype_forward(a: Array, dtype: DTypeLike) -> Array:
    """Convert without NumPy's warning about floats that do not fit the integer dtype."""
    if a.dtype.kind != "f" or np.dtype(dtype).kind not in "iu":
        return a.astype(dtype, "C")
    with np.errstate(invalid="ignore"):
        return a.astype(dtype, "C")


astype: Primitive = primitive(
    "astype",
    _astype_forward,
    (lambda g, _y, _a, dtype: astype(g, dtype=_a.dtype),),
    "a converted to another dtype",
    formula="astype(a, dtype)",
    scalar=Scalar("{0}", cheap=True, integers=True),
)
