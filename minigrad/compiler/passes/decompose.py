"""Expansions write primitives as others that generated code has loops or calls for.

So each has one form there; products, for instance, are of two matrices, or of two stacks of as
many.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...ops.random import uniform
from ..ir.builder import Shape, Written
from ..ir.program import Operation, Value
from .indices import getitem, scatter
from .reductions import has_floats

# --- elementwise and reductions -----------------------------------------------------------------


def _softmax(write: Written, a: Value, axis: int) -> Any:
    if not has_floats(a):
        return False
    _, e, total = _shifted(write, a, axis)
    return write("div", e, total, to=write.result)


def _log_softmax(write: Written, a: Value, axis: int) -> Any:
    if not has_floats(a):
        return False
    shifted, _, total = _shifted(write, a, axis)
    return write("sub", shifted, write("log", total), to=write.result)


def _shifted(write: Written, a: Value, axis: int) -> tuple[Value, Value, Value]:
    """Write a - max(a), its exponential and the sum of that, as ops/softmax.py computes them,
    limits at infinity included."""
    top = write("max", a, axis=(axis,))
    shifted = write("where", write("equal", a, top), 0.0, write("sub", a, top))
    e = write("exp", shifted)
    total = write("sum", e, axis=(axis,))
    unbounded = write("equal", write("abs", top), math.inf)
    no_limit = write("logical_and", unbounded, write("greater", total, 1.0))
    return shifted, e, write("where", no_limit, math.nan, total)


def _var(write: Written, a: Value, axis: Shape, keepdims: bool, correction: float) -> Any:
    if not has_floats(a):
        return False
    n = math.prod(a.shape[i] for i in axis)
    centred = write("sub", a, write("mean", a, axis=axis))
    biased = write("mean_square", centred, axis=axis)
    unbiased = write("mul", biased, n / (n - correction))
    return write.reshaped(unbiased, write.result.shape, write.result)


def _ties(write: Written, a: Value, y: Value, axis: Shape) -> Any:
    if not has_floats(a):
        return False
    attained = write.cast(write("equal", a, y), a.dtype)
    return write("div", attained, write("sum", attained, axis=axis), to=write.result)


def _keep_mask(write: Written, a: Value, p: float) -> Any:
    """Write a mask as a loop over uniform numbers, which are drawn before compiled code runs."""
    drawn = write(uniform, like=(a.shape, np.float32), shape=a.shape)
    kept = write.cast(write("greater_equal", drawn, p), write.result.dtype)
    return write("mul", kept, 1.0 / (1.0 - p) if p < 1.0 else 0.0, to=write.result)


# --- products of matrices -----------------------------------------------------------------------


def _rows(write: Written, x: Value) -> Value:
    """Write x of shape (..., n) in shape (rows, n)."""
    return write.reshaped(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _is_one_call(*values: Value | None) -> bool:
    """Return whether one call does it: all have one dtype, and the first has two dimensions."""
    given = [v for v in values if v is not None]
    return len(given[0].shape) == 2 and len({v.dtype for v in given}) == 1


def _linear(write: Written, x: Value, w: Value, b: Value | None) -> Any:
    y = write.result
    if y.dtype.kind != "f" or _is_one_call(x, w, b):
        return False
    rows, w = _rows(write, write.cast(x, y.dtype)), write.cast(w, y.dtype)
    b = None if b is None else write.cast(b, y.dtype)
    made = write("linear", rows, w, b, like=((rows.shape[0], w.shape[0]), y.dtype))
    return write.reshaped(made, y.shape, y)


def _linear_grad(write: Written, g: Value, x: Value, w: Value, wanted: Any) -> Any:
    if _is_one_call(x, g, w) or len({v.dtype for v in (g, x, w)}) > 1:
        return False
    dx, *others = write.of.outputs
    rows, g_rows = _rows(write, x), _rows(write, g)
    made = None if dx is None else Value.like(f"{dx.name}_rows", rows.shape, dx.dtype)
    given, outputs = [g_rows, rows, w], [made, *others]
    write.operations.append(
        Operation(write.of.what, given, {"wanted": wanted}, outputs, write.of.rule)
    )
    if dx is not None and made is not None:
        write.reshaped(made, dx.shape, dx)
    return None


def _matmul(write: Written, a: Value, b: Value) -> Any:
    """Write vectors as matrices, and several matrices as an array of three dimensions, or of two
    where all are multiplied by the same matrix."""
    y = write.result
    if y.dtype.kind != "f" or (_is_one_call(a, b) and len(b.shape) == 2):
        return False
    a, b = write.cast(a, y.dtype), write.cast(b, y.dtype)
    a = a if len(a.shape) > 1 else write.reshaped(a, (1, *a.shape))
    b = b if len(b.shape) > 1 else write.reshaped(b, (*b.shape, 1))
    if len(b.shape) == 2:
        a = _rows(write, a)
        made = write("matmul", a, b, like=((a.shape[0], b.shape[1]), y.dtype))
    else:
        outer = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        n = math.prod(outer)
        a, b = (
            write.reshaped(write.spread(v, (*outer, *v.shape[-2:])), (n, *v.shape[-2:]))
            for v in (a, b)
        )
        made = write("matmul", a, b, like=((n, a.shape[1], b.shape[2]), y.dtype))
    return write.reshaped(made, y.shape, y)


_EXPANSIONS: dict[str, Callable[..., Any]] = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "var": _var,
    "ties": _ties,
    "keep_mask": _keep_mask,
    "linear": _linear,
    "linear_grad": _linear_grad,
    "matmul": _matmul,
    "getitem": getitem,
    "scatter": scatter,
}


def expanded(operations: Sequence[Operation], wanted: Sequence[Value]) -> list[Operation]:
    """Return the operations, with each that can be expanded replaced by its expansion."""
    kept: list[Operation] = []
    for operation in operations:
        expand = _EXPANSIONS.get(operation.name)
        write = Written(operation)
        if expand is None or expand(write, *operation.inputs, **operation.attributes) is False:
            kept.append(operation)
        else:
            kept += write.operations
    return kept
