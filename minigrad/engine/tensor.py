"""The Tensor: an array, its gradient and the record that made it; and how to make one.

May import tape, operators, ops and below.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..arrays import FLOAT32, Array, as_array, checked, checked_dtype, plain
from ..checks import flag
from ..errors import DtypeError, GradError, ShapeError
from ..kernels.threading.pool import team_for
from ..ops.inplace import COPY, Update
from .operators import Operators
from .tape import Record, compiling, grad_mode, refuse_in_trace, runs_again, stamp_change


class Tensor(Operators):
    """An array that remembers how it was computed. Make one with `mg.tensor`.

    Operators and methods follow NumPy's broadcasting; each result that depends on a Tensor with
    requires_grad carries a record. Python numbers are weak: float32 stays float32.

    >>> x = mg.tensor([[1, 2], [3, 4]], requires_grad=True)
    >>> y = (x * x).sum(axis=0)
    >>> y.shape, y.dtype, y.is_leaf
    ((2,), dtype('float32'), False)
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
        """Wrap `data`, of supported dtype, unchecked and not copied; users call `mg.tensor`."""
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
        """The array itself, shared. Assigning to it counts as a change in place.

        Errors: ShapeError unless shape and dtype are the same; TraceError inside mg.compile.
        """
        refuse_in_trace(".data")
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        refuse_in_trace("assigning to .data")
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
        if (trace := compiling()) is not None:
            trace.reads_gradient(self)
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
        if (trace := compiling()) is not None:
            trace.cleared(self)
        self._grad = value

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to or through this Tensor.

        Only leaves of floats can be set. Errors: GradError, DtypeError.
        """
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
        """The array itself, shared, without a tape. Errors: TraceError inside mg.compile."""
        refuse_in_trace(".numpy()")
        return self._data

    def detach(self) -> "Tensor":
        """The same memory as a constant: no gradient flows through it.

        >>> x = mg.tensor(3, requires_grad=True)
        >>> mg.grad(x * x.detach(), x)
        (tensor(3.),)
        """
        return _share(Tensor(self._data), self)

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
        Errors: GradError without a tape, on a freed one, without a needed gradient, or if what a
        rule reads was changed in place; ShapeError. No `.grad` changes then, and the tape remains.
        What stops the walk itself (memory, an interrupt) leaves the tape freed.

        >>> x = mg.tensor([1, 2, 3], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> (x * x).backward(np.array([1.0, 0, 0]))  # adds 2 * x, weighted
        >>> x.grad
        tensor([4., 4., 6.])
        """
        raise NotImplementedError("importing minigrad.backward installs the walk")

    def requires_grad_(self, value: bool = True) -> "Tensor":
        """Set requires_grad to `value` and return self. Errors: GradError, DtypeError."""
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
            change(COPY, self, new)
        except ValueError as error:
            raise ShapeError(f"{name}: {new.shape} does not fit {self.shape}: {error}") from error
        return self

    def convert_(self, dtype: DTypeLike) -> None:
        """Replace the elements of a leaf by themselves in another dtype; see Module.to."""
        refuse_in_trace("a conversion in place")
        self._data = self._data.astype(dtype)
        self.mark_changed()

    def mark_changed(self) -> None:
        """Note that the memory was changed in place: a backward that needs it as it was raises."""
        mark_changed(self)

    # --- shown and copied -----------------------------------------------------------------------

    def __repr__(self) -> str:
        refuse_in_trace("the text of a Tensor (repr, str, print)")
        name = type(self).__name__.lower()
        text = np.array2string(self._data, separator=", ", prefix=f"{name}(")
        dtype = "" if self.dtype == FLOAT32 else f", dtype={self.dtype}"
        return f"{name}({text}{dtype}{', requires_grad=True' if self._requires_grad else ''})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy.deepcopy: the data, not the tape or the gradient."""
        refuse_in_trace("copying or pickling a Tensor")
        if self._record is not None:
            raise GradError("copy, pickle: only leaves can be copied; .detach() this one first")
        return _rebuild, (type(self), self._data.copy(), self._requires_grad)


# What functions take as a Tensor: arrays, numbers and nested lists become constants.
TensorLike: TypeAlias = Tensor | ArrayLike

# Returns the stored array of a Tensor, also while a compiler traces and `_data` shows a Value.
array_of = vars(Tensor)["_data"].__get__

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
    if not changed:
        return
    now = stamp_change()
    for x in changed:
        if isinstance(x, Tensor):
            owner = x if x._base is None else x._base
            owner._changed = now
            if owner._record is not None:
                owner._record.changed = True


def change(update: Update, *inputs: Any) -> None:
    """Run an update in place on Tensors, arrays and numbers, and mark the Tensors that it changes.

    While a compiler traces, the update is noted instead, to be run in each call.
    """
    if compiling() is None:
        given = [x._data if isinstance(x, Tensor) else x for x in inputs]
    else:
        given = list(inputs)
    change_all([(update, given)], [inputs[i] for i in update.changes])


def change_all(updates: Sequence[tuple[Update, Sequence[Any]]], changed: Sequence[Any]) -> None:
    """Run updates in place with their inputs, in order, and mark the Tensors among `changed`.

    The inputs are arrays and numbers or, while a compiler traces and the updates are noted instead,
    Tensors.
    """
    trace = compiling()
    if trace is None:
        for update, inputs in updates:
            if update.threads:
                update.kernel(*inputs, team_for(inputs[0].size))
            else:
                update.kernel(*inputs)
    else:
        for update, inputs in updates:
            trace.update(update, *inputs)
    mark_changed(*changed)


def _share(view: Tensor, source: Tensor) -> Tensor:
    view._base = source if source._base is None else source._base
    return view


# --- making Tensors -----------------------------------------------------------------------------


def tensor(data: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with a copy of `data`: lists and Python numbers become float32, arrays keep dtype.

    dtype: float32, float64, bool or integers, where another is wanted. requires_grad: whether
    gradients are to flow to it. Lists of booleans stay boolean. Errors: DtypeError for float16,
    complex, text or objects, and for integers that should require grad; ShapeError for a ragged
    list.

    >>> mg.tensor([1, 2]), mg.tensor(np.array([1, 2])), mg.tensor([True]).dtype
    (tensor([1., 2.]), tensor([1, 2], dtype=int64), dtype('bool'))
    """
    if runs_again() and not isinstance(data, (Tensor, np.ndarray)):
        data = np.array(as_array(data, "tensor") if dtype is None else plain(data, "tensor"), dtype)
    if runs_again():  # copy by an operation, so that the trace notes it
        x = as_tensor(data, "tensor").detach()
        copy = x.astype(x.dtype if dtype is None else dtype)
        return copy.requires_grad_(flag("tensor", "requires_grad", requires_grad))
    if isinstance(data, Tensor):
        data = data._data
    if dtype is None:
        given = as_array(data, "tensor")
    else:
        given, dtype = plain(data, "tensor"), checked_dtype(dtype, "tensor")
    if given.dtype.kind not in "biuf":
        checked(given, "tensor")  # NumPy would parse text and drop imaginary parts
    result = Tensor(checked(np.array(given, dtype, order="C"), "tensor"))
    if flag("tensor", "requires_grad", requires_grad):
        result.requires_grad = True
    return result


def as_tensor(x: Any, name: str) -> Tensor:
    """x itself if it is a Tensor, else a constant that shares the memory of an array.

    Errors: as `tensor`, in the name of the operation that was given x.
    """
    if isinstance(x, Tensor):
        return x
    if (trace := compiling()) is not None:
        return trace.tensor(x, name)  # type: ignore[no-any-return]
    return Tensor(as_array(x, name))
