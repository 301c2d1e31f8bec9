"""Running a program operation by operation in NumPy, by the forwards of its primitives: the meaning
that generated code must keep."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..apply import apply
from ..ops import Primitive
from ..ops.update import Update
from .program import Operation, Value


class Interpreter:
    """The arrays of Values, of which some are given and the others are computed.

    arrays: by Value; constants and states that are not among them have their own.
    """

    def __init__(self, arrays: Mapping[Value, Any]) -> None:
        self._arrays = dict(arrays)
        self.made: set[Value] = set()  # what operations have made

    def knows(self, x: Any) -> bool:
        """Whether the elements of an input are there."""
        return not isinstance(x, Value) or x in self._arrays or x.array is not None

    def array(self, x: Any) -> Any:
        """The array of a Value; a number or None as it is."""
        if not isinstance(x, Value):
            return x
        if x not in self._arrays:
            self._arrays[x] = np.asarray(x.array, x.dtype)
        return self._arrays[x]

    def run(self, operation: Operation) -> None:
        """Compute what the operation makes, or change what it changes. Errors: as eager."""
        given = [self.array(x) for x in operation.inputs]
        if isinstance(operation.what, Update):
            operation.what.kernel(*given)
            return
        with np.errstate(all="ignore"):
            result = apply(operation.what, *given, **operation.attributes)
        for v, array in zip(operation.outputs, results_of(operation.what, result), strict=True):
            if v is not None:
                self._arrays[v] = np.array(array, v.dtype)
                self.made.add(v)


def results_of(primitive: Primitive, result: Any) -> list[Any]:
    """All arrays that a forward has returned: the outputs, then what was saved."""
    if primitive.saves:
        y, saved = result
        return [y, *(saved if isinstance(saved, tuple) else (saved,))]
    return list(result) if primitive.outputs > 1 else [result]
