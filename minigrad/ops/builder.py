"""The interface by which a primitive's decomposition writes operations for mg.compile.

An input of a decomposition is a number, None, or a Value: an array without elements, which has a
shape, a dtype and, if it is a constant, an `array`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from .primitive import Primitive


class Builder(Protocol):
    """Operations that take the place of one, whose outputs they make."""

    @property
    def result(self) -> Any:
        """The only output of the operation that is replaced."""

    @property
    def outputs(self) -> Sequence[Any]:
        """All its outputs, with None for those that nothing reads."""

    def __call__(
        self,
        what: Primitive,
        *inputs: Any,
        to: Any = None,
        like: Any = None,
        **attributes: Any,
    ) -> Any:
        """Write an operation, and return the Value that it makes.

        to: that Value, or a list of several, with None for those that nothing reads; like: or the
            shape and dtype of a new one. Without either, inputs are broadcast, or reduced along the
            attribute `axis`, in the dtype of the final result.
        """

    def new(self, name: str, shape: Sequence[int], dtype: Any) -> Any:
        """Return a new Value, for an operation to make."""

    def constant(self, array: Any) -> Any:
        """Return the Value of an array that is the same in each call."""

    def reshaped(self, x: Any, shape: Sequence[int], to: Any = None) -> Any:
        """Write x in another shape, which is a copy only where x does not lie in C order."""

    def cast(self, x: Any, dtype: Any) -> Any:
        """Write x in a dtype."""

    def spread(self, x: Any, shape: Sequence[int]) -> Any:
        """Write x broadcast to a shape."""
