"""Softmax, its logarithm and the cross-entropy of both, each stable by subtracting the maximum."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .elementwise import exp
from .primitive import primitive
from .reductions import sum as sum_over
from .shapes import unsqueeze


def _shifted(a: NDArray[Any], axis: int) -> NDArray[Any]:
    """a minus its maximum along the axis (minus 0 where that is -inf or +inf, as after masking)."""
    top = np.maximum.reduce(a, axis=axis, keepdims=True, initial=-np.inf)
    shifted: NDArray[Any] = np.subtract(a, np.where(np.isneginf(top), np.zeros((), a.dtype), top))
    return shifted


def _softmax_forward(a: NDArray[Any], axis: int) -> Any:
    y = _shifted(a, axis)
    np.exp(y, out=y)
    y /= np.add.reduce(y, axis=axis, keepdims=True)
    return y


def _log_softmax_forward(a: NDArray[Any], axis: int) -> Any:
    y = _shifted(a, axis)
    y -= np.log(np.add.reduce(np.exp(y), axis=axis, keepdims=True))
    return y


softmax = primitive(
    "softmax",
    _softmax_forward,
    (lambda g, y, _a, axis: y * (g - sum_over(g * y, axis, keepdims=True)),),
    "exp(a) / (sum of exp(a) along one axis)",
    promotes=True,
)
log_softmax = primitive(
    "log_softmax",
    _log_softmax_forward,
    (lambda g, y, _a, axis: g - exp(y) * sum_over(g, axis, keepdims=True),),
    "a - log(sum of exp(a) along one axis)",
    promotes=True,
)


def _cross_entropy_forward(a: NDArray[Any], q: NDArray[Any], per_row: bool) -> Any:
    terms = np.multiply(q, _log_softmax_forward(a, 1))
    np.copyto(terms, 0.0, where=q == 0)  # also where the logarithm is -inf
    return -np.add.reduce(terms, axis=1 if per_row else None, dtype=np.float64).astype(terms.dtype)


def _by_row(g: Any) -> Any:
    return unsqueeze(g, -1) if g.ndim else g


def _cross_entropy_wrt_a(g: Any, _y: Any, a: Any, q: Any, per_row: bool) -> Any:
    return (softmax(a, axis=1) * sum_over(q, 1, keepdims=True) - q) * _by_row(g)


cross_entropy = primitive(
    "cross_entropy",
    _cross_entropy_forward,
    (
        _cross_entropy_wrt_a,
        lambda g, _y, a, _q, per_row: -_by_row(g) * log_softmax(a, axis=1),
    ),
    "-(sum of q * log_softmax(a)) over the classes, a and q of shape (n, c); per row, or in all",
)
