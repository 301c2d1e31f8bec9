"""Two passes rewrite sums: one computes sums in float64, the other splits sums of sums.

Both rest on the algebra of sums, so they name the primitives that this algebra holds for.
"""

import math
from collections.abc import Sequence

import numpy as np

from ... import ops
from ...types import Shape
from ..ir.builder import Builder
from ..ir.may_alias import MayAlias
from ..ir.program import Input, Operation, Value

Operations = list[Operation]
Wanted = Sequence[Value]


def wide_sums(operations: Operations, wanted: Wanted) -> Operations:
    """Write sums and means as sums in float64, or in int64 for integers, with unit dimensions.

    Loops add up in these dtypes in any case. New operations make the old result from the wide sum.
    Sums that differ only in dtype or shape become one sum, and arithmetic on sums can stay in
    float64.
    """
    kept: Operations = []
    for operation in operations:
        summed = operation.what in (ops.sum_over, ops.mean_over)
        if summed and _is_summed(operation.inputs[0], operation.makes[0]):
            kept += _wide(operation)
        else:
            kept.append(operation)
    return kept


def _is_summed(a: Value, total: Value) -> bool:
    """Return whether loops can sum a: a is not empty, and int64 or float64 holds its elements."""
    wide = a.dtype.kind == "f" or (total.dtype.kind in "if" and a.dtype != np.uint64)
    return 0 not in a.shape and wide


def _wide(operation: Operation) -> Operations:
    (a,), (v,), write = operation.inputs, operation.makes, Builder(operation, "wide")
    axes = operation.attributes["axis"]
    shape = tuple(1 if i in axes else n for i, n in enumerate(a.shape))
    dtype = np.float64 if a.dtype.kind == "f" else np.int64
    if dtype == np.int64:
        a = write.cast(a, np.int64)
    total = write(ops.sum_over, a, like=(shape, dtype), axis=axes, keepdims=True)
    if operation.what is ops.mean_over:
        total = write.cast(total, np.float64)
        n = math.prod(a.shape[i] for i in axes)
        total = write(ops.div, total, n, like=(shape, np.float64))
    flat = v.shape != shape
    to = None if flat else v
    narrow = write(ops.astype, total, to=to, like=(shape, v.dtype), dtype=v.dtype)
    if flat:
        write.reshaped(narrow, v.shape, v)
    return write.operations


def sums_of_sums(operations: Operations, wanted: Wanted) -> Operations:
    """Split float64 sums in a backward pass: sum(a + b) = sum(a) + sum(b), sum(-a) = -sum(a), and
    sum(c * a) = c * sum(a) for a factor c that does not vary along the axes.

    The sum over the batch in the derivative of a mean then becomes sums that exist already, which
    saves a pass over memory. Textbooks derive their closed form in the same way.
    """
    aliases = MayAlias(operations)
    maker = {
        v: operation
        for operation in operations
        for v in operation.makes
        if not aliases.changes(v, *operation.reads)
    }
    distributed = _Distributed(maker)
    kept: Operations = []
    for operation in operations:
        wide = operation.what is ops.sum_over and operation.makes[0].dtype == np.float64
        wide = wide and operation.attributes["keepdims"] and operation.rule is not None
        kept += distributed(operation) if wide else [operation]
    return kept


class _Distributed:
    """_Distributed replaces the sum of a result by sums of the inputs that make the result.

    maker: the operation that makes each Value; Values are left out if an update changes them, or an
        input of their operation.
    """

    def __init__(self, maker: dict[Value, Operation]) -> None:
        self._maker = maker
        self._parts: dict[tuple[Value, Shape], Value] = {}  # the sum of a Value along axes

    def __call__(self, operation: Operation) -> Operations:
        """Return the operations that take the place of a sum.

        A Value that several sums share is summed once, so the program does not grow much.
        """
        written: Operations = []
        waiting = [operation]
        while waiting:
            current = waiting[-1]
            (a,), axes = current.inputs, current.attributes["axis"]
            if current is not operation and (a, axes) in self._parts:
                waiting.pop()
                continue
            terms, others = self._terms(current)
            missing = [x for x in terms if (x, axes) not in self._parts]
            if missing:
                waiting += [_sum_like(current, x) for x in reversed(missing)]
                continue
            waiting.pop()
            if terms:
                made = self._maker[a]
                inputs = [*(self._parts[x, axes] for x in terms), *others]
                given = made.what, inputs, made.attributes, current.outputs, current.rule
                written.append(Operation(*given))
            else:
                written.append(current)
            if current is not operation:
                self._parts[a, axes] = current.makes[0]
        return written

    def _terms(self, operation: Operation) -> tuple[Sequence[Value], Sequence[Input]]:
        """Return the Values to sum in place of the summed Value, and factors that leave the sum.

        Both are inputs of the operation that makes the summed Value. Both are empty if the sum
        cannot be split.
        """
        a: Value = operation.inputs[0]
        made, axes = self._maker.get(a), operation.attributes["axis"]
        if made is None:
            return (), ()

        def varies(x: Input) -> bool:
            if not isinstance(x, Value):
                return False
            shape = (1,) * (len(a.shape) - len(x.shape)) + x.shape
            return any(shape[i] != 1 for i in axes)

        whole = [isinstance(x, Value) and x.shape == a.shape for x in made.inputs]
        if made.what is ops.neg or (made.what in (ops.add, ops.sub) and all(whole)):
            return made.inputs, ()
        if made.what is ops.mul:
            for i in (0, 1):
                if whole[i] and not varies(made.inputs[1 - i]):
                    return made.inputs[i : i + 1], made.inputs[1 - i : 2 - i]
        return (), ()


def _sum_like(operation: Operation, x: Value) -> Operation:
    """Return a sum of x along the axes of another sum."""
    total = operation.makes[0]
    part = Value.like(total.label, total.shape, total.dtype)
    return Operation(operation.what, [x], operation.attributes, [part], operation.rule)
