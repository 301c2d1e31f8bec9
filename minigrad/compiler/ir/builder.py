"""A builder for operations that a pass writes in the place of one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import ops
from .program import Operation, Value
from .scalars import COMPARISONS

Shape = tuple[int, ...]


class Written:
    """Operations that take the place of one operation, `of`; the last of them makes its result.

    label: the ending of the names of new Values; left out, the name of the primitive.
    """

    def __init__(self, of: Operation, label: str | None = None) -> None:
        self.label = label
        self.operations: list[Operation] = []
        self.constants: list[Value] = []
        self.of = of

    @property
    def result(self) -> Value:
        """The result of the operation that they replace."""
        return self.of.makes[0]

    def __call__(
        self,
        what: str | ops.Primitive,
        *inputs: Any,
        to: Value | None = None,
        like: Any = None,
        **attributes: Any,
    ) -> Value:
        """Write an operation, and return the Value that it makes.

        to: that Value; like: or the shape and dtype of a new one. Without either, inputs are
            broadcast, or reduced along the attribute `axis`, in the dtype of the final result.
        """
        what = ops.TABLE[what] if isinstance(what, str) else what
        if to is None:
            shape, dtype = like or self._made(what.name, inputs, attributes)
            to = Value.like(f"{self.result.name}_{self.label or what.name}", shape, dtype)
        self.operations.append(Operation(what, inputs, attributes, [to], self.of.rule))
        return to

    def _made(self, name: str, inputs: Sequence[Any], attributes: dict[str, Any]) -> Any:
        shape = np.broadcast_shapes(*[x.shape for x in inputs if isinstance(x, Value)])
        if "axis" in attributes:
            axes = attributes["axis"]
            shape = tuple(1 if i in axes else n for i, n in enumerate(shape))
            attributes["keepdims"] = True
        return shape, bool if name in COMPARISONS else self.result.dtype

    def reshaped(self, x: Value, shape: Shape, to: Value | None = None) -> Value:
        """Write x in another shape, which is a copy only where x does not lie in C order."""
        if x.shape == shape and to is None:
            return x
        return self("reshape", x, to=to, like=(shape, x.dtype), shape=shape)

    def cast(self, x: Value, dtype: Any) -> Value:
        """Write x in a dtype."""
        if x.dtype == dtype:
            return x
        return self("astype", x, like=(x.shape, dtype), dtype=np.dtype(dtype))

    def spread(self, x: Value, shape: Shape) -> Value:
        """Write x broadcast to a shape."""
        if x.shape == shape:
            return x
        return self("broadcast_to", x, like=(shape, x.dtype), shape=shape)
