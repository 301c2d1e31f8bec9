"""A checked call runs the compiled code, and also the function itself on the same data and state.

The numbers and other constants that eager operations get must be exactly those that the trace has
frozen; results, gradients and state must agree up to rounding. A difference raises an error that
names the operation.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ...arrays import as_array
from ...engine.tensor import Tensor, TensorLike, change
from ...engine.tracer import Fetch, StandIn, tracing
from ...errors import TraceError
from ...ops import TABLE, Primitive, random
from ...ops.inplace import Update
from ...ops.primitive import Attributes, Operand
from ...types import Array
from ..ir.interpreter import Interpreter, results_of
from ..ir.program import Value
from ..tracing.pytree import flatten, parts
from ..tracing.trace import Trace
from .differentiable import Differentiable
from .executable import Executable

Entry: TypeAlias = tuple[str, list[Array | None]]  # a primitive's name, and what it has returned


def run_checked(
    executable: Executable,
    run: Callable[[list[Array]], Any],
    arguments: list[Array],
    eager: Callable[[], object],
    title: str,
) -> Any:
    """Run the executable and the function, and return the executable's result if the two agree.

    run: a function that runs the executable; eager: a function that runs the user's function with
        the arguments of this call.

    Errors: TraceError if an operation gets another number, attribute or constant, or if results,
    gradients or state differ by more than rounding, and then nothing has changed; those of the two
    calls.
    """
    before = State(executable)
    states = {v: array.copy() for v, array in executable.states()}
    comparison = Comparison(executable)
    try:
        expected: list[Tensor] = []
        result = eager()
        flatten(result, expected)
        after, wanted = State(executable), [x._data.copy() for x in expected]
        before.put_back()
        with tracing(comparison):
            eager()
    finally:
        before.put_back()
    part = comparison.difference or _other_part(executable, result)
    if part is None:
        made = run(arguments)
        found: list[Tensor] = []
        flatten(made, found)
        now = State(executable)
        ours = [*(x._data for x in found), *now.elements()]
        theirs = [*wanted, *after.elements()]
        part = _other_gradient(executable, found)
        if part is None and all(map(close, ours, theirs)):
            return made
        random.set_state(before.random)
        noise = Noise(executable, arguments, states)
        random.set_state(now.random)
        values = [*executable.traced.results, *now.values(executable)]
        if part is None and all(map(noise.explains, values, ours, theirs)):
            return made
        before.put_back()
        log = Log()
        try:
            with tracing(log):
                eager()
            random.set_state(before.random)
            part = part or _where_they_part(
                executable, arguments, states, log.entries, wanted, after, noise
            )
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
            self._keep(primitive, given, attributes, result)
        return result

    def _keep(
        self,
        primitive: Primitive,
        inputs: Sequence[Operand],
        attributes: Attributes,
        result: Operand,
    ) -> None:
        found = [x._data if isinstance(x, Tensor) else x for x in results_of(primitive, result)]
        self.entries.append((primitive.name, [x if x is None else np.array(x) for x in found]))

    def update(self, update: Update, *inputs: Operand) -> None:
        """Run the update."""
        with tracing(None):
            change(update.in_any_order, *inputs)

    def source(self, fetch: Fetch, name: str, owner: Tensor | None = None) -> StandIn:
        """Return the array that `fetch` returns now."""
        self._sources[fetch] = array = fetch()
        return array


_ASTYPE = TABLE["astype"]


class Comparison(Log):
    """A Comparison is a Log that keeps no results, but looks for differences from the program.

    It compares the numbers, attributes and constants of each operation with those in the program,
    so that rounding hides no small difference, as long as both apply the same operations.

    difference: a sentence about the first difference, or None.
    """

    def __init__(self, executable: Executable) -> None:
        super().__init__()
        applied = [op for op in executable.traced.operations if op in executable.applied]
        self._expected = iter(
            [op for op in applied if op.what is not _ASTYPE or op.inputs[0].origin == "constant"]
        )
        self._constants: dict[int, Array] = {}  # by identity
        self.difference: str | None = None

    def tensor(self, x: TensorLike, name: str) -> Tensor:
        """Return x as a Tensor with its elements, and note that it is a constant."""
        made = super().tensor(x, name)
        self._constants[id(made._data)] = made._data
        return made

    def _keep(
        self,
        primitive: Primitive,
        inputs: Sequence[Operand],
        attributes: Attributes,
        result: Operand,
    ) -> None:
        if primitive is _ASTYPE and id(inputs[0]._data) not in self._constants:
            return  # the backward pass clones what an eager call has in another order in memory
        operation = next(self._expected, None)
        if operation is None or operation.what is not primitive:
            self._expected = iter(())
            return
        pairs = [*zip(operation.inputs, inputs, strict=True)]
        pairs += [(x, attributes.get(name)) for name, x in operation.attributes.items()]
        for frozen, now in pairs:
            if self.difference is None and not _is_same(frozen, now):
                self.difference = (
                    f"They part at {operation}: it has {_shown(frozen)} where eager has "
                    f"{_shown(now)}."
                )


def _result_parts(executable: Executable) -> list[tuple[str, object]]:
    """Return the parts of what the executable returns, with Values in place of Tensors."""
    return [*parts(executable.unflatten(executable.traced.results))]


def _other_part(executable: Executable, result: object) -> str | None:
    """Return a sentence about the first plain or missing part of the result that differs, or None.

    The elements of Tensors are not compared.
    """
    for (place, frozen), (_, now) in zip(_result_parts(executable), parts(result), strict=False):
        if isinstance(frozen, Value) and isinstance(now, Tensor):
            continue
        if type(frozen) is not type(now) or repr(frozen) != repr(now):
            return f"They part at {place}: it is {_part(frozen)} where eager has {_part(now)}."
    return None


def _part(x: object) -> str:
    if isinstance(x, tuple):
        return f"a {x[0].__name__} with {x[1]}"
    return "a Tensor" if isinstance(x, (Tensor, Value)) else f"{x!r:.60}"


def _is_same(frozen: object, now: object) -> bool:
    """Return whether an input or attribute of an operation is what the trace has frozen.

    Values that the program computes or looks up, and objects of unknown classes, count as the same.
    """
    now = now._data if isinstance(now, Tensor) else now
    frozen = frozen.array if isinstance(frozen, Value) and frozen.origin == "constant" else frozen
    if isinstance(frozen, np.ndarray) and isinstance(now, np.ndarray):
        return np.array_equal(frozen, now, equal_nan=frozen.dtype.kind == "f")
    if isinstance(frozen, (tuple, list)) and isinstance(now, (tuple, list)):
        return len(frozen) == len(now) and all(map(_is_same, frozen, now))
    if isinstance(frozen, slice) and isinstance(now, slice):
        parts = [(x.start, x.stop, x.step) for x in (frozen, now)]
        return _is_same(*parts)
    plain = (float, int, str, np.generic, type(None))
    if isinstance(frozen, plain) and isinstance(now, plain):
        return bool(frozen == now or (frozen != frozen and now != now))
    return True


def _shown(x: object) -> str:
    x = x._data if isinstance(x, Tensor) else x
    return f"other elements, shape {x.shape}," if hasattr(x, "shape") and x.shape else f"{x!r:.60}"


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
        buffers = [
            buffer
            for _, states in self._states
            for state in states.values()
            for buffer in state.values()
        ]
        self._buffers = [(x, x.copy()) for x in (*buffers, *executable.changed_constants())]
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

    def values(self, executable: Executable) -> list[Value | None]:
        """Return the Value in the traced program for each of `elements`, or None."""
        states = {id(array): v for v, array in executable.states()}
        gradients = {id(leaf): v for leaf, v in executable.traced.grads}
        return [
            *(states.get(id(x._data)) for x, _ in self._tensors),
            *(gradients.get(id(leaf)) for leaf, _, _ in self._gradients),
            *(states.get(id(buffer)) for buffer, _ in self._buffers),
        ]

    def of(self, x: Tensor) -> Array:
        """Return the copy of a Tensor's array."""
        return next(copy for tensor, copy in self._tensors if tensor is x)


SHAKEN = 8  # runs with other digits; a single run may happen to give the same result


class Noise:
    """Noise tells how far rounding alone may move each result of the traced program.

    To find out, it changes the last digits of all inputs, and sees how far the results move.
    Compiled code adds up in another order than eager code, so the two differ where a result is
    nothing but rounding, such as the gradient of a bias before BatchNorm.
    """

    def __init__(
        self, executable: Executable, arguments: list[Array], states: dict[Value, Array]
    ) -> None:
        draw = np.random.default_rng(0)

        given = dict(zip(executable.program.arguments, arguments, strict=True)) | states
        drawn = random.get_state()
        self._runs: list[Interpreter] = []
        for i in range(1 + SHAKEN):
            random.set_state(drawn)
            run = Interpreter({v: _shaken(a, draw) if i else np.copy(a) for v, a in given.items()})
            for operation in executable.traced.operations:
                run.run(operation)
            self._runs.append(run)

    def explains(self, v: Value | None, a: Array | None, b: Array | None) -> bool:
        """Return whether two arrays for v are equal up to rounding."""
        if v is None or v.dtype.kind != "f":
            return close(a, b)
        first, *others = [run.array(v) for run in self._runs]
        with np.errstate(all="ignore"):
            moved = np.abs(np.array(others) - first)
        return close(a, b, 64.0 * float(moved[np.isfinite(moved)].max(initial=0.0)))


def _shaken(a: Array, draw: np.random.Generator) -> Array:
    """Return a copy of an array with other last digits."""
    if a.dtype.kind != "f":
        return np.copy(a)
    digits = np.finfo(a.dtype).eps * draw.choice([-1.0, 1.0], a.shape)
    return np.asarray(a * (1.0 + digits), a.dtype)


def close(a: Array | None, b: Array | None, noise: float = 0.0) -> bool:
    """Return whether two arrays are equal up to rounding, relative to the largest element.

    noise: a difference that is allowed in addition.
    """
    if a is None or b is None:
        return a is b
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind != "f":
        return np.array_equal(a, b)
    finite = np.abs(b[np.isfinite(b)]).max(initial=0.0)
    unit = float(np.finfo(a.dtype).eps) ** 0.5
    return np.allclose(a, b, rtol=unit, atol=unit * float(finite) + noise, equal_nan=True)


def _other_gradient(executable: Executable, results: list[Tensor]) -> str | None:
    """Return a sentence about the first gradient that is another by the eager rules, or None.

    The cotangents are random. To find out how far rounding alone may move a gradient, their last
    digits are changed.
    """
    record = next((x._record for x in results if x._record is not None), None)
    if not isinstance(executable, Differentiable) or record is None or not executable.replayable:
        return None
    call, draw = record.y, np.random.default_rng(0)
    parts = [draw.standard_normal(a.shape).astype(a.dtype) for a in call.outputs]
    ours = executable.pull_compiled(call, parts) or ()
    first, *others = [
        executable.pull_again(call, [_shaken(g, draw) if i else g for g in parts])
        for i in range(1 + SHAKEN)
    ]
    for i, (a, b) in enumerate(zip(ours, first, strict=False)):
        moved = [0.0 if b is None else np.abs(other[i] - b).max(initial=0.0) for other in others]
        if not close(a, b, 64.0 * float(max(moved))):
            name = record.primitive.operands(len(record.inputs))[i]
            return f"The gradient of {name} is another one than by the eager rules."
    return None


def _where_they_part(
    executable: Executable,
    arguments: list[Array],
    states: dict[Value, Array],
    log: list[Entry],
    wanted: list[Array],
    after: State,
    noise: Noise,
) -> str:
    """Return a sentence that names the first operation with another result.

    First the traced program and its results are compared with the eager call, then the program
    after all passes with the traced one. If all agree, the machine code is to blame.
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
        for v, array in zip(operation.outputs, results, strict=True):
            if v is None or array is None:
                continue
            if not noise.explains(v, traced.array(v), array):
                return _told(operation, traced.array(v), array)
    if name := next(entries, ("",))[0]:
        return f"Eager goes on to {name} where the program has ended."
    for operation in executable.traced.operations:
        for v in operation.changes:
            owner = executable.owner(v)
            if owner is not None and not noise.explains(v, traced.array(v), after.of(owner)):
                return _told(operation, traced.array(v), after.of(owner))
    places = [place for place, x in _result_parts(executable) if isinstance(x, Value)]
    for place, v, array in zip(places, executable.traced.results, wanted, strict=True):
        if not noise.explains(v, traced.array(v), array):
            return _told(f"{place}, which is {v.name}", traced.array(v), array)
    random.set_state(drawn)
    passed = Interpreter({**given, **{v: a.copy() for v, a in states.items()}})
    for operation in executable.program.operations:
        passed.run(operation)
        for v in operation.makes:
            if v not in traced.made:
                continue
            if not noise.explains(v, passed.array(v), traced.array(v)):
                return (
                    f"The passes are to blame: {_told(operation, passed.array(v), traced.array(v))}"
                )
    return f"The machine code of {executable.path} is to blame: its program agrees with eager."


def _told(where: object, found: Array, wanted: Array) -> str:
    if found.shape != wanted.shape:
        return f"They part at {where}: shape {found.shape}, and {wanted.shape} eagerly."
    at = np.argwhere(~np.isclose(found, wanted, rtol=1e-4, atol=0.0, equal_nan=True))
    place = tuple(int(i) for i in at[0]) if len(at) else ()
    return f"They part at {where}: {found[place]!s} at {place}, and {wanted[place]!s} eagerly."
