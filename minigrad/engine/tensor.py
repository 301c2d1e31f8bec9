"""A Tensor holds an array, its gradient and the record that made it; `tensor` makes one."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..arrays import FLOAT32, as_array, checked, checked_dtype, to_ndarray
from ..checks import flag
from ..errors import DtypeError, GradError, ShapeError
from ..kernels.threading.pool import pool_for
from ..ops.inplace import COPY, Update
from ..ops.primitive import Operand
from ..types import Array
from .operators import Operators
from .tape import Record, bindings, grad_mode, stamp_change
from .tracer import compiling, refuse_in_trace, runs_again


class Tensor(Operators):
    """A Tensor is an array that remembers how it was computed; `mg.tensor` makes one.

    Operators and methods broadcast as in NumPy, and each result that depends on a Tensor with
    requires_grad has a record. Python numbers are weak: combined with them, float32 stays float32.

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
        """Wrap the array `data` without a copy or a check; users call `mg.tensor` instead."""
        self._data = data
        self._grad: Tensor | None = None
        self._requires_grad = False
        self._record: Record | None = None
        self._node: int | None = None  # the number of the record's output; None for a leaf
        self._base: Tensor | None = None  # the Tensor that owns the memory, if this is a view
        self._changed = 0  # when the memory was last changed in place, on the tape's clock

    # --- attributes -----------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """Return the array itself, not a copy; assigning to `data` counts as a change in place.

        Errors: ShapeError unless shape and dtype stay the same; TraceError inside mg.compile.
        """
        refuse_in_trace(".data")
        return self._data

    @data.setter
    def data(self, value: ArrayLike) -> None:
        refuse_in_trace("assigning to .data")
        new = checked(np.asarray(value), "Tensor.data")
        if new.shape != self.shape or new.dtype != self.dtype:
            raise ShapeError(
                f"Tensor.data: expected shape {self.shape} of {self.dtype}, got {new.shape} of "
                f"{new.dtype}; convert it, or make a new Tensor"
            )
        self._data = new
        bindings[0] = object()
        self.mark_changed()

    @property
    def grad(self) -> "Tensor | None":
        """Return the gradient that backward has accumulated, in this shape and dtype, or None."""
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
        """Return whether gradients flow to or through this Tensor.

        It can be set only for leaves, and to True only for floats. Errors: GradError, DtypeError.
        """
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self._record is not None:
            raise GradError("requires_grad: only leaves can be set; use .detach() for a constant")
        if value and self.dtype.kind != "f":
            raise DtypeError(f"requires_grad: only floats have gradients, got {self.dtype}")
        self._requires_grad = bool(value)
        bindings[0] = object()

    @property
    def is_leaf(self) -> bool:
        """Return whether no record made this Tensor; only leaves get a `.grad`."""
        return self._record is None

    shape = property(lambda self: self._data.shape, doc="Sizes of the dimensions.")
    ndim = property(lambda self: self._data.ndim, doc="Number of dimensions.")
    size = property(lambda self: self._data.size, doc="Number of elements.")
    dtype = property(lambda self: self._data.dtype, doc="NumPy dtype of the elements.")

    # --- values without the tape ----------------------------------------------------------------

    def numpy(self) -> Array:
        """Return the array itself, not a copy. Errors: TraceError inside mg.compile."""
        refuse_in_trace(".numpy()")
        return self._data

    def detach(self) -> "Tensor":
        """Return a constant that shares the memory; no gradient flows through it.

        >>> x = mg.tensor(3, requires_grad=True)
        >>> mg.grad(x * x.detach(), x)
        (tensor(3.),)
        """
        trace = compiling()
        return share(Tensor(self._data if trace is None else trace.data(self)), self)

    # --- differentiation ------------------------------------------------------------------------

    def backward(
        self,
        gradient: "Tensor | Array | None" = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add d(self)/d(leaf), weighted by `gradient`, to `.grad` of every leaf it depends on.

        gradient: the cotangent of self, in its shape; it may be left out for a single element.
        retain_graph: whether to keep the tape for another backward; None: keep it only with
            create_graph.
        create_graph: whether to record the backward pass, for higher derivatives. A leaf and its
            `.grad` then refer to each other until `.grad` is cleared; mg.grad makes no such cycle.
        Errors: ShapeError and DtypeError for a gradient that does not fit; GradError without a
        tape, for a tape that was freed, for several elements without a gradient, and if an array
        that a rule reads was changed in place. After an error no `.grad` has changed. The tape is
        kept, too, unless the pass stops midway, as an interrupt does.

        >>> x = mg.tensor([1, 2, 3], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> (x * x).backward(np.array([1.0, 0, 0]))  # adds 2 * x, weighted
        >>> x.grad
        tensor([4., 4., 6.])
        """
        _backward(self, gradient, retain_graph, create_graph)

    def requires_grad_(self, value: bool = True) -> "Tensor":
        """Set requires_grad to `value` and return self. Errors: GradError, DtypeError."""
        self.requires_grad = value
        return self

    # --- changes in place -----------------------------------------------------------------------

    def copy_(self, other: "TensorLike") -> "Tensor":
        """Overwrite the elements with those of `other`, broadcast and converted; return self.

        Errors: GradError on the result of an operation, or, unless in no_grad, on a Tensor that
        requires grad; ShapeError; DtypeError for floats into integers.
        """
        return self._overwrite(other, "copy_")

    def _overwrite(self, other: "TensorLike", name: str) -> "Tensor":
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
        new = other if isinstance(other, Tensor) else checked(to_ndarray(other, name), name)
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
        """Convert a leaf to another dtype; see Module.to."""
        refuse_in_trace("a conversion in place")
        self._data = self._data.astype(dtype)
        bindings[0] = object()
        self.mark_changed()

    def mark_changed(self) -> None:
        """Mark the memory as changed in place; a backward that would read it then raises."""
        mark_changed(self)

    # --- text and copies ------------------------------------------------------------------------

    def __repr__(self) -> str:
        refuse_in_trace("the text of a Tensor (repr, str, print)")
        name = type(self).__name__.lower()
        text = np.array2string(self._data, separator=", ", prefix=f"{name}(")
        dtype = "" if self.dtype == FLOAT32 else f", dtype={self.dtype}"
        return f"{name}({text}{dtype}{', requires_grad=True' if self._requires_grad else ''})"

    def __reduce__(self) -> tuple[object, ...]:
        """Support pickle and copy.deepcopy, which copy the data without tape and gradient."""
        refuse_in_trace("copying or pickling a Tensor")
        if self._record is not None:
            raise GradError("copy, pickle: only leaves can be copied; .detach() this one first")
        return _rebuild, (type(self), self._data.copy(), self._requires_grad)


# The inputs of public functions: arrays, numbers and nested lists become constant Tensors.
TensorLike: TypeAlias = Tensor | ArrayLike

# The type of the function that Tensor.backward calls, which backward.py defines.
Backward = Callable[[Tensor, Tensor | Array | None, bool | None, bool], None]
_backward: Backward


def set_backward(function: Backward) -> None:
    """Let Tensor.backward call `function`; backward.py registers its own here."""
    global _backward
    _backward = function


# Tensor and its subclasses; a test by type finds a Tensor among inputs quickly.
TENSORS: set[type] = {Tensor}


def _rebuild(cls: type[Tensor], data: Array, requires_grad: bool) -> Tensor:
    result = cls.__new__(cls)
    Tensor.__init__(result, data)
    result._requires_grad = requires_grad
    return result


def mark_changed(*changed: object) -> None:
    """Mark the Tensors among `changed` as changed in place, all at the same time of the clock."""
    mark_owners([x if x._base is None else x._base for x in changed if isinstance(x, Tensor)])


def mark_owners(owners: Sequence[Tensor]) -> None:
    """Mark Tensors that are no views as changed in place, all at the same time of the clock."""
    if owners:
        now = stamp_change()
        for x in owners:
            x._changed = now
            if x._record is not None:
                x._record.changed = True


def change(update: Update, *inputs: Operand) -> None:
    """Run an update in place on Tensors, arrays and numbers, and mark the Tensors that it changes.

    While a compiler traces, the update is recorded instead, and every compiled call runs it.
    """
    trace = compiling()
    if trace is None:
        _run(update, [x._data if isinstance(x, Tensor) else x for x in inputs])
    else:
        trace.update(update, *inputs)
    mark_changed(*[inputs[i] for i in update.changes])


def change_all(
    updates: Sequence[tuple[Update, Sequence[Operand]]], changed: Sequence[object]
) -> None:
    """Run updates in place with their inputs, in order, and mark the Tensors among `changed`.

    The inputs are arrays and numbers. While a compiler traces, the inputs may be Tensors, and the
    updates are recorded instead.
    """
    trace = compiling()
    if trace is None:
        for update, inputs in updates:
            _run(update, inputs)
    else:
        for update, inputs in updates:
            trace.update(update, *inputs)
    mark_changed(*changed)


def _run(update: Update, inputs: Sequence[Operand]) -> None:
    if update.flat:
        inputs = update.flattened(inputs)
    if update.threads:
        update.kernel(*inputs, pool_for(inputs[0].size))
    else:
        update.kernel(*inputs)


def change_or_restore(
    updates: Sequence[tuple[Update, Sequence[Operand]]], changed: Sequence[object]
) -> None:
    """Run updates like `change_all`; after an error, all arrays have their elements back."""
    arrays = [inputs[i] for update, inputs in updates for i in update.changes]
    copies = [array.copy() for array in arrays]
    try:
        change_all(updates, changed)
    except BaseException:
        for array, copy in zip(arrays, copies, strict=True):
            np.copyto(array, copy)
        raise


def share(view: Tensor, source: Tensor) -> Tensor:
    """Record that `view` shares the memory of `source`, and return `view`."""
    view._base = source if source._base is None else source._base
    return view


# --- making Tensors -----------------------------------------------------------------------------


def tensor(data: TensorLike, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Return a Tensor with a copy of `data`.

    Lists and Python numbers become float32, but lists of booleans stay boolean; arrays keep their
    dtype. dtype: float32, float64, bool or an integer type, to convert the data; None: as above.
    requires_grad: whether gradients flow to the Tensor. Errors: DtypeError for float16, complex,
    text or objects, and for integers with requires_grad; ShapeError for a ragged list.

    >>> mg.tensor([1, 2]), mg.tensor(np.array([1, 2])), mg.tensor([True]).dtype
    (tensor([1., 2.]), tensor([1, 2], dtype=int64), dtype('bool'))
    """
    if runs_again() and not isinstance(data, (Tensor, np.ndarray)):
        data = np.array(
            as_array(data, "tensor") if dtype is None else to_ndarray(data, "tensor"), dtype
        )
    if runs_again():  # copy by an operation, so that the trace records it
        x = as_tensor(data, "tensor").detach()
        copy = x.astype(x.dtype if dtype is None else dtype)
        return copy.requires_grad_(flag("tensor", "requires_grad", requires_grad))
    if isinstance(data, Tensor):
        data = data._data
    if dtype is None:
        given = as_array(data, "tensor")
    else:
        given, dtype = to_ndarray(data, "tensor"), checked_dtype(dtype, "tensor")
    if given.dtype.kind not in "biuf":
        checked(given, "tensor")  # NumPy would parse text and drop imaginary parts
    result = Tensor(checked(np.array(given, dtype, order="C"), "tensor"))
    if flag("tensor", "requires_grad", requires_grad):
        result.requires_grad = True
    return result


def as_tensor(x: TensorLike, name: str) -> Tensor:
    """Return x itself if it is a Tensor, else a constant, which shares the memory of an array x.

    name: the operation that errors name. Errors: those of `tensor`.
    """
    if isinstance(x, Tensor):
        return x
    if (trace := compiling()) is not None:
        return trace.tensor(x, name)
    return Tensor(as_array(x, name))
