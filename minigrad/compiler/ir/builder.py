"""The builder writes the operations by which a pass or a decomposition replaces another one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ...ops import Primitive, builder
from ...ops.primitive import Attribute, Attributes
from ...types import Array, Shape
from .program import Input, Operation, Value


class Builder(builder.Builder):
    """A Builder collects the operations that replace the operation `of`.

    The last of these operations makes the result of `of`. The class that it derives from documents
    the methods.

    label: the ending of the names of new Values (default: the name of the primitive).
    """

    def __init__(self, of: Operation, label: str | None = None) -> None:
        self.label = label
        self.operations: list[Operation] = []
        self.of = of
        self._constants = 0

    @property
    def result(self) -> Value:
        return self.of.makes[0]

    @property
    def outputs(self) -> Sequence[Value | None]:
        return self.of.outputs

    def __call__(
        self,
        what: Primitive,
        *inputs: Input,
        to: Value | list[Value | None] | None = None,
        like: tuple[Sequence[int], DTypeLike] | None = None,
        **attributes: Attribute,
    ) -> Any:
        if to is None:
            shape, dtype = like or self._made(what, inputs, attributes)
            to = self.new(f"{self.result.label}_{self.label or what.name}", shape, dtype)
        outputs = to if isinstance(to, list) else [to]
        self.operations.append(Operation(what, inputs, attributes, outputs, self.of.rule))
        return to

    def _made(
        self, what: Primitive, inputs: Sequence[Input], attributes: Attributes
    ) -> tuple[Shape, DTypeLike]:
        shape = np.broadcast_shapes(*[x.shape for x in inputs if isinstance(x, Value)])
        if "axis" in attributes:
            axes = attributes["axis"]
            shape = tuple(1 if i in axes else n for i, n in enumerate(shape))
            attributes["keepdims"] = True
        compares = what.scalar is not None and what.scalar.compares
        return shape, bool if compares else self.result.dtype

    def new(self, name: str, shape: Sequence[int], dtype: DTypeLike) -> Value:
        return Value.like(name, tuple(shape), dtype)

    def constant(self, array: Array) -> Value:
        name = f"{self.result.name}_index_{self._constants}"
        self._constants += 1
        return Value(name, np.ascontiguousarray(array).reshape(array.shape), "constant")
