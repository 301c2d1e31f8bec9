"""The tape: records of what was applied to what, their order, and the modes of recording.

There is no global list. A Tensor points at the record that made it, a record at its input
Tensors; the tape of a result is the records reachable from it, in order of their numbers.
Imports errors and ops only; knows a Tensor by its attributes.
"""

import inspect
import itertools
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import Any

from ..errors import DtypeError, TraceError
from ..ops.primitive import MAX_OUTPUTS

# One clock numbers records and dates changes in place, so that "changed after it was recorded"
# is one comparison. next() on it is atomic in CPython. In steps, so that a record's outputs have
# numbers of their own.
clock = itertools.count(MAX_OUTPUTS, MAX_OUTPUTS)
_last_change = 0
_stamping = threading.Lock()


# Another object as soon as a Tensor gets another array or requires_grad, or a Module another
# attribute, so that one comparison tells whether any has.
bindings: list[object] = [object()]


def stamp_change() -> int:
    """The time of a change in place, for the Tensor that was changed."""
    global _last_change
    with _stamping:  # so that no thread puts an older time over a newer one
        _last_change = next(clock)
        return _last_change


def last_change() -> int:
    """When any Tensor was last changed in place: later records need no check."""
    return _last_change


class Record:
    """One application of a primitive: y = primitive(*inputs, **attributes).

    inputs: Tensors, Python numbers or None, as given; arrays: the same with Tensors' arrays;
    y: what the forward returned, for rules that read it (the array, not the Tensor: a record that
    pointed at its Tensor would make a cycle). All are None once backward has freed the record.
    needs: positions of the inputs that gradients flow to.
    number: of its first output; the others have those that follow.
    changed: whether an output was changed in place since.
    scopes: what was being computed when this, the record of a result, was made, from inside out:
        (weak reference to a module, time of the call, (scopes around it)), or None.
    """

    __slots__ = (
        "arrays",
        "attributes",
        "changed",
        "inputs",
        "needs",
        "number",
        "primitive",
        "scopes",
        "y",
    )

    def __init__(
        self,
        primitive: Any,
        inputs: Any,
        arrays: Any,
        attributes: dict[str, Any],
        y: Any,
        needs: Sequence[int],
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.arrays = arrays
        self.attributes = attributes
        self.y = y
        self.needs = needs
        self.scopes: Any = None
        self.changed = False
        self.number = next(clock)

    def free(self) -> None:
        """Let go of inputs and output; the record itself remains, to tell that it is spent."""
        self.inputs = self.arrays = self.y = None
        self.needs = ()

    def __repr__(self) -> str:
        return f"<record {self.number}: {self.primitive.name}>"


def tape(roots: Iterable[Any]) -> list[Record]:
    """The records that the given Tensors were computed by, in order of their numbers.

    Iterative, so that a chain may be as long as memory allows. Records that backward has freed
    (inputs is None) are among them, but not what lay behind those.
    """
    found: dict[int, Record] = {}
    stack = [t._record for t in roots if t._record is not None]
    while stack:
        record = stack.pop()
        if record.number not in found:
            found[record.number] = record
            for i in record.needs:
                parent = record.inputs[i]._record
                if parent is not None:
                    stack.append(parent)
    return [found[number] for number in sorted(found)]


# --- modes: context variables, so that neither threads nor asyncio tasks see each other's -------

# True: operations are recorded. False: they are not. None: nor are there Tensors, only arrays, as
# within a backward pass that is not itself recorded.
grad_mode: ContextVar[bool | None] = ContextVar("minigrad_grad_mode", default=True)


# What collects the operations of this thread or task while a tool traces them; its `runs_again`
# tells whether they will run again with other values.
tracer: ContextVar[Any] = ContextVar("minigrad_tracer", default=None)


def compiling() -> Any:
    """Return the trace of a compiler that traces this thread or task, or None.

    What is applied during such a trace will run again with other values.
    """
    trace = tracer.get()
    return trace if trace is not None and trace.runs_again else None


def runs_again() -> bool:
    """Return whether a compiler traces this thread or task."""
    return compiling() is not None


# Why a step may not do something: the rest of a sentence.
LOOKS = (
    "looks at a value, which differs from call to call, while the step is traced once; choose by "
    "mg.where, keep it as a Tensor, or do it outside the step"
)


def refuse_in_trace(what: str, why: str = LOOKS) -> None:
    """Errors: TraceError while a compiler traces, for what would be decided once and for all."""
    if runs_again():
        file, line = users_line()
        raise TraceError(f"compile: {what}, in {file}, line {line}, {why}")


def users_line() -> tuple[str, int]:
    """File and line of what called minigrad, perhaps by way of NumPy."""
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__", "").partition(".")[0] in ("minigrad", "numpy"):
        if frame.f_back is None:
            break
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def is_grad_enabled() -> bool:
    """Whether operations are being recorded, in this thread or task."""
    return bool(grad_mode.get())


# The modes that the `with` blocks now open will restore, innermost first: (mode, (mode, ...)). It
# is kept here, not in the block's object, because threads may share one.
_before: ContextVar[Any] = ContextVar("minigrad_modes_before", default=None)


class _GradMode(ContextDecorator):
    """Sets the mode within a `with` block or a decorated function; may be nested and reused."""

    _enabled: bool

    def __new__(cls, function: Any = None) -> Any:
        """The mode; or, as a decorator without parentheses, the function decorated with it."""
        return super().__new__(cls) if function is None else cls()(function)

    def __enter__(self) -> "_GradMode":
        mode, rest = grad_mode.get(), _before.get()
        try:
            _before.set((mode, rest))
            grad_mode.set(self._enabled)
        except BaseException:  # an interrupt: the block is not entered, nor left
            grad_mode.set(mode)
            _before.set(rest)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        mode, rest = _before.get()
        grad_mode.set(mode)
        _before.set(rest)

    def __call__(self, function: Any) -> Any:
        if not callable(function):
            raise DtypeError(
                f"{type(self).__name__}: expected a function to decorate, got "
                f"{type(function).__name__}; a block begins `with mg.{type(self).__name__}():`"
            )
        if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
            raise DtypeError(
                f"{type(self).__name__}: {function.__name__} suspends, and a decorator would end "
                f"before its body runs; write `with {type(self).__name__}():` inside it"
            )
        return super().__call__(function)


class no_grad(_GradMode):
    """Nothing is recorded inside `with mg.no_grad():` or a `function` decorated with it.

    >>> x = mg.tensor(2, requires_grad=True)
    >>> with mg.no_grad():
    ...     y = x * x
    >>> y.requires_grad, (x * x).requires_grad
    (False, True)
    """

    _enabled = False


class enable_grad(_GradMode):
    """Recording inside `with mg.enable_grad():` or a `function` so decorated, also in no_grad."""

    _enabled = True
