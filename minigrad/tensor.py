"""The Tensor: an array, its gradient and the record that made it; and how to make one.

May import tape, operators, ops and below.
"""

import builtins
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import ops
from .checks import flag
from .errors import DtypeError, GradError, ShapeError
from .operators import Operators
from .tape import Record, grad_mode, stamp_change

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
Array = NDArray[Any]


class Tensor(Operators):
    """An array that remembers how it was computed. Make one with `mg.tensor`.

    Operators and methods follow NumPy's broadcasting; each result that depends on a Tensor with
    requires_grad carries a record. Python numbers are weak: float32 stays float32.
    """

    __slots__ = (
        "__weakref__",
        "_base",
        "_changed",
        "_data",
        "_grad",
        "_node",
        "_record",
        "_requires_grad",
    )

    def __init_subclass__(cls) -> None:
        TENSORS.add(cls)

    def __init__(self, data: Array) -> None:
        """Wrap an array of supported dtype, unchecked and not copied; users call `mg.tensor`."""
        self._data = data
        self._grad: Tensor | None = None
        self._requires_grad = False
        self._record: Record | None = None
        self._node: int | None = None  # the record's number, plus which of its outputs this is
        self._base: Tensor | None = None  # whose memory this shares
        self._changed = 0  # when the memory was last changed in place, on the tape's clock

    # --- attributes -----------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The array itself, shared. Assigning to it counts as a change in place."""
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        new = checked(np.asarray(value), "Tensor.data")
        if new.shape != self.shape or new.dtype != self.dtype:
            raise ShapeError(
                f"Tensor.data: expected shape {self.shape} of {self.dtype}, got {new.shape} of "
                f"{new.dtype}; convert it, or make a new Tensor"
            )
        self._data = new
        self.mark_changed()

    @property
    def grad(self) -> "Tensor | None":
        """What backward has accumulated here, of this Tensor's shape and dtype, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: "Tensor | None") -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise DtypeError(
                    f"Tensor.grad: expected a Tensor or None, got {type(value).__name__}"
                )
            if value.shape != self.shape or value.dtype != self.dtype:
                raise ShapeError(
                    f"Tensor.grad: expected shape {self.shape} of {self.dtype}, got {value.shape} "
                    f"of {value.dtype}"
                )
        self._grad = value

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to or through this Tensor."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self._record is not None:
            raise GradError("requires_grad: only leaves can be set; use .detach() for a constant")
        if value and self.dtype.kind != "f":
            raise DtypeError(f"requires_grad: only floats have gradients, got {self.dtype}")
        self._requires_grad = bool(value)

    @property
    def is_leaf(self) -> bool:
        """Whether no record made this Tensor; only leaves get a `.grad`."""
        return self._record is None

    shape = property(lambda self: self._data.shape, doc="Sizes of the dimensions.")
    ndim = property(lambda self: self._data.ndim, doc="Number of dimensions.")
    size = property(lambda self: self._data.size, doc="Number of elements.")
    dtype = property(lambda self: self._data.dtype, doc="NumPy dtype of the elements.")

    # --- leaving the tape -----------------------------------------------------------------------

    def numpy(self) -> Array:
        """The array itself, shared, without a tape."""
        return self._data

    def item(self) -> Any:
        """The only element as a Python number. Errors: ShapeError if there is not just one."""
        if self._data.size != 1:
            raise ShapeError(f"item: expected one element, got shape {self.shape}")
        return self._data.item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return self._data.tolist()

    def detach(self) -> "Tensor":
        """The same memory as a constant: no gradient flows through it."""
        return _share(Tensor(self._data), self)

    def clone(self) -> "Tensor":
        """A copy through which gradients flow."""
        return self.astype(self.dtype)

    def astype(self, dtype: DTypeLike) -> "Tensor":
        """A copy in another dtype; gradients flow back in this one."""
        return ops.astype(self, dtype=checked_dtype(dtype, "astype"))  # type: ignore[no-any-return]

    def float(self) -> "Tensor":
        """A copy in float32."""
        return self.astype(FLOAT32)

    def double(self) -> "Tensor":
        """A copy in float64."""
        return self.astype(FLOAT64)

    # --- differentiation ------------------------------------------------------------------------

    def backward(
        self,
        gradient: "Tensor | Array | None" = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add d(self)/d(leaf), weighted by `gradient`, to `.grad` of every leaf it depends on.

        gradient: the cotangent of self, of its shape; may be left out for a single element.
        retain_graph: keep the tape for another backward (default: only with create_graph).
        create_graph: record the backward pass as well, for higher derivatives. A leaf and its
            `.grad` then hold each other until that is cleared; mg.grad has no such cycle.
        Errors: GradError without a tape, on a freed one, without a needed gradient, or if an
        input that a rule reads was changed in place; ShapeError. No `.grad` changes then, and the
        tape remains. What stops the walk itself (memory, an interrupt) leaves the tape freed.
        """
        raise NotImplementedError("importing minigrad.backward installs the walk")

    def requires_grad_(self, value: bool = True) -> "Tensor":
        """Set requires_grad and return self."""
        self.requires_grad = value
        return self

    # --- changes in place -----------------------------------------------------------------------

    def copy_(self, other: Any) -> "Tensor":
        """Overwrite the elements with those of `other`, broadcast and converted; returns self.

        Errors: GradError on the result of an operation, or, unless in no_grad, on a Tensor that
        requires grad; ShapeError; DtypeError for floats into integers.
        """
        return self._overwrite(other, "copy_")

    def _overwrite(self, other: Any, name: str) -> "Tensor":
        owner = self if self._base is None else self._base
        if owner._record is not None:
            raise GradError(
                f"{name}: this is (a view of) the result of an operation; make a new one"
            )
        if (self._requires_grad or owner._requires_grad) and grad_mode.get():
            raise GradError(
                f"{name}: a leaf that requires grad may change only inside mg.no_grad(); elsewhere "
                "make a new Tensor, as x = x + y does"
            )
        new = other._data if isinstance(other, Tensor) else checked(plain(other, name), name)
        if not np.can_cast(new.dtype, self.dtype, "same_kind"):
            raise DtypeError(
                f"{name}: cannot copy {new.dtype} into {self.dtype}; use .astype first"
            )
        try:
            np.copyto(self._data, new, casting="same_kind")
        except ValueError as error:
            raise ShapeError(f"{name}: {new.shape} does not fit {self.shape}: {error}") from error
        self.mark_changed()
        return self

    def convert_(self, dtype: DTypeLike) -> None:
        """Replace the elements of a leaf by themselves in another dtype; see Module.to."""
        self._data = self._data.astype(dtype)
        self.mark_changed()

    def mark_changed(self) -> None:
        """Note that the memory was changed in place: a backward that needs it as it was raises."""
        mark_changed(self)

    # --- Python's protocols ---------------------------------------------------------------------

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise ShapeError(
                f"bool: the truth of {self.size} elements (shape {self.shape}) is ambiguous; "
                "compare .numpy() with .any() or .all()"
            )
        return bool(self._data.item())

    def __float__(self) -> builtins.float:
        return builtins.float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise DtypeError(f"index: only an integer can be one, got {self.dtype}")
        return int(self.item())

    def __len__(self) -> int:
        if not self.ndim:
            raise DtypeError("len: a Tensor without dimensions has no length")
        return int(self.shape[0])

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy:
            return np.array(self._data, dtype)
        return np.asarray(self._data, dtype)

    def __repr__(self) -> str:
        name = type(self).__name__.lower()
        text = np.array2string(self._data, separator=", ", prefix=f"{name}(")
        dtype = "" if self.dtype == FLOAT32 else f", dtype={self.dtype}"
        return f"{name}({text}{dtype}{', requires_grad=True' if self._requires_grad else ''})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy.deepcopy: the data, not the tape or the gradient."""
        if self._record is not None:
            raise GradError("copy, pickle: only leaves can be copied; .detach() this one first")
        return _rebuild, (type(self), self._data.copy(), self._requires_grad)


# Tensor and what is derived from it: one look at the types of an operation's inputs tells whether
# there is a Tensor among them.
TENSORS: set[type] = {Tensor}


def _rebuild(cls: type[Tensor], data: Array, requires_grad: bool) -> Tensor:
    result = cls.__new__(cls)
    Tensor.__init__(result, data)
    result._requires_grad = requires_grad
    return result


def mark_changed(*changed: Any) -> None:
    """`Tensor.mark_changed` for several, at one time; arrays among them have no marks."""
    now = stamp_change()
    for x in changed:
        if isinstance(x, Tensor):
            (x if x._base is None else x._base)._changed = now


def _share(view: Tensor, source: Tensor) -> Tensor:
    view._base = source if source._base is None else source._base
    return view


# --- making Tensors -----------------------------------------------------------------------------


def tensor(data: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with a copy of `data`: lists and Python numbers become float32, arrays keep dtype.

    Lists of booleans stay boolean. Errors: DtypeError for float16, complex, text or objects, and
    for integers that should require grad; ShapeError for a ragged list.
    """
    if dtype is None:
        given = _as_array(data, "tensor")
    else:
        given, dtype = plain(data, "tensor"), checked_dtype(dtype, "tensor")
    if given.dtype.kind not in "biuf":
        checked(given, "tensor")  # NumPy would parse text and drop imaginary parts
    result = Tensor(checked(np.array(given, dtype), "tensor"))
    if flag("tensor", "requires_grad", requires_grad):
        result.requires_grad = True
    return result


def as_tensor(x: Any, name: str) -> Tensor:
    """x itself if it is a Tensor, else a constant that shares the memory of an array.

    Errors: as `tensor`, in the name of the operation that was given x.
    """
    return x if isinstance(x, Tensor) else Tensor(_as_array(x, name))


def checked(array: Array, name: str) -> Array:
    """The array, in native byte order. Errors: DtypeError unless float32/64, integer, boolean."""
    dtype = array.dtype
    if dtype.newbyteorder("=") in (FLOAT32, FLOAT64) or dtype.kind in "biu":
        return array if dtype.isnative else array.astype(dtype.newbyteorder("="))
    value = f" {array.item()!r:.40}" if array.ndim == 0 else ""
    raise DtypeError(
        f"{name}: {dtype}{value} is not supported; convert to float32 or float64 "
        "(integers and booleans serve as labels, indices and masks)"
    )


def checked_dtype(dtype: Any, name: str) -> "np.dtype[Any]":
    """The dtype of that name. Errors: DtypeError, as `checked`, or if there is none."""
    try:
        wanted = np.dtype(dtype)
    except TypeError as error:
        raise DtypeError(
            f"{name}: expected a dtype such as 'float32', got {dtype!r:.40} (devices have no name "
            "here: all is on the CPU)"
        ) from error
    return checked(np.empty(0, wanted), name).dtype


def plain(data: Any, name: str) -> Array:
    """np.asarray(data), of whatever dtype. Errors: ShapeError for a ragged list."""
    try:
        return np.asarray(data)
    except ValueError as error:
        raise ShapeError(f"{name}: rows of different lengths make no array: {error}") from error


def _as_array(data: Any, name: str) -> Array:
    """An ndarray (not copied if it is one already) of supported dtype."""
    array = checked(plain(data, name), name)
    if isinstance(data, (np.ndarray, np.generic, Tensor)) or array.dtype.kind == "b":
        return array
    return array.astype(FLOAT32)
