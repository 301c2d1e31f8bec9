"""The operators and methods of a Tensor call primitives, or functions made of primitives."""

import builtins
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from .. import ops
from ..arrays import FLOAT32, FLOAT64, checked_dtype
from ..errors import DtypeError, ShapeError
from ..ops.primitive import Operand
from ..types import Array
from .tape import grad_mode
from .tracer import refuse_in_trace

if TYPE_CHECKING:
    from .tensor import Tensor, TensorLike

# Functions and methods that return a Tensor; those of the first type have two operands.
Binary: TypeAlias = Callable[[Operand, "TensorLike"], "Tensor"]
Method: TypeAlias = Callable[..., "Tensor"]


def _binary(function: Method) -> Binary:
    return lambda self, other: function(self, other)


def _reflected(function: Method) -> Binary:
    return lambda self, other: function(other, self)


def _method(function: Method) -> Method:
    """Return the function unchanged, declared with the type of a method."""
    return function


def _unary(primitive: ops.Primitive) -> Method:
    def method(self: "Tensor") -> "Tensor":
        return primitive(self)

    method.__doc__ = f"{primitive.__doc__}; elementwise, see mg.{primitive.name}"
    return method


def _logical(primitive: ops.Primitive, symbol: str) -> Binary:
    """Return `~`, `&` or `|` for booleans.

    Integers are refused, since NumPy and PyTorch apply these operators to their bits.
    """

    def method(self: "Tensor", *other: "TensorLike") -> "Tensor":
        for x in (self, *other):
            dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
            if dtype.kind != "b":
                raise DtypeError(
                    f"{symbol}: expected booleans, got {dtype}; compare first, as in x != 0, or "
                    f"use mg.{primitive.name}, to which all but 0 is true"
                )
        return primitive(self, *other)

    return method


def _in_place(function: Method, symbol: str) -> Binary:
    """Return an operator such as `-=`, which overwrites a leaf, as in PyTorch.

    If the Tensor is the result of an operation, or if the new value requires grad, as in
    `total += loss`, the operator has Python's default meaning: the name is bound to a new Tensor.
    """

    name = f"{symbol}, which writes in place"

    def method(self: "Tensor", other: "TensorLike") -> "Tensor":
        if self._record is None and self._requires_grad and grad_mode.get():
            return self._overwrite(self, name)  # raises an error that asks for no_grad
        result = function(self, other)
        if self._record is not None or result._requires_grad:
            return result
        return self._overwrite(result, name)

    return method


class Operators:
    """Operators gives Tensor its operators and methods; mg's functions document each of them."""

    _data: Array  # a slot of the Tensor

    __slots__ = ()
    __array_ufunc__ = None  # so that ndarray * Tensor calls Tensor.__rmul__
    __hash__ = object.__hash__  # by identity, although == compares elements

    __add__, __radd__, __iadd__ = _binary(ops.add), _reflected(ops.add), _in_place(ops.add, "+=")
    __sub__, __rsub__, __isub__ = _binary(ops.sub), _reflected(ops.sub), _in_place(ops.sub, "-=")
    __mul__, __rmul__, __imul__ = _binary(ops.mul), _reflected(ops.mul), _in_place(ops.mul, "*=")
    __truediv__, __rtruediv__ = _binary(ops.div), _reflected(ops.div)
    __itruediv__ = _in_place(ops.div, "/=")
    __pow__, __rpow__, __ipow__ = _binary(ops.pow), _reflected(ops.pow), _in_place(ops.pow, "**=")
    __matmul__, __rmatmul__ = _binary(ops.matmul), _reflected(ops.matmul)
    __neg__, __abs__ = _unary(ops.neg), _unary(ops.abs)
    __eq__ = _binary(ops.equal)  # type: ignore[assignment]
    __ne__ = _binary(ops.not_equal)  # type: ignore[assignment]
    __lt__, __le__ = _binary(ops.less), _binary(ops.less_equal)
    __gt__, __ge__ = _binary(ops.greater), _binary(ops.greater_equal)
    __invert__ = _logical(ops.logical_not, "~")
    __and__ = __rand__ = _logical(ops.logical_and, "&")
    __or__ = __ror__ = _logical(ops.logical_or, "|")
    __getitem__ = _method(ops.getitem)

    abs, exp, log, sqrt = _unary(ops.abs), _unary(ops.exp), _unary(ops.log), _unary(ops.sqrt)
    tanh, sigmoid, relu = _unary(ops.tanh), _unary(ops.sigmoid), _unary(ops.relu)
    clip = _method(ops.clip)
    sum, mean = _method(ops.sum), _method(ops.mean)
    var, std = _method(ops.var), _method(ops.std)
    max, min = _method(ops.max), _method(ops.min)
    argmax, argmin = _method(ops.argmax), _method(ops.argmin)
    squeeze, unsqueeze = _method(ops.squeeze), _method(ops.unsqueeze)
    flatten, transpose = _method(ops.flatten), _method(ops.transpose)
    broadcast_to = _method(ops.broadcast_to)

    def reshape(self, *shape: int | Sequence[int]) -> "Tensor":
        """Return the elements in C order in another shape, given as ints or as one tuple.

        One size may be -1 and is then computed from the others. The result shares the memory of
        this Tensor if its strides allow. Errors: ShapeError for another number of elements.
        """
        y: Tensor = ops.reshape(self, _sizes(shape))
        return y

    def permute(self, *axes: int | Sequence[int]) -> "Tensor":
        """Return a view whose dimension i is dimension axes[i] of this Tensor.

        axes: ints, or one tuple of them. Errors: ArgumentError.
        """
        y: Tensor = ops.permute_dims(self, _sizes(axes))
        return y

    @property
    def T(self) -> "Tensor":
        """Return the transpose of a matrix. Errors: ShapeError unless there are two dimensions."""
        ndim = self._data.ndim
        if ndim != 2:
            raise ShapeError(f"T: expected 2 dimensions, got {ndim}; use .transpose or .permute")
        y: Tensor = ops.permute_dims(self, (1, 0))
        return y

    # --- conversions ----------------------------------------------------------------------------

    def clone(self) -> "Tensor":
        """Return a copy through which gradients flow."""
        return self.astype(self._data.dtype)

    def astype(self: Operand, dtype: DTypeLike) -> "Tensor":
        """Return a copy in another dtype; gradients flow back in the old. Errors: DtypeError."""
        y: Tensor = ops.astype(self, dtype=checked_dtype(dtype, "astype"))
        return y

    def float(self) -> "Tensor":
        """Return a copy in float32."""
        return self.astype(FLOAT32)

    def double(self) -> "Tensor":
        """Return a copy in float64."""
        return self.astype(FLOAT64)

    def item(self) -> Any:
        """Return the only element as a Python number.

        Errors: ShapeError unless there is exactly one; TraceError inside mg.compile.
        """
        if self._data.size != 1:
            raise ShapeError(f"item: expected one element, got shape {self._data.shape}")
        refuse_in_trace("a Tensor as a Python number (.item(), float, int)")
        return self._data.item()

    def tolist(self) -> Any:
        """Return the elements as nested lists of Python numbers."""
        refuse_in_trace(".tolist()")
        return self._data.tolist()

    # --- Python's protocols ---------------------------------------------------------------------

    def __bool__(self) -> bool:
        data = self._data
        if data.size != 1:
            raise ShapeError(
                f"bool: the truth of {data.size} elements (shape {data.shape}) is ambiguous; "
                "compare .numpy() with .any() or .all()"
            )
        refuse_in_trace("a Tensor as a condition (if, while, and, or, not)")
        return bool(data.item())

    def __float__(self) -> builtins.float:
        return builtins.float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self._data.dtype.kind not in "iu":
            raise DtypeError(f"index: only an integer can be one, got {self._data.dtype}")
        return int(self.item())

    def __len__(self) -> int:
        if not self._data.ndim:
            raise DtypeError("len: a Tensor without dimensions has no length")
        return int(self._data.shape[0])

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        refuse_in_trace("a Tensor as an array")
        if copy:
            return np.array(self._data, dtype)
        return np.asarray(self._data, dtype)


def _sizes(given: tuple[Any, ...]) -> Sequence[int]:
    return given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
