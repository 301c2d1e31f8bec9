"""Operations that a pass writes in the place of one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from .program import Operation, Value
from .scalars import COMPARISONS

Shape = tuple[int, ...]


class Written:
    """Operations that take the place of one, `of`; the last of them makes its result.

    label: what new Values are called behind the name of the result, if not as what makes them.
    """

    def __init__(self, of: Operation, label: str | None = None) -> None:
        self.label = label
        self.operations: list[Operation] = []
        self.constants: list[Value] = []
        self.of = of

    @property
    def result(self) -> Value:
        """What they are to make."""
        return self.of.makes[0]

    def __call__(
        self,
        what: str | ops.Primitive,
        *inputs: Any,
        to: Value | None = None,
        like: Any = None,
        **attributes: Any,
    ) -> Value:
        """Write an operation and return what it makes: `to`, or a Value of a shape and dtype
        `like`, or what comes of broadcasting or reducing inputs in the dtype of the result."""
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
        """x under another shape; which costs nothing, except where it lies in another order."""
        if x.shape == shape and to is None:
            return x
        return self("reshape", x, to=to, like=(shape, x.dtype), shape=shape)

    def cast(self, x: Value, dtype: Any) -> Value:
        """x in a dtype."""
        if x.dtype == dtype:
            return x
        return self("astype", x, like=(x.shape, dtype), dtype=np.dtype(dtype))

    def spread(self, x: Value, shape: Shape) -> Value:
        """x broadcast."""
        if x.shape == shape:
            return x
        return self("broadcast_to", x, like=(shape, x.dtype), shape=shape)
