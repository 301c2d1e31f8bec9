"""Passes on sums: in float64, and of sums."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .program import Operation, Value
from .views import Views
from .written import Written

Operations = list[Operation]
Wanted = Sequence[Value]


def wide_sums(operations: Operations, wanted: Wanted) -> Operations:
    """Sums and means of floats as sums in float64, of integers in int64, which is what they are
    computed as, with unit dimensions; and what makes the old ones of those. So that sums which
    differ in this only are one, and what is made of sums can stay in float64."""
    kept: Operations = []
    for operation in operations:
        if operation.name in ("sum", "mean") and _is_summed(
            operation.inputs[0], operation.makes[0]
        ):
            kept += _wide(operation)
        else:
            kept.append(operation)
    return kept


def has_floats(a: Value) -> bool:
    """Whether loops can reduce it: not integers, whose sum is one, nor nothing."""
    return a.dtype.kind == "f" and 0 not in a.shape


def _is_summed(a: Value, total: Value) -> bool:
    """Whether loops can sum it: neither unsigned integers that no int64 holds, nor nothing."""
    wide = a.dtype.kind == "f" or (total.dtype.kind in "if" and a.dtype != np.uint64)
    return 0 not in a.shape and wide


def _wide(operation: Operation) -> Operations:
    (a,), (v,), write = operation.inputs, operation.makes, Written(operation, "wide")
    axes = operation.attributes["axis"]
    shape = tuple(1 if i in axes else n for i, n in enumerate(a.shape))
    dtype = np.float64 if a.dtype.kind == "f" else np.int64
    if dtype == np.int64:
        a = write.cast(a, np.int64)
    total = write("sum", a, like=(shape, dtype), axis=axes, keepdims=True)
    if operation.name == "mean":
        total = write.cast(total, np.float64)
        n = math.prod(a.shape[i] for i in axes)
        total = write("div", total, n, like=(shape, np.float64))
    flat = v.shape != shape
    to = None if flat else v
    narrow = write("astype", total, to=to, like=(shape, v.dtype), dtype=v.dtype)
    if flat:
        write.reshaped(narrow, v.shape, v)
    return write.operations


def sums_of_sums(operations: Operations, wanted: Wanted) -> Operations:
    """A sum of a + b is the sum of a plus that of b, a sum of -a minus that of a, and what does not
    vary along the axes leaves a sum as a factor; all in float64.

    So the sum over the batch that the derivative of a mean needs becomes sums that there are
    already, and a pass over memory less: that is how the textbook comes to its closed form.
    """
    views = Views(operations)
    maker = {
        id(v): operation
        for operation in operations
        for v in operation.makes
        if not views.changes(v, *operation.reads)
    }
    kept: Operations = []
    for operation in operations:
        wide = operation.name == "sum" and operation.makes[0].dtype == np.float64
        wide = wide and operation.attributes["keepdims"] and operation.rule is not None
        kept += _distributed(operation, maker) if wide else [operation]
    return kept


def _distributed(operation: Operation, maker: dict[int, Operation]) -> Operations:
    (a,), (total,) = operation.inputs, operation.makes
    made, axes = maker.get(id(a)), operation.attributes["axis"]
    if made is None:
        return [operation]

    def varies(x: Any) -> bool:
        if not isinstance(x, Value):
            return False
        shape = (1,) * (len(a.shape) - len(x.shape)) + x.shape
        return any(shape[i] != 1 for i in axes)

    def total_of(x: Value) -> tuple[Operations, Value]:
        part = Value.like(total.name, total.shape, total.dtype)
        inner = Operation(operation.what, [x], operation.attributes, [part], operation.rule)
        return _distributed(inner, maker), part

    def then(inputs: Sequence[Any]) -> Operation:
        return Operation(made.what, inputs, made.attributes, [total], operation.rule)

    whole = [isinstance(x, Value) and x.shape == a.shape for x in made.inputs]
    if made.name == "neg":
        first, part = total_of(made.inputs[0])
        return [*first, then([part])]
    if made.name in ("add", "sub") and all(whole):
        first, left = total_of(made.inputs[0])
        second, right = total_of(made.inputs[1])
        return [*first, *second, then([left, right])]
    if made.name == "mul":
        for i in (0, 1):
            if whole[i] and not varies(made.inputs[1 - i]):
                first, part = total_of(made.inputs[i])
                return [*first, then([part, made.inputs[1 - i]])]
    return [operation]
