"""A primitive's decomposition writes operations for mg.compile with a Builder.

An input of a decomposition is a number, None, or a Value. A Value stands for an array: it has a
shape and a dtype, and its `array` holds the elements if it is a constant.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ..types import Array
from .elementwise import astype
from .primitive import Attribute, Primitive
from .shapes import _broadcast_to, _reshape

# An input of a decomposition. The type is Any, since ops may not import the compiler, which defines
# the class.
Value: TypeAlias = Any


class Builder(ABC):
    """A Builder writes operations that replace one operation and produce its outputs.

    mg.compile has the only implementation, in compiler/ir/builder.py.
    """

    @property
    @abstractmethod
    def result(self) -> Value:
        """Return the single output of the replaced operation."""

    @property
    @abstractmethod
    def outputs(self) -> Sequence[Value]:
        """Return all outputs of the replaced operation, with None for those that nothing reads."""

    @abstractmethod
    def __call__(
        self,
        what: Primitive,
        *inputs: Value,
        to: Value = None,
        like: tuple[Sequence[int], DTypeLike] | None = None,
        **attributes: Attribute,
    ) -> Value:
        """Write an operation, and return the Value that it produces.

        to: the Value to produce, or a list of several, with None for those that nothing reads.
        like: the shape and dtype of a new Value, instead of `to`.
        Without either, the new Value has the dtype of `result`, or bool for a comparison, and the
        broadcast shape of the inputs; along the attribute `axis`, the shape is reduced to units.
        """

    @abstractmethod
    def new(self, name: str, shape: Sequence[int], dtype: DTypeLike) -> Value:
        """Return a new Value that an operation will produce."""

    @abstractmethod
    def constant(self, array: Array) -> Value:
        """Return a Value for an array that is the same in every call."""

    def reshaped(self, x: Value, shape: Sequence[int], to: Value = None) -> Value:
        """Write x reshaped; this copies only if x is not in C order."""
        if x.shape == shape and to is None:
            return x
        return self(_reshape, x, to=to, like=(shape, x.dtype), shape=shape)

    def cast(self, x: Value, dtype: DTypeLike) -> Value:
        """Write x converted to a dtype."""
        if x.dtype == dtype:
            return x
        return self(astype, x, like=(x.shape, dtype), dtype=np.dtype(dtype))

    def spread(self, x: Value, shape: Sequence[int]) -> Value:
        """Write x broadcast to a shape."""
        if x.shape == shape:
            return x
        return self(_broadcast_to, x, like=(shape, x.dtype), shape=shape)
