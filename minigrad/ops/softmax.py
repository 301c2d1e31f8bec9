"""Softmax, its logarithm and the cross-entropy of both, each stable by subtracting the maximum."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import softmax as kernels
from .elementwise import as_float, exp
from .primitive import primitive
from .reductions import sum_over
from .shapes import unsqueeze


def _softmax_forward(a: NDArray[Any], axis: int) -> Any:
    a = as_float(a)
    y = np.exp(a - np.maximum.reduce(a, axis=axis, keepdims=True))
    y /= np.add.reduce(y, axis=axis, keepdims=True)
    return y


def _log_softmax_forward(a: NDArray[Any], axis: int) -> Any:
    a = as_float(a)
    y = a - np.maximum.reduce(a, axis=axis, keepdims=True)
    y -= np.log(np.add.reduce(np.exp(y), axis=axis, keepdims=True))
    return y


softmax = primitive(
    "softmax",
    _softmax_forward,
    (lambda g, y, _a, axis: y * (g - sum_over(g * y, axis=(axis,), keepdims=True)),),
    "exp(a) / (sum of exp(a) along one axis)",
    promotes=True,
)
log_softmax = primitive(
    "log_softmax",
    _log_softmax_forward,
    (lambda g, y, _a, axis: g - exp(y) * sum_over(g, axis=(axis,), keepdims=True),),
    "a - log(sum of exp(a) along one axis)",
    promotes=True,
)


def _cross_entropy_forward(a: NDArray[Any], q: NDArray[Any], per_row: bool, divisor: float) -> Any:
    losses = np.empty(a.shape[0], np.float64)
    kernels.cross_entropy(a, q, losses)
    losses = losses if per_row else np.add.reduce(losses)
    return (losses / divisor).astype(a.dtype)


def _cross_entropy_grad_forward(
    g: NDArray[Any], a: NDArray[Any], q: NDArray[Any], per_row: bool, divisor: float
) -> Any:
    out = np.empty_like(a)
    kernels.cross_entropy_grad(np.asarray(g).reshape(-1), a, q, divisor, out)
    return out


def _by_row(g: Any) -> Any:
    """A cotangent for each row, (n,), or one for all, (), as it multiplies (n, c)."""
    return unsqueeze(g, -1) if g.ndim else g


# Rules of the gradient (gg its cotangent, p = softmax(a), r = sum of q in each row):
#     dx = g / divisor * (p * r - q)


def _grad_wrt_g(gg: Any, _y: Any, g: Any, a: Any, q: Any, per_row: bool, divisor: float) -> Any:
    p, r = softmax(a, axis=1), sum_over(q, axis=(1,), keepdims=True)
    axis = (1,) if per_row else (0, 1)
    return sum_over(gg * (p * r - q), axis=axis, keepdims=False) / divisor


def _grad_wrt_a(gg: Any, _y: Any, g: Any, a: Any, q: Any, per_row: bool, divisor: float) -> Any:
    p, r = softmax(a, axis=1), sum_over(q, axis=(1,), keepdims=True)
    centred = gg - sum_over(gg * p, axis=(1,), keepdims=True)
    return centred * p * (r * (_by_row(g) / divisor))


def _grad_wrt_q(gg: Any, _y: Any, g: Any, a: Any, _q: Any, per_row: bool, divisor: float) -> Any:
    expected = sum_over(gg * softmax(a, axis=1), axis=(1,), keepdims=True)
    return (expected - gg) * (_by_row(g) / divisor)


cross_entropy_grad = primitive(
    "cross_entropy_grad",
    _cross_entropy_grad_forward,
    (_grad_wrt_g, _grad_wrt_a, _grad_wrt_q),
    "g / divisor * (softmax(a) * (sum of q in the row) - q): the derivative of cross_entropy",
)
cross_entropy = primitive(
    "cross_entropy",
    _cross_entropy_forward,
    (
        lambda g, _y, a, q, per_row, divisor: cross_entropy_grad(
            g, a, q, per_row=per_row, divisor=divisor
        ),
        lambda g, _y, a, _q, per_row, divisor: log_softmax(a, axis=1) * (_by_row(g) / -divisor),
    ),
    "-(sum of q * log_softmax(a)) / divisor over the classes, per row (n, c) or over all",
)
