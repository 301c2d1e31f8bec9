"""Products of matrices, left to BLAS; transposed operands are flags to it, not copies."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from ..kernels import linear as kernels
from .primitive import primitive
from .shapes import reshape, transpose, unsqueeze


def _matmul_forward(a: NDArray[Any], b: NDArray[Any]) -> Any:
    try:
        return np.matmul(a, b)
    except ValueError as error:
        raise ShapeError(_why_no_product(np.shape(a), np.shape(b))) from error


def _why_no_product(a: tuple[int, ...], b: tuple[int, ...]) -> str:
    what = f"{a} @ {b}"
    if not a or not b:
        return f"matmul: a scalar has no matrix product, {what}; use * instead"
    inner = b[-2] if len(b) > 1 else b[0]
    if a[-1] == inner:
        return f"matmul: the batch dimensions do not broadcast, {what}"
    remedy = "; transpose the second operand?" if a[-1] == b[-1] else ""
    return f"matmul: inner sizes differ ({a[-1]} and {inner}), {what}{remedy}"


def _matmul_wrt_a(g: Any, _y: Any, a: Any, b: Any) -> Any:
    """g @ b^T; a vector takes part as a matrix of one row (a) or one column (b)."""
    if b.ndim == 1:
        g, b = unsqueeze(g, -1), unsqueeze(b, -1)
    if a.ndim == 1:
        g = unsqueeze(g, -2)
    return _drop(matmul(g, transpose(b, -1, -2)), -2, a.ndim == 1)


def _matmul_wrt_b(g: Any, _y: Any, a: Any, b: Any) -> Any:
    """a^T @ g, with vectors as above."""
    if b.ndim == 1:
        g = unsqueeze(g, -1)
    if a.ndim == 1:
        g, a = unsqueeze(g, -2), unsqueeze(a, -2)
    return _drop(matmul(transpose(a, -1, -2), g), -1, b.ndim == 1)


def _drop(x: Any, axis: int, unit: bool) -> Any:
    if not unit:
        return x
    shape = list(x.shape)
    del shape[axis]
    return reshape(x, shape)


matmul = primitive(
    "matmul",
    _matmul_forward,
    (_matmul_wrt_a, _matmul_wrt_b),
    "matrix product of the last two dimensions, the others broadcast; 1-D operands are vectors",
    promotes=True,
)


def _linear_forward(x: NDArray[Any], w: NDArray[Any], b: NDArray[Any] | None) -> NDArray[Any]:
    if w.ndim != 2 or x.ndim == 0 or x.shape[-1] != w.shape[1]:
        raise ShapeError(
            f"linear: input {x.shape} does not fit weight {w.shape}; expected (..., "
            f"{w.shape[-1] if w.ndim else '?'}) for a weight of (out_features, in_features)"
        )
    if b is not None and b.shape != w.shape[:1]:
        raise ShapeError(f"linear: bias {b.shape} does not fit weight {w.shape}")
    y: NDArray[Any] = np.dot(_rows(x), w.T)
    if b is not None:
        if y.dtype is b.dtype and y.dtype.kind == "f" and b.flags.c_contiguous:
            kernels.add_bias(y, b)
        else:
            y = y + b
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[0])


def _rows(x: Any) -> Any:
    """x of shape (..., n) as a matrix of shape (product of ..., n)."""
    return x if x.ndim == 2 else x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


linear = primitive(
    "linear",
    _linear_forward,
    (
        lambda g, _y, _x, w, _b: g @ w,
        lambda g, _y, x, _w, _b: _rows(g).T @ _rows(x),
        lambda g, _y, _x, _w, _b: g,  # summed over all but the last dimension by the walk
    ),
    "x @ weight.T + bias, for x (..., in), weight (out, in), bias (out,) or None",
    promotes=True,
)
