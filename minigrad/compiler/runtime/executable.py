"""An executable is one compiled trace, with memory for arguments of given shapes."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba.core.errors import NumbaError

from ...engine.dispatch import refusal
from ...engine.tape import bindings
from ...engine.tensor import Tensor, change, mark_owners
from ...engine.tracer import Fetch
from ...errors import MinigradError, TraceError
from ...kernels.codegen_runtime import LARGE_PRODUCT, PRODUCTS
from ...kernels.jit.numba_types import Dispatcher
from ...kernels.threading.blas import NO_LIMIT, blas_limit
from ...kernels.threading.pool import THREADED, pool_for
from ...ops.inplace import Update
from ...ops.primitive import Operand
from ...optim.live_state import LiveNumbers, LiveState
from ...optim.optimizer import Optimizer
from ...optim.rule import Rule
from ...types import Array
from ..codegen.function import Code
from ..codegen.module import emit
from ..ir.interpreter import results_of
from ..ir.live_numbers import plain
from ..ir.program import Input, Operation, Program, Value
from ..passes.pipeline import optimised
from ..tracing.captures import Captures
from ..tracing.derivative import Derivative
from ..tracing.guards import ITEM, Guards
from ..tracing.pytree import Unflatten
from ..tracing.trace import Trace
from . import backend
from .buffers import Memory, Workspace


class Executable:
    """An Executable is a compiled trace; it runs in place of the function while `guards_hold()`.

    captures: what the function reads outside itself, as it is at the end of the trace. unflatten: a
        function that makes the function's result from the Tensors that the program returns, or from
        Values in their place.
    on_tape: whether `record` puts results on the tape.
    """

    on_tape = False

    def __init__(
        self,
        trace: Trace | Derivative,
        captures: Captures,
        program: Program,
        unflatten: Unflatten,
        title: str,
        workspace: Workspace,
    ) -> None:
        began = time.perf_counter()
        self.traced = program
        self.program: Program = optimised(self.traced)
        self.emitted = emit(self.program, title)
        self.module, self.path = backend.load(self.emitted.source, title)
        self.unflatten, self.applied = unflatten, trace.applied
        self._guards, self._bound = captures.guards, captures.bound
        self.captured = [x for _, x in captures.tensors]
        self._owners = trace.owners
        self._tensors: list[tuple[Tensor, Array, bool, Value]] = []
        self._fetches: list[tuple[Fetch, Array, Value]] = []
        self._live = Guards()  # the readings that decide which arrays the states have
        self._hyper = Guards()  # the readings that decide which numbers there are
        self._pending: list[LiveState] = []  # state that the next call creates
        self.built: dict[
            str, tuple[str, float]
        ] = {}  # by function, what Numba did, and the seconds
        self._changed = list(dict.fromkeys(v for op in self.program.operations for v in op.changes))
        self._batch: list[Array] | None = None  # the arrays that run_rows gathers batches into
        self.memory = Memory(self.program, self.emitted, workspace)
        self.buffer_bytes = self.memory.buffer_bytes
        self._note_states()
        self._live.read(ITEM, bindings, 0)
        for fetch, _, _ in self._fetches:
            numbers = isinstance(fetch, LiveNumbers)
            (self._hyper if numbers else self._live).depend(fetch)
        self.live_numbers = trace.numbers
        for code, given in trace.reads_numbers:
            self._hyper.read(code, *given)
        # These get their elements back if an optimizer's rule that NumPy runs raises an error.
        by_numpy = [op.what for op in self.emitted.steps if isinstance(op, Operation)]
        self._at_risk: list[Any] = []
        if any(isinstance(what, Rule) for what in by_numpy):
            self._at_risk = self._changed
        self._draws = [self._draw(operation) for operation in self.emitted.draws]
        self._steps = [self._step(step) for step in self.emitted.steps]
        self._sizes = np.array(self.emitted.sizes, np.int64)
        self._numbers = np.array(list(map(plain, self.emitted.numbers)), np.float64)
        changed = [self._owners[v] for v in self._changed if v in self._owners]
        self._changed_owners = [x if x._base is None else x._base for x in changed]
        # The size of the largest array: if all are small, the threads of the pool need not start.
        sizes = [math.prod(v.shape) for v in self.program.values()]
        self._largest = THREADED if LARGE_PRODUCT in vars(self.module) else max(sizes, default=0)
        has_products = not PRODUCTS.isdisjoint(vars(self.module))
        self._blas = blas_limit() if has_products else NO_LIMIT  # the former loads BLAS
        self._bind()
        self.compile_seconds = time.perf_counter() - began

    def _bind(self) -> None:
        """Prepare the gradients, and the functions that give results, for the current memory."""
        # By leaf: a gradient that each call overwrites, or None, and a gradient that is copied.
        self._reused: list[tuple[Tensor, Tensor | None]] = []
        self._copied: list[tuple[Tensor, Value]] = []
        for leaf, v in self.program.grads:
            if v is None or self.memory.keeps_gradient(v):
                gradient = None if v is None else Tensor(self.memory.array(v, ()))
                self._reused.append((leaf, gradient))
            else:
                self._copied.append((leaf, v))
        given = self.program.results
        self._results = [self._result(v, given[:i]) for i, v in enumerate(given)]

    # --- running -------------------------------------------------------------------------------

    def guards_hold(self) -> bool:
        """Return whether all that the trace has read outside the function is unchanged.

        If an array of a state has been replaced by another that fits, later calls use the new one.
        """
        return (
            (self._guards.unchanged() or self._guards())
            and (self._live.unchanged() or self._renew_states())
            and (self._hyper.unchanged() or self._renew_numbers())
        )

    def _renew_states(self) -> bool:
        """Use the arrays that the states have now, and return whether they fit."""
        now = self._live.now()
        if not self._bound():
            return False
        try:
            found = [(v, fetch()) for fetch, _, v in self._fetches]
        except Exception:  # the state is gone
            return False
        if not self._same_leaves():
            return False
        if not self.memory.replace([(v, x._data) for x, _, _, v in self._tensors] + found):
            return False
        self._note_states()
        self._live.accept(now)
        return True

    def _same_leaves(self) -> bool:
        """Return whether the states that require grad are those of the trace."""
        return all(x._requires_grad is wanted for x, _, wanted, _ in self._tensors)

    def _renew_numbers(self) -> bool:
        """Use the numbers that the step's places and the optimizers have now, if they fit.

        Return whether they do.
        """
        now = self._hyper.now()
        if not self.live_numbers.renew():
            return False
        numbers = [fetch for fetch, _, _ in self._fetches if isinstance(fetch, LiveNumbers)]
        try:
            fits = all(fetch() is not None for fetch in numbers)
        except Exception:  # a value that cannot be used: a new trace raises the error
            fits = False
        if not fits:  # some of the numbers are the new ones already
            self._hyper.forget()
            return False
        if self.live_numbers.numbers:
            self._numbers[:] = list(map(plain, self.emitted.numbers))
        self._hyper.accept(now)
        return True

    def states(self) -> list[tuple[Value, Array]]:
        """Return the states, with the current array of each."""
        return [(v, array) for _, array, _, v in self._tensors] + [
            (v, array) for _, array, v in self._fetches
        ]

    def tensors(self) -> list[Tensor]:
        """Return the user's Tensors: those of states, and others that the captures have found."""
        return list(dict.fromkeys((*self._owners.values(), *self.captured)))

    def changed_constants(self) -> list[Array]:
        """Return the NumPy arrays from outside that a call changes in place."""
        return [self.memory.outer(v) for v in self._changed if v.origin == "constant"]

    def owner(self, v: Value) -> Tensor | None:
        """Return the user's Tensor that has the array of a state, or None."""
        return self._owners.get(v)

    def optimizers(self) -> list[Optimizer]:
        """Return the optimizers whose state a call changes."""
        live = [fetch for fetch, _, _ in self._fetches if isinstance(fetch, LiveState)]
        return list(dict.fromkeys(each.optimizer for each in live))

    def _note_states(self) -> None:
        """Note the current arrays of states, and the optimizer state that the next call creates."""
        self._tensors, self._fetches, self._pending = [], [], []
        for v in self.program.values():
            if v in self._owners:
                x = self._owners[v]
                self._tensors.append((x, self.memory.outer(v), x._requires_grad, v))
            elif v.fetch is not None:
                self._fetches.append((v.fetch, self.memory.outer(v), v))
                if isinstance(v.fetch, LiveState) and v.fetch.pending is not None:
                    self._pending.append(v.fetch)

    def run(self, arguments: list[Array]) -> Any:
        """Run one call, and return its result; arguments: arrays in C order.

        Errors: those of the operations; TraceError for an argument whose memory the step changes.
        """
        return self.unflatten(self.compute(arguments))

    def record(self, arguments: list[Array], given: Sequence[object]) -> Any:
        """Run one call, and put on the tape the results that belong there.

        given: all arguments of the user. Errors: as run.
        """
        return self.run(arguments)

    def compute(self, arguments: list[Array]) -> list[Tensor]:
        """Run one call, and return the Tensors in its result. Errors: as run."""
        if self.memory.settle():
            self._bind()
        arguments = self.memory.apart(arguments)
        at_risk = self._at_risk and [(a, a.copy()) for a in map(self.memory.outer, self._at_risk)]
        self.memory.begin()
        for draw in self._draws:
            draw()
        try:
            for step in self._steps:
                step(arguments)
        except BaseException:
            self._leave()
            for array, copy in at_risk:
                np.copyto(array, copy)
            raise
        self._publish(arguments)
        results = [result(arguments) for result in self._results]
        self._end()
        return results

    def _end(self) -> None:
        self.memory.end()
        if self._pending:
            for state in self._pending:
                state.commit()
            self._pending = []
            bindings[0] = object()  # the next call looks up all states again

    def takes_rows(self) -> bool:
        """Return whether `run_rows` can run batches with the same results as calls."""
        return self.emitted.epoch and self.memory.stays()

    def run_rows(self, whole: Sequence[Array], rows: Array) -> Array:
        """Run the step for each row of `rows`, and return the results as an array.

        whole: for each argument, the array of all samples; rows: the positions of the samples in a
            batch, shape (batches, batch size).
        """
        code = self.emitted.steps[0]
        assert isinstance(code, Code)
        compiled = backend.function(self.module, "epoch")
        order = self._order(code)
        if self._batch is None:
            self._batch = [np.empty(v.shape, v.dtype) for v in self.program.arguments]
        batch = [self._batch[i] for i in order]
        values = np.zeros(len(rows), self.program.results[0].dtype)
        tables = self._tables()
        given = (*[whole[i] for i in order], *batch, rows, *tables, values)
        if "epoch" not in self.built:
            self._prepare("epoch", compiled, given)
        done, status = compiled(*given)
        self._publish(self._batch)
        if status >= 0:
            self._leave()
            self._refuse(status, [a.take(rows[done], axis=0) for a in whole])
        return values

    def _prepare(self, name: str, compiled: Dispatcher, arguments: Sequence[object]) -> None:
        try:
            self.built[name] = backend.prepare(compiled, arguments)
        except NumbaError as error:
            raise TraceError(
                f"compile: the code in {self.path} was not compiled, which is a fault of minigrad; "
                "run the step without mg.compile, and report it with that file"
            ) from error

    def _leave(self) -> None:
        """Clean up after a call that has raised an error.

        Gradients in memory that the call may have overwritten become None, and Tensors that it may
        have changed are marked as changed.
        """
        self.memory.end()
        for state in self._pending:
            state.forget()
        bindings[0] = object()  # as in _end: look up all states again
        for leaf, gradient in self._reused:
            if leaf._grad is gradient:
                leaf._grad = None
        mark_owners(self._changed_owners)

    def _tables(self) -> tuple[Array, ...]:
        """Return the arguments of generated functions that follow the user's arguments."""
        return self.memory.places, self._sizes, self._numbers, pool_for(self._largest), self._blas

    def _order(self, code: Code) -> list[int]:
        """Return the positions of the arguments that a function takes."""
        return [self.program.arguments.index(v) for v in code.arguments]

    def _step(self, step: Code | Operation) -> Callable[[Sequence[Array]], None]:
        if isinstance(step, Operation):
            return lambda arguments: self._by_numpy(step, arguments)
        compiled, places = backend.function(self.module, step.name), self.memory.places
        order = self._order(step)

        def call(arguments: Sequence[Array]) -> None:
            given = [arguments[i] for i in order]
            if step.name not in self.built:
                self._prepare(step.name, compiled, (*given, *self._tables()))
            pool, blas = pool_for(self._largest), self._blas
            status = compiled(*given, places, self._sizes, self._numbers, pool, blas)
            if status >= 0:
                self._refuse(status, arguments)

        return call

    def _array(self, x: Input, arguments: Sequence[Array]) -> Operand:
        """Return the array of a Value, and a number or None as it is."""
        return self.memory.array(x, arguments) if isinstance(x, Value) else plain(x)

    def _forward(self, operation: Operation, arguments: Sequence[Array]) -> Operand:
        given = [self._array(x, arguments) for x in operation.inputs]
        try:
            with np.errstate(all="ignore"):
                return operation.forward(*given, **operation.plain_attributes)
        except (ValueError, TypeError, OverflowError) as error:
            if isinstance(error, MinigradError):
                raise
            raise refusal(operation.name, given, error) from error

    def _by_numpy(self, operation: Operation, arguments: Sequence[Array]) -> None:
        """Run an operation that is left to NumPy: the forward of a primitive, or an update."""
        if isinstance(operation.what, Update):
            change(operation.what, *[self._array(x, arguments) for x in operation.inputs])
            return
        result = self._forward(operation, arguments)
        found = results_of(operation.what, result)
        for v, array in zip(operation.outputs, found, strict=True):
            if v is not None:
                np.copyto(self.memory.array(v, arguments), array, casting="unsafe")

    def _draw(self, operation: Operation) -> Callable[[], None]:
        """Return a function that draws random numbers, as the primitive does.

        Unused numbers are drawn, too, so that the generator advances as in an eager call.
        """
        forward, attributes = operation.forward, operation.attributes

        def draw() -> None:
            drawn, array = forward(**attributes), self.memory.find(operation.makes[0])
            if array is not None:
                np.copyto(array, drawn)

        return draw

    def _refuse(self, status: int, arguments: Sequence[Array]) -> None:
        """Run the forward of an operation that generated code has refused, to raise its error."""
        self._forward(self.emitted.checked[status], arguments)
        raise TraceError(f"compile: {self.emitted.checked[status]} was refused")

    # --- gradients and results -----------------------------------------------------------------

    def _publish(self, arguments: Sequence[Array]) -> None:
        """Set the gradients of the leaves, and mark what the call has changed in place."""
        for leaf, gradient in self._reused:
            leaf._grad = gradient
        for leaf, v in self._copied:
            leaf._grad = Tensor(self.memory.array(v, arguments).copy())
        mark_owners(self._changed_owners)

    def _result(self, v: Value, before: Sequence[Value]) -> Callable[[Sequence[Array]], Tensor]:
        """Return a function that makes the result v of a call; before: the results before v."""
        array = None if v in self.program.lent else self.memory.find(v)
        if v.origin == "result" and array is not None:
            return lambda _: Tensor(array.copy())
        if self.memory.hands_over(v) and v not in before:
            return lambda arguments: Tensor(self.memory.array(v, arguments))
        return lambda arguments: Tensor(self.memory.array(v, arguments).copy())
