"""The builder writes the operations by which a pass or a decomposition replaces another one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ... import ops
from ...ops.primitive import Attribute, Attributes
from ...types import Array, Shape
from .program import Input, Operation, Value

_RESHAPE, _BROADCAST_TO = ops.TABLE["reshape"], ops.TABLE["broadcast_to"]


class Builder:
    """A Builder collects the operations that replace the operation `of`.

    The last of these operations makes the result of `of`. Decompositions in ops write with a
    Builder, and ops documents its methods.

    label: the ending of the names of new Values (default: the name of the primitive).
    """

    def __init__(self, of: Operation, label: str | None = None) -> None:
        self.label = label
        self.operations: list[Operation] = []
        self.of = of
        self._constants = 0

    @property
    def result(self) -> Value:
        """Return the result of the operation that is replaced."""
        return self.of.makes[0]

    @property
    def outputs(self) -> Sequence[Value | None]:
        """Return all outputs of the operation that is replaced."""
        return self.of.outputs

    def __call__(
        self,
        what: ops.Primitive,
        *inputs: Input,
        to: Value | list[Value | None] | None = None,
        like: tuple[Sequence[int], DTypeLike] | None = None,
        **attributes: Attribute,
    ) -> Any:
        """Write an operation, and return the Value that it makes."""
        if to is None:
            shape, dtype = like or self._made(what, inputs, attributes)
            to = self.new(f"{self.result.name}_{self.label or what.name}", shape, dtype)
        outputs = to if isinstance(to, list) else [to]
        self.operations.append(Operation(what, inputs, attributes, outputs, self.of.rule))
        return to

    def _made(
        self, what: ops.Primitive, inputs: Sequence[Input], attributes: Attributes
    ) -> tuple[Shape, DTypeLike]:
        shape = np.broadcast_shapes(*[x.shape for x in inputs if isinstance(x, Value)])
        if "axis" in attributes:
            axes = attributes["axis"]
            shape = tuple(1 if i in axes else n for i, n in enumerate(shape))
            attributes["keepdims"] = True
        compares = what.scalar is not None and what.scalar.compares
        return shape, bool if compares else self.result.dtype

    def new(self, name: str, shape: Sequence[int], dtype: DTypeLike) -> Value:
        """Return a new Value that an operation can make."""
        return Value.like(name, tuple(shape), dtype)

    def constant(self, array: Array) -> Value:
        """Return the Value of an array that is the same in each call."""
        name = f"{self.result.name}_index_{self._constants}"
        self._constants += 1
        return Value(name, np.ascontiguousarray(array).reshape(array.shape), "constant")

    def reshaped(self, x: Value, shape: Sequence[int], to: Value | None = None) -> Any:
        """Write x in another shape, and return the result, a copy only if x is not in C order."""
        if x.shape == shape and to is None:
            return x
        return self(_RESHAPE, x, to=to, like=(shape, x.dtype), shape=shape)

    def cast(self, x: Value, dtype: DTypeLike) -> Any:
        """Write x in another dtype, and return the result."""
        if x.dtype == dtype:
            return x
        return self(ops.astype, x, like=(x.shape, dtype), dtype=np.dtype(dtype))

    def spread(self, x: Value, shape: Sequence[int]) -> Any:
        """Write x broadcast to a shape, and return the result."""
        if x.shape == shape:
            return x
        return self(_BROADCAST_TO, x, like=(shape, x.dtype), shape=shape)
