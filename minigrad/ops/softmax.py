"""Softmax, log-softmax and cross-entropy subtract the maximum first, which makes them stable.

A single +inf among finite logits has probability 1, the limit. If several logits are +inf, or all
are -inf, there is no limit, and the result is NaN.
"""

import math
from collections.abc import Sequence

import numpy as np

from ..arrays import as_carray
from ..kernels import softmax as kernels
from ..types import Array
from .activations import as_float
from .builder import Builder, Value
from .elementwise import (
    abs,
    astype,
    div,
    equal,
    exp,
    greater,
    log,
    logical_and,
    not_equal,
    sub,
    where,
)
from .indexing import out_of_range
from .primitive import Operand, primitive
from .reductions import has_floats, max_over, sum_over
from .shapes import unsqueeze


def _shifted(a: Array, axis: int) -> tuple[Operand, Operand, Operand]:
    """Return a minus its maximum along the axis, the exponential of that, and its sum."""
    top = np.maximum.reduce(a, axis=axis, keepdims=True)
    finite = np.isfinite(top).all()
    shifted = a - top if finite else np.subtract(a, top, out=np.zeros_like(a), where=a != top)
    e = np.exp(shifted)
    total = np.add.reduce(e, axis=axis, keepdims=True)
    if not finite:
        total[np.isinf(top) & (total > 1)] = np.nan
    return shifted, e, total


def _softmax_forward(a: Array, axis: int) -> Operand:
    a = as_float(a)
    if a.size == 0:
        return a.copy()
    _, y, total = _shifted(a, axis)
    y /= total
    return y


def _log_softmax_forward(a: Array, axis: int) -> Operand:
    a = as_float(a)
    if a.size == 0:
        return a.copy()
    y, _, total = _shifted(a, axis)
    y -= np.log(total)
    return y


def _write_softmax(write: Builder, a: Value, axis: int) -> bool:
    if not has_floats(a):
        return False
    _, e, total = _write_shifted(write, a, axis)
    write(div, e, total, to=write.result)
    return True


def _write_log_softmax(write: Builder, a: Value, axis: int) -> bool:
    if not has_floats(a):
        return False
    shifted, _, total = _write_shifted(write, a, axis)
    write(sub, shifted, write(log, total), to=write.result)
    return True


def _write_shifted(write: Builder, a: Value, axis: int) -> tuple[Value, Value, Value]:
    """Write the operations that compute what _shifted does, including limits at infinity."""
    top = write(max_over, a, axis=(axis,))
    shifted = write(where, write(equal, a, top), 0.0, write(sub, a, top))
    e = write(exp, shifted)
    total = write(sum_over, e, axis=(axis,))
    unbounded = write(equal, write(abs, top), math.inf)
    no_limit = write(logical_and, unbounded, write(greater, total, 1.0))
    return shifted, e, write(where, no_limit, math.nan, total)


softmax = primitive(
    "softmax",
    _softmax_forward,
    (lambda g, y, _a, axis: y * (g - sum_over(g * y, axis=(axis,), keepdims=True)),),
    "exp(a), divided by the sum of exp(a) along one axis",
    promotes=True,
    decompose=_write_softmax,
)
log_softmax = primitive(
    "log_softmax",
    _log_softmax_forward,
    (lambda g, y, _a, axis: g - exp(y) * sum_over(g, axis=(axis,), keepdims=True),),
    "the logarithm of softmax: a minus the logarithm of the sum of exp(a) along one axis",
    promotes=True,
    decompose=_write_log_softmax,
)


def _cross_entropy_forward(a: Array, q: Array, divisor: Operand, per_row: bool) -> Operand:
    a, q = as_carray(a), as_carray(q)
    losses = np.empty(a.shape[0], np.float64)
    kernels.cross_entropy_forward(a, q, losses)
    losses = losses if per_row else np.add.reduce(losses)
    return (losses / divisor).astype(a.dtype)


def _cross_entropy_grad_forward(
    g: Array, a: Array, q: Array, divisor: Operand, per_row: bool
) -> Operand:
    a, q = as_carray(a), as_carray(q)
    out = np.empty_like(a)
    kernels.cross_entropy_backward(np.asarray(g).reshape(-1), a, q, float(divisor), out)
    return out


def _by_row(g: Operand) -> Operand:
    """Return a cotangent of shape (n,) or () in a shape that broadcasts to (n, c)."""
    return unsqueeze(g, -1) if g.ndim else g


# The rules of cross_entropy_grad, dx = g / divisor * (p * r - q), where p = softmax(a) and r is the
# sum of q in each row; gg is the cotangent of dx.


def _grad_wrt_g(
    gg: Operand, _y: Operand, g: Operand, a: Operand, q: Operand, divisor: Operand, per_row: bool
) -> Operand:
    p, r = softmax(a, axis=1), sum_over(q, axis=(1,), keepdims=True)
    axis = (1,) if per_row else (0, 1)
    return sum_over(gg * (p * r - q), axis=axis, keepdims=False) / divisor


def _grad_wrt_a(
    gg: Operand, _y: Operand, g: Operand, a: Operand, q: Operand, divisor: Operand, per_row: bool
) -> Operand:
    p, r = softmax(a, axis=1), sum_over(q, axis=(1,), keepdims=True)
    centred = gg - sum_over(gg * p, axis=(1,), keepdims=True)
    return centred * p * (r * (_by_row(g) / divisor))


def _grad_wrt_q(
    gg: Operand, _y: Operand, g: Operand, a: Operand, _q: Operand, divisor: Operand, per_row: bool
) -> Operand:
    expected = sum_over(gg * softmax(a, axis=1), axis=(1,), keepdims=True)
    return (expected - gg) * (_by_row(g) / divisor)


def _grad_formula(g: Operand, a: Operand, q: Operand, divisor: Operand, per_row: bool) -> str:
    g = "reshape(g, (-1, 1))" if per_row else "g"
    return f"{g} / divisor * (softmax(a, axis=1) * sum(q, axis=1, keepdims=True) - q)"


cross_entropy_grad = primitive(
    "cross_entropy_grad",
    _cross_entropy_grad_forward,
    (_grad_wrt_g, _grad_wrt_a, _grad_wrt_q, None),
    "the derivative of cross_entropy: g / divisor * (softmax(a) * r - q), where r is the sum of q "
    "in each row",
    formula=_grad_formula,
)
cross_entropy = primitive(
    "cross_entropy",
    _cross_entropy_forward,
    (
        lambda g, _y, logits, q, divisor, per_row: cross_entropy_grad(
            g, logits, q, divisor, per_row=per_row
        ),
        lambda g, _y, logits, _q, divisor, per_row: (
            log_softmax(logits, axis=1) * (_by_row(g) / -divisor)
        ),
        None,
    ),
    "the sum of -q * log_softmax(logits), divided by the divisor; the sum is over the classes of "
    "each row or over all elements",
    formula=lambda logits, q, divisor, per_row: (
        f"-sum(q * log_softmax(logits, axis=1){', axis=1' if per_row else ''}) / divisor"
    ),
)


def _label_cross_entropy_forward(
    a: Array, labels: Array, ignore_index: int, mean: bool
) -> tuple[Operand, Operand]:
    a = as_carray(a)
    loss, p = np.empty((), a.dtype), np.empty(a.shape, a.dtype)
    bad = kernels.label_cross_entropy_forward(a, labels, ignore_index, mean, loss, p)
    if bad >= 0:
        raise out_of_range("cross_entropy", labels, bad, a.shape[1], ignore_index)
    return loss, p


def _label_cross_entropy_vjp(
    g: Operand,
    y: Operand,
    logits: Operand,
    labels: Operand,
    *,
    wrt: Sequence[int],
    ignore_index: int,
    mean: bool,
) -> tuple[Operand, ...]:
    gradient = label_cross_entropy_grad(
        g, logits, labels, y[1], ignore_index=ignore_index, mean=mean
    )
    return gradient, None


def _label_cross_entropy_grad_forward(
    g: Operand, a: Array, labels: Array, p: Array, ignore_index: int, mean: bool
) -> Array:
    out = np.empty(a.shape, a.dtype)
    kernels.label_cross_entropy_backward(float(g), labels, as_carray(p), ignore_index, mean, out)
    return out


def _label_grad_wrt_g(
    u: Operand,
    _y: Operand,
    _g: Operand,
    a: Operand,
    labels: Operand,
    _p: Operand,
    ignore_index: int,
    mean: bool,
) -> Operand:
    """Return the sum of u times the result for g = 1; the result is linear in g."""
    p = softmax(a, axis=1)
    unit = label_cross_entropy_grad(1.0, a, labels, p, ignore_index=ignore_index, mean=mean)
    return sum_over(u * unit, axis=(0, 1), keepdims=False)


def _label_grad_wrt_a(
    u: Operand,
    _y: Operand,
    g: Operand,
    a: Operand,
    labels: Operand,
    _p: Operand,
    ignore_index: int,
    mean: bool,
) -> Operand:
    """Return g * p * (u - sum of u * p in the row), but 0 in rows that are ignored.

    With `mean`, divide by the number of the other rows.
    """
    p = softmax(a, axis=1)
    centred = u - sum_over(u * p, axis=(1,), keepdims=True)
    kept = astype(not_equal(unsqueeze(labels, 1), ignore_index), dtype=a.dtype)
    if mean:
        count = sum_over(kept, axis=(0, 1), keepdims=True)
        kept = kept / where(equal(count, 0), 1.0, count)
    return centred * p * (g * kept)


# In formulas: the factor that is 0 in rows whose label is ignored.
_KEPT = "kept = reshape(labels != ignore_index, (-1, 1))\n"


def _label_formula(logits: Operand, labels: Operand, ignore_index: int, mean: bool) -> str:
    n = np.count_nonzero(np.asarray(labels) != ignore_index)
    part, factor = ("", "") if n == len(labels) else (_KEPT, "kept * ")
    total = f"sum({factor}one_hot(labels, {logits.shape[1]}) * log_softmax(logits, axis=1))"
    return f"{part}-{total} / {n}" if mean else f"{part}-{total}"


def _label_grad_formula(
    g: Operand, a: Operand, labels: Operand, p: Operand, ignore_index: int, mean: bool
) -> str:
    n = np.count_nonzero(np.asarray(labels) != ignore_index)
    part, factor = ("", "") if n == len(labels) else (_KEPT, " * kept")
    g = f"g / {n or 1}" if mean else "g"
    return f"{part}{g}{factor} * (softmax(a, axis=1) - one_hot(labels, {a.shape[1]}))"


label_cross_entropy_grad = primitive(
    "label_cross_entropy_grad",
    _label_cross_entropy_grad_forward,
    (_label_grad_wrt_g, _label_grad_wrt_a, None, None),
    "the derivative of label_cross_entropy: g * (p - one_hot(labels)), where p is softmax(a), "
    "but 0 in rows that are ignored; for a mean, it is divided by the number of the other rows",
    formula=_label_grad_formula,
)
label_cross_entropy = primitive(
    "label_cross_entropy",
    _label_cross_entropy_forward,
    _label_cross_entropy_vjp,
    "the sum or mean of -log(p) at the label of each row that is not ignored, where p is "
    "softmax(logits), the residual",
    residuals=("softmax",),
    formula=_label_formula,
    kept=True,
)
