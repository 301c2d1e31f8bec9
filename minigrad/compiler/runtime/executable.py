"""An executable is one compiled trace, with memory for arguments of given shapes."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import is_
from typing import Any

import numpy as np
from numba.core.errors import NumbaError

from ...engine.dispatch import refusal
from ...engine.tape import bindings, stamp_change
from ...engine.tensor import Tensor, change, mark_owners
from ...errors import MinigradError, TraceError
from ...kernels.codegen_runtime import LARGE_PRODUCT, PRODUCTS
from ...kernels.threading.blas import NO_LIMIT, blas_limit
from ...kernels.threading.pool import THREADED, pool_for
from ...ops.inplace import Update
from ...ops.primitive import Operand
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
from ..tracing.pytree import Unflatten
from ..tracing.signature import Signature, write_tests
from ..tracing.straight_line import StraightLine
from ..tracing.trace import Trace
from . import backend
from .buffers import Workspace
from .states import States

MISS = object()  # what `Executable.call` returns for a call that it does not recognise


class Executable(States):
    """An Executable is a compiled trace; it runs in place of the function while `guards_hold()`.

    trace, captures: as for States. unflatten: a function that makes the function's result from the
        Tensors that the program returns, or from Values in their place.
    """

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
        program = optimised(program)
        emitted = emit(program, title)
        super().__init__(trace, captures, program, emitted, workspace)
        self.buffer_bytes = self.memory.buffer_bytes
        self.module, self.path = backend.load(emitted.source, title)
        self.unflatten, self.applied = unflatten, trace.applied
        # By function, what Numba did, and the seconds.
        self.built: dict[str, tuple[str, float]] = {}
        self._batch: list[Array] | None = None  # the arrays that run_rows gathers batches into
        # These get their elements back if an optimizer's rule that NumPy runs raises an error.
        by_numpy = [op.what for op in self.emitted.steps if isinstance(op, Operation)]
        self._at_risk: list[Any] = []
        if any(isinstance(what, Rule) for what in by_numpy):
            self._at_risk = self._changed
        self._draws = [self._draw(operation) for operation in self.emitted.draws]
        self._entries: dict[str, Callable[..., Any]] = {}  # the machine code of each function
        self._sizes = np.array(self.emitted.sizes, np.int64)
        changed = [self._owners[v] for v in self._changed if v in self._owners]
        self._changed_owners = [x if x._base is None else x._base for x in changed]
        # The size of the largest array: if all are small, the threads of the pool need not start.
        sizes = [math.prod(v.shape) for v in self.program.values()]
        self._largest = THREADED if LARGE_PRODUCT in vars(self.module) else max(sizes, default=0)
        has_products = not PRODUCTS.isdisjoint(vars(self.module))
        self._blas = blas_limit() if has_products else NO_LIMIT  # the former loads BLAS
        self._returned = self.program.results  # the results that `compute` returns
        # By leaf: a gradient that each call overwrites, or None, and a gradient that is copied.
        self._reused: list[tuple[Tensor, Tensor | None]] = []
        self._copied: list[tuple[Tensor, Value]] = []
        for leaf, v in self.program.grads:
            if v is None or self.memory.keeps_gradient(v):
                gradient = None if v is None else Tensor(self.memory.array(v, ()))
                self._reused.append((leaf, gradient))
            else:
                self._copied.append((leaf, v))
        self.compile_seconds = time.perf_counter() - began

    def run(self, arguments: list[Array]) -> Any:
        """Run one call, and return its result; arguments: arrays in C order.

        Errors: those of the operations; TraceError for an argument whose memory the step changes.
        """
        return self.unflatten(self.compute(arguments))

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
        order = [self.program.arguments.index(v) for v in code.arguments]
        if self._batch is None:
            self._batch = [np.empty(v.shape, v.dtype) for v in self.program.arguments]
        batch = [self._batch[i] for i in order]
        values = np.zeros(len(rows), self.program.results[0].dtype)
        tables = self._tables()
        given = (*[whole[i] for i in order], *batch, rows, *tables, values)
        if "epoch" not in self._entries:
            self._entries["epoch"] = self._prepare("epoch", given)
        done, status = self._entries["epoch"](*given)
        publication = StraightLine("arguments")
        self._write_publication(publication, "arguments")
        publication.function()(self._batch)
        if status >= 0:
            self._leave()
            self._refuse(status, [a.take(rows[done], axis=0) for a in whole])
        return values

    # --- writing the code of calls -------------------------------------------------------------

    def _rewrite(self) -> None:
        """Let the next call write its code again, for other memory or other work to do.

        compute: runs one call, and returns the Tensors in its result.
        record: runs one call, and returns the user's result, on the tape if it belongs there;
            given: all arguments of the user.
        call: does the same for the user's arguments, or returns MISS, and does nothing, if it does
            not recognise the call or a guard does not hold. `expect` writes it.
        Their errors are those of `run`.
        """
        self.compute: Callable[[list[Array]], list[Tensor]] = self._write_compute
        self.record: Callable[[list[Array], Sequence[object]], Any] = self._write_record
        self.call: Callable[[Sequence[object], Mapping[str, object]], Any] = _miss
        self._expected: list[object] = []  # what `call` was written for

    def _write_compute(self, arguments: list[Array]) -> list[Tensor]:
        """Write `compute`, and run it."""
        code = StraightLine("arguments")
        arrays = self._write_arguments(code)
        results = self._write_run(code, arrays, f"{code.name(self._write_compute)}(arguments)")
        code.add(f"return [{', '.join(results)}]")
        compute: Callable[[list[Array]], list[Tensor]] = code.function()
        self.compute = compute
        return compute(arguments)

    def _write_record(self, arguments: list[Array], given: Sequence[object]) -> Any:
        """Write `record`, and run it."""
        code = StraightLine("arguments", "given")
        arrays = self._write_arguments(code)
        self._write_call(code, arrays, f"{code.name(self._write_record)}(arguments, given)")
        self.record = code.function()
        return self.record(arguments, given)

    def expect(self, signature: Signature, count: int) -> None:
        """Write `call` for calls with this signature and this number of arguments."""
        guards = self._guards, self._live, self._hyper
        now = [count, self.memory.workspace.block, *(each.unchanged for each in guards)]
        if len(now) == len(self._expected) and all(map(is_, now, self._expected)):
            return
        code = StraightLine("args", "kwargs")
        miss = code.name(MISS)
        code.add("try:")
        arrays = write_tests(code, signature, count, miss)
        if arrays is None:
            return
        for each in guards:
            each.write(code, miss)
        code.add("pass", 2)
        code.add("except Exception:")
        code.add(f"return {miss}", 2)
        self._write_call(code, arrays, miss)
        self.call, self._expected = code.function(), now

    def _write_arguments(self, code: StraightLine) -> list[str]:
        """Write a line that unpacks `arguments`, and return the variables."""
        arrays = code.fresh(len(self.program.arguments))
        code.unpack("arguments", arrays)
        return arrays

    def _write_call(self, code: StraightLine, arrays: Sequence[str], otherwise: str) -> None:
        """Write the lines that run a call and return its result.

        They read the variable `given`. arrays, otherwise: see `_write_run`.
        """
        self._write_result(code, self._write_run(code, arrays, otherwise))

    def _write_result(self, code: StraightLine, results: Sequence[str]) -> None:
        """Write a line that returns the user's result; results: expressions for its Tensors."""
        marks = [object() for _ in results]
        found = self.unflatten(marks)
        line = f"{code.name(self.unflatten)}([{', '.join(results)}])"
        for mark, result in zip(marks, results, strict=True):
            line = result if mark is found else line  # a single Tensor, such as a loss
        code.add(f"return {line}")

    def _write_run(self, code: StraightLine, arrays: Sequence[str], otherwise: str) -> list[str]:
        """Write lines that run all steps, and return expressions for the results.

        arrays: the variables with the arguments; otherwise: what the code returns if the memory of
            the program has to be moved first.
        """
        for step in self.emitted.steps:
            if isinstance(step, Code) and step.name not in self._entries:
                given = [np.empty((1,) * len(v.shape), v.dtype) for v in step.arguments]
                self._entries[step.name] = self._prepare(step.name, [*given, *self._tables()])
        self.memory.settle()
        name, memory, arguments = code.name, code.name(self.memory), f"[{', '.join(arrays)}]"
        block = name(self.memory.workspace.block)
        code.add(f"if {name(self.memory.workspace)}.block is not {block}: return {otherwise}")
        array, owners = name(np.ndarray), name(self.memory.owners)
        for x in arrays:
            code.add(f"base = {x}.base")
            # Identity tells nothing about a view of a view, nor about memory of another kind.
            code.add(f"known = base is None or type(base) is {array} and base.base is None")
            code.add(f"if not known or id({x} if base is None else base) in {owners}:")
            code.add(f"{x} = {memory}.apart({x})", 2)
        at_risk = "()"
        if self._at_risk:
            at_risk = "at_risk"
            code.add(f"at_risk = {name(self._copies_at_risk)}()")
        busy = self.memory.is_busy
        if busy:
            code.add(f"{memory}.begin()")
        for draw in self._draws:
            code.add(f"{name(draw)}()")
        code.add("try:")
        for step in self.emitted.steps:
            if isinstance(step, Operation):
                code.add(f"{name(partial(self._by_numpy, step))}({arguments})", 2)
                continue
            tables = [*map(name, self._tables())]
            if self._largest >= THREADED:
                tables[3] = f"{name(pool_for)}({self._largest})"
            values = [arrays[self.program.arguments.index(v)] for v in step.arguments]
            code.add(
                f"status = {name(self._entries[step.name])}({', '.join([*values, *tables])})", 2
            )
            code.add(f"if status >= 0: {name(self._refuse)}(status, {arguments})", 2)
        code.add("pass", 2)
        code.add("except BaseException:")
        code.add(f"{name(self._leave)}({at_risk})", 2)
        code.add("raise", 2)
        self._write_publication(code, arguments)
        results = [
            self._result(code, v, self._returned[:i], arguments)
            for i, v in enumerate(self._returned)
        ]
        if busy or self._pending:
            made = code.fresh(len(results))
            code.unpack(f"[{', '.join(results)}]", made)
            results = made
        if busy:
            code.add(f"{memory}.end()")
        if self._pending:
            code.add(f"{name(self._commit)}()")
        return results

    def _write_publication(self, code: StraightLine, arguments: str) -> None:
        """Write lines that set the gradients of leaves, and mark what a call changes in place.

        arguments: an expression for the list of arguments.
        """
        name = code.name
        for leaf, gradient in self._reused:
            code.add(f"{name(leaf)}._grad = {name(gradient)}")
        for leaf, v in self._copied:
            array = f"{name(self.memory)}.array({name(v)}, {arguments})"
            code.add(f"{name(leaf)}._grad = {name(Tensor)}({array}.copy())")
        if self._changed_owners:
            code.add(f"now = {name(stamp_change)}()")
        for x in self._changed_owners:
            code.add(f"{name(x)}._changed = now")
            if x._record is not None:
                code.add(f"{name(x._record)}.changed = True")

    def _result(self, code: StraightLine, v: Value, before: Sequence[Value], arguments: str) -> str:
        """Return an expression for the result v of a call.

        before: the results before v; arguments: an expression for the list of arguments.
        """
        make = code.name(Tensor)
        array = None if v in self.program.lent else self.memory.find(v)
        if v.origin == "result" and array is not None:
            return f"{make}({code.name(array.copy)}())"
        found = f"{code.name(self.memory)}.array({code.name(v)}, {arguments})"
        handed_over = self.memory.hands_over(v) and v not in before
        return f"{make}({found})" if handed_over else f"{make}({found}.copy())"

    # --- parts of a call that are not written out ----------------------------------------------

    def _copies_at_risk(self) -> list[tuple[Array, Array]]:
        return [(a, a.copy()) for a in map(self.memory.outer, self._at_risk)]

    def _commit(self) -> None:
        """Give the optimizers the state that the call has created."""
        for state in self._pending:
            state.commit()
        self._pending = []
        bindings[0] = object()  # the next call looks up all states again
        self._rewrite()

    def _prepare(self, name: str, arguments: Sequence[Array]) -> Callable[..., Any]:
        """Return the machine code of a generated function; see `backend.prepare`."""
        try:
            function = backend.function(self.module, name)
            entry, self.built[name] = backend.prepare(function, arguments)
        except NumbaError as error:
            raise TraceError(
                f"compile: the code in {self.path} was not compiled, which is a fault of minigrad; "
                "run the step without mg.compile, and report it with that file"
            ) from error
        return entry

    def _leave(self, at_risk: Sequence[tuple[Array, Array]] = ()) -> None:
        """Clean up after a call that has raised an error.

        Gradients in memory that the call may have overwritten become None, and Tensors that it may
        have changed are marked as changed.

        at_risk: arrays that get their elements back, with copies of these.
        """
        self.memory.end()
        for state in self._pending:
            state.forget()
        bindings[0] = object()  # as in _commit: look up all states again
        for leaf, gradient in self._reused:
            if leaf._grad is gradient:
                leaf._grad = None
        mark_owners(self._changed_owners)
        for array, copy in at_risk:
            np.copyto(array, copy)

    def _tables(self) -> tuple[Array, ...]:
        """Return the arguments of generated functions that follow the user's arguments."""
        return self.memory.places, self._sizes, self._numbers, pool_for(self._largest), self._blas

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


def _miss(args: Sequence[object], kwargs: Mapping[str, object]) -> object:
    """Recognise no call."""
    return MISS
