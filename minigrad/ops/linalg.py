"""Matrix products call BLAS, which reads transposed operands without copying them."""

import math
from collections.abc import Sequence

import numpy as np

from ..arrays import FLOAT32, FLOAT64
from ..errors import ShapeError
from ..kernels import linear as kernels
from ..kernels.allocator import ABSENT, empty
from ..kernels.product import dot, is_alone
from ..kernels.reductions import is_one_block
from ..kernels.threading.blas import blas_limit
from ..types import Array
from .builder import Builder, Value
from .primitive import Operand, Primitive, primitive
from .reductions import sum_of_rows
from .shapes import reshape, transpose, unsqueeze


@np.errstate(all="ignore")  # BLAS computes past the ends of rows, so flags there mean nothing
def _matmul_forward(a: Array, b: Array) -> Operand:
    try:
        if a.ndim == b.ndim == 2:
            return dot(a, b)
        m, n = a.shape[-2] if a.ndim > 1 else 1, b.shape[-1] if b.ndim > 1 else 1
        if a.size * b.size == 0 or is_alone(m, n, a.shape[-1]):
            return np.matmul(a, b)
        return _stacked(a, b)
    except (IndexError, ValueError) as error:  # the former for a scalar
        raise ShapeError(_why_no_product(np.shape(a), np.shape(b))) from error


def _stacked(a: Array, b: Array) -> Array:
    """Return a @ b, matrix by matrix; a vector a counts as one row, a vector b as one column."""
    left, right = np.atleast_2d(a), b[:, None] if b.ndim == 1 else b
    outer = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    y = empty((*outer, left.shape[-2], right.shape[-1]), np.result_type(a, b))
    left = np.broadcast_to(left, (*outer, *left.shape[-2:]))
    right = np.broadcast_to(right, (*outer, *right.shape[-2:]))
    for i in np.ndindex(outer):
        dot(left[i], right[i], y[i])
    y = y[..., 0, :] if a.ndim == 1 else y
    return y[..., 0] if b.ndim == 1 else y


def _why_no_product(a: tuple[int, ...], b: tuple[int, ...]) -> str:
    what = f"{a} @ {b}"
    if not a or not b:
        return f"matmul: a scalar has no matrix product, {what}; use * instead"
    inner = b[-2] if len(b) > 1 else b[0]
    if a[-1] == inner:
        return (
            f"matmul: the batch dimensions do not broadcast, {what}; aligned at the last but two, "
            "they must be equal or 1"
        )
    remedy = "; transpose the second operand?" if a[-1] == b[-1] else ""
    return f"matmul: inner sizes differ ({a[-1]} and {inner}), {what}{remedy}"


def _matmul_wrt_a(g: Operand, _y: Operand, a: Operand, b: Operand) -> Operand:
    """Return g @ b^T; a vector a counts as a matrix of one row, a vector b as one of one column."""
    if b.ndim == 1:
        g, b = unsqueeze(g, -1), unsqueeze(b, -1)
    if a.ndim == 1:
        g = unsqueeze(g, -2)
    return _drop(matmul(g, transpose(b, -1, -2)), -2, a.ndim == 1)


def _matmul_wrt_b(g: Operand, _y: Operand, a: Operand, b: Operand) -> Operand:
    """Return a^T @ g; a vector a counts as a matrix of one row, a vector b as one of one column."""
    if b.ndim == 1:
        g = unsqueeze(g, -1)
    if a.ndim == 1:
        g, a = unsqueeze(g, -2), unsqueeze(a, -2)
    return _drop(matmul(transpose(a, -1, -2), g), -1, b.ndim == 1)


def _drop(x: Operand, axis: int, unit: bool) -> Operand:
    if not unit:
        return x
    shape = list(x.shape)
    del shape[axis]
    return reshape(x, shape)


def _write_matmul(write: Builder, a: Value, b: Value) -> bool:
    """Write a product of matrices, with vectors as matrices of one row or column.

    A stack of matrices gets three dimensions, or two if all are multiplied by one matrix b.
    """
    y = write.result
    if y.dtype.kind != "f" or (_is_one_call(a, b) and len(b.shape) == 2):
        return False
    a, b = write.cast(a, y.dtype), write.cast(b, y.dtype)
    a = a if len(a.shape) > 1 else write.reshaped(a, (1, *a.shape))
    b = b if len(b.shape) > 1 else write.reshaped(b, (*b.shape, 1))
    if len(b.shape) == 2:
        a = _write_rows(write, a)
        made = write(matmul, a, b, like=((a.shape[0], b.shape[1]), y.dtype))
    else:
        outer = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        n = math.prod(outer)
        a, b = (
            write.reshaped(write.spread(v, (*outer, *v.shape[-2:])), (n, *v.shape[-2:]))
            for v in (a, b)
        )
        made = write(matmul, a, b, like=((n, a.shape[1], b.shape[2]), y.dtype))
    write.reshaped(made, y.shape, y)
    return True


def _write_rows(write: Builder, x: Value) -> Value:
    """Write x of shape (..., n) in shape (rows, n)."""
    return write.reshaped(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _is_one_call(*values: Value) -> bool:
    """Return whether one BLAS call suffices: the dtypes are equal and the first Value is 2-D."""
    given = [v for v in values if v is not None]
    return len(given[0].shape) == 2 and len({v.dtype for v in given}) == 1


matmul: Primitive = primitive(
    "matmul",
    _matmul_forward,
    (_matmul_wrt_a, _matmul_wrt_b),
    "the matrix product over the last two dimensions; the others broadcast, and 1-D operands are "
    "vectors",
    formula="a @ b",
    promotes=True,
    decompose=_write_matmul,
)


def _linear_forward(x: Array, w: Array, b: Array | None) -> Array:
    if w.ndim != 2 or x.ndim == 0 or x.shape[-1] != w.shape[1]:
        raise ShapeError(
            f"linear: input {x.shape} does not fit weight {w.shape}; expected (..., "
            f"{w.shape[-1] if w.ndim else '?'}) for a weight of (out_features, in_features)"
        )
    if b is not None and b.shape != w.shape[:1]:
        raise ShapeError(
            f"linear: bias {b.shape} does not fit weight {w.shape}; expected {w.shape[:1]}"
        )
    if _is_small(x, w) and (b is None or (b.dtype is x.dtype and b.flags.carray)):
        y = empty((len(x), len(w)), x.dtype)
        kernels.linear_forward(x, w, ABSENT[x.dtype, 1] if b is None else b, y, blas_limit())
        return y
    y = dot(_rows(x), w.T)
    if b is not None:
        if y.dtype == b.dtype and y.dtype.kind == "f" and b.flags.carray:
            kernels.add_bias(y, b)
        else:
            y = y + b
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[0])


def _is_small(x: Array, w: Array) -> bool:
    """Return whether the kernels of a linear layer take x and w; see kernels/linear.py."""
    dtype = x.dtype
    return (
        x.ndim == 2
        and dtype is w.dtype
        and (dtype is FLOAT32 or dtype is FLOAT64)
        and x.flags.carray
        and w.flags.carray
        and kernels.is_small(len(x), w.size)
    )


def _rows(x: Operand) -> Operand:
    """Return x of shape (..., n) as a matrix of shape (product of ..., n)."""
    return x if x.ndim == 2 else x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


def _linear_grad_forward(
    g: Array, x: Array, w: Array, wanted: tuple[bool, bool, bool]
) -> tuple[Operand, ...]:
    if _is_small(x, w) and g.dtype is x.dtype and g.flags.carray and is_one_block(len(g), g.dtype):
        dx = empty(x.shape, x.dtype) if wanted[0] else None
        dw = empty(w.shape, x.dtype) if wanted[1] else None
        db = np.empty(len(w), x.dtype) if wanted[2] else None
        matrix, row = ABSENT[x.dtype, 2], ABSENT[x.dtype, 1]
        kernels.linear_backward(
            g,
            x,
            w,
            matrix if dx is None else dx,
            matrix if dw is None else dw,
            row if db is None else db,
            blas_limit(),
        )
        return dx, dw, db
    rows = _rows(g)
    dx = dot(rows, w) if wanted[0] else None
    if dx is not None and x.ndim != 2:
        dx = dx.reshape(x.shape)
    dw = dot(rows.T, _rows(x)) if wanted[1] else None
    return dx, dw, sum_of_rows(rows) if wanted[2] else None


def _linear_grad_vjp(
    u: Operand,
    _y: Operand,
    g: Operand,
    x: Operand,
    w: Operand,
    *,
    wrt: Sequence[int],
    wanted: tuple[bool, bool, bool],
) -> tuple[Operand, ...]:
    """Differentiate sum(ux * dx) + sum(uw * dw) + sum(ub * db), which is linear in g, x and w."""
    ux, uw, ub = u
    wrt_g = wrt_x = wrt_w = None
    if ux is not None:
        wrt_g, wrt_w = linear(ux, w, None), _rows(g).T @ _rows(ux)
    if uw is not None:
        through_w = linear(x, uw, None)
        wrt_g, wrt_x = through_w if wrt_g is None else wrt_g + through_w, g @ uw
    if ub is not None:
        wrt_g = ub if wrt_g is None else wrt_g + ub
    return wrt_g, wrt_x, wrt_w


def _linear_grad_formula(
    g: Operand, x: Operand, w: Operand, wanted: tuple[bool, bool, bool]
) -> str:
    if x.ndim == 2:
        return "g @ w, g.T @ x, sum(g, axis=0)"
    rows = f"rows = reshape(g, (-1, {w.shape[0]}))\n"
    return rows + f"g @ w, rows.T @ reshape(x, (-1, {w.shape[1]})), sum(rows, axis=0)"


def _write_linear_grad(
    write: Builder, g: Value, x: Value, w: Value, wanted: tuple[bool, bool, bool]
) -> bool:
    if _is_one_call(x, g, w) or len({v.dtype for v in (g, x, w)}) > 1:
        return False
    dx, *others = write.outputs
    rows, g_rows = _write_rows(write, x), _write_rows(write, g)
    made = None if dx is None else write.new(f"{dx.label}_rows", rows.shape, dx.dtype)
    write(linear_grad, g_rows, rows, w, to=[made, *others], wanted=wanted)
    if dx is not None:
        write.reshaped(made, dx.shape, dx)
    return True


linear_grad: Primitive = primitive(
    "linear_grad",
    _linear_grad_forward,
    _linear_grad_vjp,
    "the derivative of linear: those that are wanted of g @ weight, g.T @ x and the sum of g over "
    "its rows",
    outputs=3,
    formula=_linear_grad_formula,
    decompose=_write_linear_grad,
)


def _write_linear(write: Builder, x: Value, w: Value, b: Value) -> bool:
    y = write.result
    if y.dtype.kind != "f" or _is_one_call(x, w, b):
        return False
    rows, w = _write_rows(write, write.cast(x, y.dtype)), write.cast(w, y.dtype)
    b = None if b is None else write.cast(b, y.dtype)
    made = write(linear, rows, w, b, like=((rows.shape[0], w.shape[0]), y.dtype))
    write.reshaped(made, y.shape, y)
    return True


linear: Primitive = primitive(
    "linear",
    _linear_forward,
    lambda g, _y, x, w, _b, *, wrt: linear_grad(g, x, w, wanted=(0 in wrt, 1 in wrt, 2 in wrt)),
    "x @ weight.T + bias, where x is (..., in), weight (out, in), and bias (out,) or None",
    formula=lambda x, w, b: "x @ w.T" if b is None else "x @ w.T + b",
    promotes=True,
    decompose=_write_linear,
)
