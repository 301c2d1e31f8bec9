"""The interpreter runs a program in NumPy: it calls the forward of each primitive in turn.

Generated code must compute what the interpreter computes.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...engine.tensor import change
from ...ops import Primitive
from ...ops.inplace import Update
from ...ops.primitive import Operand
from ...types import Array
from .live_numbers import plain
from .program import Input, Operation, Value


class Interpreter:
    """An Interpreter has the arrays of Values: some are given, and `run` computes the others.

    arrays: the given arrays, by Value; other constants and states keep their own arrays.
    """

    def __init__(self, arrays: Mapping[Value, Array]) -> None:
        self._arrays = dict(arrays)
        self.made: set[Value] = set()  # the results that are computed

    def knows(self, x: Input) -> bool:
        """Return whether the elements of an input are known."""
        return not isinstance(x, Value) or x in self._arrays or x.array is not None

    def array(self, x: Input) -> Operand:
        """Return the array of a Value, and a number or None as it is."""
        if not isinstance(x, Value):
            return plain(x)
        if x not in self._arrays:
            self._arrays[x] = np.asarray(x.array, x.dtype)
        return self._arrays[x]

    def run(self, operation: Operation) -> None:
        """Compute the results of an operation, or make an update. Errors: as in an eager call."""
        given = [self.array(x) for x in operation.inputs]
        if isinstance(operation.what, Update):
            change(operation.what.in_any_order, *given)
            return
        with np.errstate(all="ignore"):
            result = operation.what(*given, **operation.plain_attributes)
        self.note(operation, results_of(operation.what, result))

    def note(self, operation: Operation, results: Sequence[Operand]) -> None:
        """Note copies of the results of an operation."""
        for v, array in zip(operation.outputs, results, strict=True):
            if v is not None:
                self._arrays[v] = np.array(array, v.dtype)
                self.made.add(v)


def results_of(primitive: Primitive, result: Operand) -> list[Operand]:
    """Return the result of a forward, or Values for it, as a list: outputs, then residuals."""
    outputs, residuals = primitive.unpack(result)
    return [*outputs, *(residuals if isinstance(residuals, tuple) else (residuals,))]
