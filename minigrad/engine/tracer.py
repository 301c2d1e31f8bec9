"""A tracer takes the place of the engine: it applies the primitives of one thread or task.

The explainer's tracer computes as the engine does, and records how each result was made. The
tracer of mg.compile, a StepTracer, computes nothing: it records what a step does, so that the step
can run again.
"""

import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from ..errors import TraceError
from ..ops.inplace import Update
from ..ops.primitive import Attributes, Operand, Primitive

if TYPE_CHECKING:
    from .tape import Record
    from .tensor import Tensor, TensorLike

# An object in place of an array while a compiler traces: it has a shape and a dtype, but no
# elements. The type is Any, since a Tensor holds the object as its array.
StandIn: TypeAlias = Any
# A function that looks up an array, and may find another one in each call; None if it finds none.
Fetch: TypeAlias = Callable[[], Any]


class Tracer(Protocol):
    """A Tracer handles every primitive that its thread or task applies."""

    runs_again: bool  # whether this is a StepTracer

    def apply(
        self, primitive: Primitive, inputs: Sequence[Operand], attributes: Attributes
    ) -> Operand:
        """Apply the primitive, and return the result of its call."""


class StepTracer(Tracer, Protocol):
    """A StepTracer records a step for a compiler, so that it can run again with other values.

    A Tensor that a traced operation returns holds a stand-in instead of an array.
    """

    # During a backward pass: the primitive whose rule is running, and the position of the rule's
    # input (None for a rule for all inputs); None outside a backward pass.
    rule: tuple[Primitive, int | None] | None

    def data(self, x: "Tensor") -> StandIn:
        """Return the stand-in for the array of a Tensor, also if it comes from outside the step."""

    def tensor(self, x: "TensorLike", name: str) -> "Tensor":
        """Return an array, list or number as a Tensor; `name`: the operation that errors name."""

    def update(self, update: Update, *inputs: Operand) -> None:
        """Record an update in place of Tensors and arrays; the caller does not run it."""

    def reads_gradient(self, leaf: "Tensor") -> None:
        """Record that the step will read `.grad` of a leaf, or add to it."""

    def cleared(self, leaf: "Tensor") -> None:
        """Record that the step will overwrite `.grad` of a leaf."""

    def name_start(self, root: "Tensor", start: "Tensor") -> None:
        """Name the cotangent that a backward pass begins with after its result."""

    def name_cotangent(self, record: "Record", g: Operand, i: int, gx: "Tensor") -> None:
        """Name gx, which the rules of a record have made for input i, after the input."""

    def source(self, fetch: Fetch, name: str, owner: "Tensor | None" = None) -> StandIn:
        """Return the stand-in for an array that every call of the step gets from `fetch`."""

    def has_source(self, fetch: Fetch) -> bool:
        """Return whether the step has called `source` with an equal `fetch` before."""

    def guard(self, look: Callable[[], object]) -> None:
        """Make the trace valid only while `look` returns the same as now."""

    note_module: Callable[[object], None]  # called with each Module before the Module is called


# The tracer of this thread or task.
tracer: ContextVar[Tracer | None] = ContextVar("minigrad_tracer", default=None)


class tracing:
    """Inside the block, `trace` applies the primitives of this thread or task.

    trace: the tracer, or None for the engine. This is no generator, since one that an interrupt
    keeps from its end would restore the tracer later, when Python frees it.
    """

    def __init__(self, trace: Tracer | None) -> None:
        self._trace, self._before = trace, tracer.get()

    def __enter__(self) -> None:
        try:
            tracer.set(self._trace)
        except BaseException:  # after an interrupt here, Python does not call __exit__
            tracer.set(self._before)
            raise

    def __exit__(self, *_: object) -> None:
        tracer.set(self._before)


def compiling() -> StepTracer | None:
    """Return the tracer of a compiler that traces this thread or task, or None."""
    trace = tracer.get()
    return cast(StepTracer, trace) if trace is not None and trace.runs_again else None


def runs_again() -> bool:
    """Return whether a compiler traces this thread or task."""
    return compiling() is not None


# The end of an error message: why a step may not look at a value.
LOOKS = (
    "looks at a value, which differs from call to call, while the step is traced once; choose by "
    "mg.where, keep it as a Tensor, or do it outside the step"
)


def refuse_in_trace(what: str, why: str = LOOKS) -> None:
    """Raise a TraceError if a compiler traces this thread or task.

    what: the refused action. why: the rest of the message, the reason and a remedy.
    """
    if runs_again():
        file, line = users_line()
        raise TraceError(f"compile: {what}, in {file}, line {line}, {why}")


def users_line() -> tuple[str, int]:
    """Return the file and line of the user's code that called minigrad, directly or via NumPy."""
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__", "").partition(".")[0] in ("minigrad", "numpy"):
        if frame.f_back is None:
            break
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
