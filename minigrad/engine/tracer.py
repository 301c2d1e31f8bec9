"""Tracers apply the primitives of a thread or task in the engine's place, for a tool.

The explainer's tracer computes as the engine does, and keeps what each result was made of. A
compiler's tracer, a StepTracer, computes nothing: it notes what a step does, to run it again.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..errors import TraceError
from ..ops.inplace import Update
from ..ops.primitive import Primitive

if TYPE_CHECKING:
    from .tensor import Tensor


class Tracer(Protocol):
    """What `tracing` takes: it is told of each primitive that the thread or task applies."""

    runs_again: bool  # whether this is a StepTracer

    def apply(self, primitive: Primitive, inputs: Sequence[Any], attributes: dict[str, Any]) -> Any:
        """Return what the call of the primitive is to return."""


class StepTracer(Tracer, Protocol):
    """The tracer of a compiler: what it notes will run again, with other values.

    In a Tensor that a traced operation has made, a stand-in takes the place of the array. It has a
    shape and a dtype, but no elements.
    """

    # In a backward pass: the primitive whose rule is running, and the position of the input that
    # the rule is for (None: for all inputs).
    rule: tuple[Primitive, int | None] | None

    def data(self, x: "Tensor") -> Any:
        """Return the stand-in for the array of any Tensor, one from outside the step as well."""

    def tensor(self, x: Any, name: str) -> "Tensor":
        """Return an array, list or number as a Tensor, for the operation `name`."""

    def update(self, update: Update, *inputs: Any) -> None:
        """Note an update in place of Tensors and arrays, which has not been run."""

    def reads_gradient(self, leaf: "Tensor") -> None:
        """Note that `.grad` of a leaf is about to be read, or added to."""

    def cleared(self, leaf: "Tensor") -> None:
        """Note that `.grad` of a leaf is about to be overwritten."""

    def source(self, fetch: Callable[[], Any], name: str, owner: "Tensor | None" = None) -> Any:
        """Return the stand-in for an array that `fetch` finds anew in each call of the step."""

    def has_source(self, fetch: Callable[[], Any]) -> bool:
        """Return whether the step has asked for this source before."""

    def guard(self, look: Callable[[], Any]) -> None:
        """Let the trace hold only as long as `look` returns what it returns now."""

    note_module: Callable[[Any], None]  # called with each Module that is about to be called


# The tracer of this thread or task.
tracer: ContextVar[Tracer | None] = ContextVar("minigrad_tracer", default=None)


@contextmanager
def tracing(trace: Tracer | None) -> Iterator[None]:
    """Within, let `trace` apply the primitives of this thread or task; None: the engine itself."""
    before = tracer.get()
    try:  # what is set is set back, also where an interrupt comes in the call that sets it
        tracer.set(trace)
        yield
    finally:
        tracer.set(before)


def compiling() -> StepTracer | None:
    """Return the tracer of a compiler that traces this thread or task, or None."""
    trace = tracer.get()
    return cast(StepTracer, trace) if trace is not None and trace.runs_again else None


def runs_again() -> bool:
    """Return whether a compiler traces this thread or task."""
    return compiling() is not None


# Why a step may not do something: the rest of a sentence.
LOOKS = (
    "looks at a value, which differs from call to call, while the step is traced once; choose by "
    "mg.where, keep it as a Tensor, or do it outside the step"
)


def refuse_in_trace(what: str, why: str = LOOKS) -> None:
    """Raise a TraceError while a compiler traces, for what would be decided once and for all."""
    if runs_again():
        file, line = users_line()
        raise TraceError(f"compile: {what}, in {file}, line {line}, {why}")


def users_line() -> tuple[str, int]:
    """Return file and line of the code that called minigrad, directly or through NumPy."""
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__", "").partition(".")[0] in ("minigrad", "numpy"):
        if frame.f_back is None:
            break
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
