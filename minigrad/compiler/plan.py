"""A plan: one trace, compiled, with memory for arguments of given shapes; and its run."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import TraceError
from ..kernels.memory import empty
from ..kernels.threads import team
from ..tensor import Tensor, mark_changed
from . import build
from .emit import emit
from .functions import Code
from .passes import optimised
from .program import Operation, Program, Value
from .trace import Trace

LINE = 64  # bytes: arrays begin with a line of the cache


def laid_out(sizes: Sequence[int], lives: Sequence[tuple[int, float]]) -> tuple[list[int], int]:
    """Where pieces of a block begin, so that none overlaps another that lives at the same time,
    and the size of the block: each in turn at the first place that is free, the largest first."""
    starts = [0] * len(sizes)
    placed: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda k: -sizes[k]):
        first, last = lives[i]
        beside = [k for k in placed if lives[k][0] <= last and first <= lives[k][1]]
        start = 0
        for k in sorted(beside, key=lambda k: starts[k]):
            if start + sizes[i] <= starts[k]:
                break
            start = max(start, starts[k] + sizes[k])
        starts[i] = start
        placed.append(i)
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    return starts, max(ends, default=0)


class Plan:
    """What runs instead of the traced function, as long as `holds()`.

    rebuild: makes the function's result of the Tensors that the program returns.
    """

    def __init__(
        self,
        trace: Trace,
        results: Sequence[Tensor],
        rebuild: Callable[[Sequence[Tensor]], Any],
        title: str,
    ) -> None:
        began = time.perf_counter()
        self.traced = trace.program(results)
        self.program: Program = optimised(self.traced)
        self.emitted = emit(self.program, title)
        self.module, self.path = build.load(self.emitted.source, title)
        self._rebuild, self._guards = rebuild, trace.guards
        self._owners = trace.owners
        self._tensors: list[tuple[Tensor, Any, bool, Value]] = []
        self._fetches: list[tuple[Callable[[], Any], Any, Value]] = []
        self._place_of = {id(v): i for i, v in enumerate(self.emitted.places)}
        self._arrays: dict[int, Any] = {}
        self.built: dict[str, tuple[str, float]] = {}  # what Numba did for each function
        self._batch: list[Any] | None = None  # arguments that run_rows gathers
        self._written = {id(v) for op in self.program.operations for v in op.changes}
        self._reserve()
        self._draws = [self._draw(operation) for operation in self.emitted.draws]
        self._steps = [self._step(step) for step in self.emitted.steps]
        self._sizes = np.array(self.emitted.sizes, np.int64)
        self._numbers = np.array(self.emitted.numbers, np.float64)
        self._changed = self._changed_tensors(trace)
        self._grads = [self._gradient(leaf, v) for leaf, v in self.program.grads]
        self._results = [self._result(v) for v in self.program.results]
        self.compile_seconds = time.perf_counter() - began

    # --- memory --------------------------------------------------------------------------------

    def _reserve(self) -> None:
        """An array for each place: the user's, or a piece of one block."""
        places = self.emitted.places
        own = [v for v in places if v.origin == "result"]
        sizes = [-(-v.dtype.itemsize * math.prod(v.shape) // LINE) * LINE for v in own]
        keep = {id(self.emitted.aliases.root(v)) for v in self.program.wanted}
        ends = {i: math.inf if i in keep else last for i, (_, last) in self.emitted.lives.items()}
        lives = [(self.emitted.lives[id(v)][0], ends[id(v)]) for v in own]
        starts, self.buffer_bytes = laid_out(sizes, lives)
        total = self.buffer_bytes
        self._block = empty((max(total, 1) + LINE,), np.dtype(np.uint8))
        first = -self._block.__array_interface__["data"][0] % LINE
        for v, start in zip(own, starts, strict=True):
            count = int(np.prod(v.shape))
            piece = self._block[first + start : first + start + count * v.dtype.itemsize]
            self._arrays[id(v)] = piece.view(v.dtype).reshape(v.shape)
        self._places = np.zeros(len(places), np.int64)
        for v in self.program.values():
            if v.origin in ("state", "constant"):
                self._arrays[id(v)] = v.array
        for i, v in enumerate(places):
            if v.origin != "result":
                outer: Any = v.array
                if not outer.flags.c_contiguous:
                    raise TraceError(
                        f"compile: {v.name}, of shape {v.shape}, does not lie in C order; make it "
                        "contiguous by np.ascontiguousarray"
                    )
            self._places[i] = self._arrays[id(v)].__array_interface__["data"][0]
        states = [v for v in self.program.values() if v.origin in ("state", "constant")]
        if _overlap([(v.array, id(v) in self._written) for v in states]):
            names = ", ".join(v.name for v in states if id(v) in self._written)
            raise TraceError(
                f"compile: of {names}, which the step changes in place, one shares memory with "
                "another array that it uses; give each an array of its own"
            )
        self._note_states()

    def array(self, v: Value, arguments: Sequence[Any]) -> Any:
        """Where the elements of a Value are."""
        known = self._arrays.get(id(v))
        if known is not None:
            return known
        for argument, value in zip(arguments, self.program.arguments, strict=True):
            if value is v:
                return argument
        view = self.emitted.aliases.of.get(id(v))
        if view is None:  # nothing generated has read or made it: an outer array as it is
            self._arrays[id(v)] = v.array if v.array is not None else np.empty(v.shape, v.dtype)
            return self._arrays[id(v)]
        base = self.array(view.inputs[0], arguments)
        return view.what.forward(base, **view.attributes)  # type: ignore[union-attr]

    # --- running -------------------------------------------------------------------------------

    def holds(self) -> bool:
        """Whether what the trace has seen of its surroundings is still so; takes note of arrays
        that others have replaced."""
        for x, array, needs, _ in self._tensors:  # here each tenth of a microsecond tells
            if x._data is not array or x._requires_grad is not needs:
                return self._holds_again()
        for fetch, array, _ in self._fetches:
            try:
                if fetch() is not array:
                    return self._holds_again()
            except Exception:  # what was there is gone
                return False
        for look, seen in self._guards:  # noqa: SIM110  (all() of a generator takes 0.4 us more)
            if look() != seen:
                return False
        return True

    def _holds_again(self) -> bool:
        """With other arrays in the places of some, if they fit."""
        try:
            found = [(fetch(), array, v) for fetch, array, v in self._fetches]
        except Exception:
            return False
        found += [(x._data, array, v) for x, array, _, v in self._tensors]
        for now, array, _ in found:
            if now is not array:
                fits = isinstance(now, np.ndarray) and now.flags.carray
                if not fits or now.shape != array.shape or now.dtype != array.dtype:
                    return False
        if any(x._requires_grad is not needs for x, _, needs, _ in self._tensors):
            return False
        if any(look() != seen for look, seen in self._guards):
            return False
        if _overlap([(now, id(v) in self._written) for now, _, v in found]):
            return False
        for now, array, v in found:
            if now is not array:
                self._arrays[id(v)] = now
                if id(v) in self._place_of:
                    self._places[self._place_of[id(v)]] = now.__array_interface__["data"][0]
        self._note_states()
        return True

    def _note_states(self) -> None:
        """What `holds` compares, as it is now."""
        self._tensors, self._fetches = [], []
        for v in self.program.values():
            if id(v) in self._owners:
                x = self._owners[id(v)]
                self._tensors.append((x, self._arrays[id(v)], x._requires_grad, v))
            elif v.fetch is not None:
                self._fetches.append((v.fetch, self._arrays[id(v)], v))

    def run(self, arguments: Sequence[Any]) -> Any:
        """One call, with arrays in C order. Errors: those of the operations."""
        for draw in self._draws:
            draw()
        for step in self._steps:
            step(arguments)
        for leaf, gradient in self._grads:
            leaf._grad = gradient(arguments)
        mark_changed(*self._changed)
        return self._rebuild([result(arguments) for result in self._results])

    def run_rows(self, whole: Sequence[Any], rows: Any) -> Any:
        """A call for each row of `rows`, the sample numbers of a batch: what they return, as an
        array. whole: for each argument the array that it is gathered from; see `epoch` of emit."""
        code = self.emitted.steps[0]
        assert isinstance(code, Code)
        compiled = build.function(self.module, "epoch")
        order = self._order(code)
        if self._batch is None:
            self._batch = [np.empty(v.shape, v.dtype) for v in self.program.arguments]
        batch = [self._batch[i] for i in order]
        values = np.zeros(len(rows), self.program.results[0].dtype)
        tables = self._tables()
        given = (*[whole[i] for i in order], *batch, rows, *tables, values)
        if "epoch" not in self.built:
            self.built["epoch"] = build.prepare(compiled, given)
        done, status = compiled(*given)
        for leaf, gradient in self._grads:
            leaf._grad = gradient(self._batch)
        mark_changed(*self._changed)
        if status >= 0:
            self._refuse(status, [a.take(rows[done], axis=0) for a in whole])
        return values

    def _tables(self) -> tuple[Any, ...]:
        """What generated functions get besides the user's arguments."""
        return self._places, self._sizes, self._numbers, team()

    def _order(self, code: Code) -> list[int]:
        """Which of the program's arguments a function takes."""
        given = self.program.arguments
        return [next(i for i, v in enumerate(given) if v is a) for a in code.arguments]

    def _step(self, step: Code | Operation) -> Callable[[Sequence[Any]], None]:
        if isinstance(step, Operation):
            return lambda arguments: self._by_python(step, arguments)
        compiled = build.function(self.module, step.name)
        order = self._order(step)

        def call(arguments: Sequence[Any]) -> None:
            given = [arguments[i] for i in order]
            if step.name not in self.built:
                self.built[step.name] = build.prepare(compiled, (*given, *self._tables()))
            status = compiled(*given, self._places, self._sizes, self._numbers, team())
            if status >= 0:
                self._refuse(status, arguments)

        return call

    def _forward(self, operation: Operation, arguments: Sequence[Any]) -> Any:
        given = [self.array(x, arguments) if isinstance(x, Value) else x for x in operation.inputs]
        with np.errstate(all="ignore"):
            return operation.what.forward(*given, **operation.attributes)  # type: ignore[union-attr]

    def _by_python(self, operation: Operation, arguments: Sequence[Any]) -> None:
        """An operation that generated code does not know, by its forward."""
        result = self._forward(operation, arguments)
        for v, array in zip(operation.outputs, _flat(result, operation), strict=True):
            if v is not None:
                np.copyto(self.array(v, arguments), array, casting="unsafe")

    def _draw(self, operation: Operation) -> Callable[[], Any]:
        """What draws random numbers, as the primitive does."""
        (v,) = operation.makes
        array = self.array(v, ())
        return lambda: np.copyto(array, operation.what.forward(**operation.attributes))  # type: ignore[union-attr]

    def _refuse(self, status: int, arguments: Sequence[Any]) -> None:
        """Raise the error for an operation that generated code has refused: its forward's."""
        self._forward(self.emitted.checked[status], arguments)
        raise TraceError(f"compile: {self.emitted.checked[status]} was refused")

    # --- what comes of it ----------------------------------------------------------------------

    def _changed_tensors(self, trace: Trace) -> list[Tensor]:
        found: dict[int, Tensor] = {}
        for operation in self.program.operations:
            for v in operation.changes:
                if id(v) in trace.owners:
                    found[id(v)] = trace.owners[id(v)]
        return list(found.values())

    def _gradient(
        self, leaf: Tensor, v: Value | None
    ) -> tuple[Tensor, Callable[[Sequence[Any]], Tensor | None]]:
        if v is None:
            return leaf, lambda _: None
        if id(v) in self._arrays and v.origin == "result" and not self._reads_gradients():
            held = Tensor(self._arrays[id(v)])
            return leaf, lambda _: held
        return leaf, lambda arguments: Tensor(self.array(v, arguments).copy())

    def _reads_gradients(self) -> bool:
        """Whether the step adds to gradients that were there, so that they need other memory."""
        return any(v.name.endswith(".grad") for v in self.program.values() if v.fetch is not None)

    def _result(self, v: Value) -> Callable[[Sequence[Any]], Tensor]:
        if v.origin == "result" and id(v) in self._arrays:
            array = self._arrays[id(v)]
            return lambda _: Tensor(array.copy())
        return lambda arguments: Tensor(self.array(v, arguments).copy())


def _overlap(arrays: Sequence[tuple[Any, bool]]) -> bool:
    """Whether one of these, of which some are changed in place, lies in the memory of another:
    what reads that other is in no order with the change."""
    return any(
        np.may_share_memory(a, b)
        for i, (a, changed) in enumerate(arrays)
        for b, other in arrays[i + 1 :]
        if changed or other
    )


def _flat(result: Any, operation: Operation) -> list[Any]:
    if getattr(operation.what, "saves", False):
        y, saved = result
        return [y, *(saved if isinstance(saved, tuple) else (saved,))]
    return list(result) if len(operation.outputs) > 1 else [result]
