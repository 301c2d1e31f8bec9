"""A checked call runs the compiled code, and also the function itself on the same data and state.

A difference raises an error that names the first operation with another result.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ...arrays import as_array
from ...engine.tensor import Tensor, TensorLike, change
from ...engine.tracer import Fetch, StandIn, tracing
from ...errors import TraceError
from ...ops import Primitive, random
from ...ops.inplace import Update
from ...ops.primitive import Attributes, Operand
from ...types import Array
from ..ir.interpreter import Interpreter, results_of
from ..ir.program import Operation, Value
from ..tracing.pytree import flatten
from ..tracing.trace import Trace
from .executable import Executable

Entry: TypeAlias = tuple[str, list[Array | None]]  # a primitive's name, and what it has returned


def run_checked(
    executable: Executable, arguments: list[Array], eager: Callable[[], object], title: str
) -> Any:
    """Run the executable and the function, and return the executable's result if the two agree.

    eager: a function that runs the user's function with the arguments of this call.

    Errors: TraceError if results, gradients or state differ by more than rounding, and then nothing
    has changed; those of the two calls.
    """
    before = State(executable)
    states = {v: array.copy() for v, array in executable.states()}
    try:
        expected: list[Tensor] = []
        flatten(eager(), expected)
        after, wanted = State(executable), [x._data.copy() for x in expected]
    finally:
        before.put_back()
    made = executable.run(arguments)
    found: list[Tensor] = []
    flatten(made, found)
    ours = [*(x._data for x in found), *State(executable).elements()]
    theirs = [*wanted, *after.elements()]
    if len(ours) == len(theirs) and all(map(close, ours, theirs)):
        return made
    before.put_back()
    log = Log()
    try:
        with tracing(log):
            eager()
        random.set_state(before.random)
        part = _where_they_part(executable, arguments, states, log.entries, after)
    finally:
        before.put_back()
    raise TraceError(
        f"compile: check: the compiled call of {title} differs from the eager one, and nothing has "
        f"been changed. {part} What the step reads in a way that mg.compile does not guard should "
        "become an argument (see its documentation); anything else is a fault of minigrad"
    )


class Log(Trace):
    """A Log is a tracer that computes the step, and keeps what each primitive has returned."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []

    def data(self, x: Tensor) -> StandIn:
        """Return the array of x."""
        return x._data

    def tensor(self, x: TensorLike, name: str) -> Tensor:
        """Return x as a Tensor with its elements."""
        return Tensor(as_array(x, name))

    def apply(
        self, primitive: Primitive, inputs: Sequence[Operand], attributes: Attributes
    ) -> Operand:
        """Apply the primitive, and keep copies of its results."""
        given = [self.lift(x, primitive.name) for x in inputs]
        with tracing(None):
            result = primitive(*given, **attributes)
        if any(isinstance(x, Tensor) for x in given):
            found = [x._data if isinstance(x, Tensor) else x for x in results_of(primitive, result)]
            self.entries.append((primitive.name, [x if x is None else np.array(x) for x in found]))
        return result

    def update(self, update: Update, *inputs: Operand) -> None:
        """Run the update."""
        with tracing(None):
            change(update, *inputs)

    def source(self, fetch: Fetch, name: str, owner: Tensor | None = None) -> StandIn:
        """Return the array that `fetch` returns now."""
        self._sources[fetch] = array = fetch()
        return array


class State:
    """A State holds copies of everything that a call of an executable may change."""

    def __init__(self, executable: Executable) -> None:
        self._tensors = [(x, x._data.copy()) for x in executable.tensors()]
        self._gradients = [
            (leaf, leaf._grad, None if leaf._grad is None else leaf._grad._data.copy())
            for leaf, _ in executable.program.grads
        ]
        self._states = [
            (optimizer, {p: dict(state) for p, state in optimizer.state.items()})
            for optimizer in executable.optimizers()
        ]
        self._buffers = [
            (buffer, buffer.copy())
            for _, states in self._states
            for state in states.values()
            for buffer in state.values()
        ]
        self.random = random.get_state()

    def put_back(self) -> None:
        """Restore everything from the copies."""
        for x, copy in self._tensors:
            if x._data.flags.writeable:
                np.copyto(x._data, copy)
        for leaf, gradient, elements in self._gradients:
            leaf._grad = gradient
            if gradient is not None and elements is not None:
                np.copyto(gradient._data, elements)
        for optimizer, states in self._states:
            optimizer.state.clear()
            optimizer.state.update({p: dict(state) for p, state in states.items()})
        for buffer, copy in self._buffers:
            np.copyto(buffer, copy)
        random.set_state(self.random)

    def elements(self) -> list[Array | None]:
        """Return all copies, in the same order for each State of one executable."""
        tensors = [copy for _, copy in self._tensors]
        gradients = [copy for _, _, copy in self._gradients]
        return [*tensors, *gradients, *(copy for _, copy in self._buffers)]

    def of(self, x: Tensor) -> Array:
        """Return the copy of a Tensor's array."""
        return next(copy for tensor, copy in self._tensors if tensor is x)


def close(a: Array | None, b: Array | None) -> bool:
    """Return whether two arrays are equal up to rounding, relative to the largest element."""
    if a is None or b is None:
        return a is b
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind != "f":
        return np.array_equal(a, b)
    finite = np.abs(b[np.isfinite(b)]).max(initial=0.0)
    unit = float(np.finfo(a.dtype).eps) ** 0.5
    return np.allclose(a, b, rtol=unit, atol=unit * float(finite), equal_nan=True)


def _where_they_part(
    executable: Executable,
    arguments: list[Array],
    states: dict[Value, Array],
    log: list[Entry],
    after: State,
) -> str:
    """Return a sentence that names the first operation with another result.

    First the traced program is compared with the eager call, then the program after all passes with
    the traced one. If all agree, the machine code is to blame.
    """
    drawn = random.get_state()
    given = dict(zip(executable.program.arguments, arguments, strict=True))
    traced = Interpreter({**given, **{v: a.copy() for v, a in states.items()}})
    entries = iter(log)
    for operation in executable.traced.operations:
        traced.run(operation)
        if operation not in executable.applied:
            continue
        name, results = next(entries, ("nothing", []))
        if name != operation.name:
            return f"Eager comes to {name} where the program has {operation}."
        for v, wanted in zip(operation.outputs, results, strict=True):
            if v is not None and wanted is not None and not close(traced.array(v), wanted):
                return _told(operation, traced.array(v), wanted)
    if name := next(entries, ("",))[0]:
        return f"Eager goes on to {name} where the program has ended."
    for operation in executable.traced.operations:
        for v in operation.changes:
            owner = executable.owner(v)
            if owner is not None and not close(traced.array(v), after.of(owner)):
                return _told(operation, traced.array(v), after.of(owner))
    random.set_state(drawn)
    passed = Interpreter({**given, **{v: a.copy() for v, a in states.items()}})
    for operation in executable.program.operations:
        passed.run(operation)
        for v in operation.makes:
            if v in traced.made and not close(passed.array(v), traced.array(v)):
                return (
                    f"The passes are to blame: {_told(operation, passed.array(v), traced.array(v))}"
                )
    return f"The machine code of {executable.path} is to blame: its program agrees with eager."


def _told(operation: Operation, found: Array, wanted: Array) -> str:
    if found.shape != wanted.shape:
        return f"They part at {operation}: shape {found.shape}, and {wanted.shape} eagerly."
    at = np.argwhere(~np.isclose(found, wanted, rtol=1e-4, atol=0.0, equal_nan=True))
    place = tuple(int(i) for i in at[0]) if len(at) else ()
    return f"They part at {operation}: {found[place]!s} at {place}, and {wanted[place]!s} eagerly."
