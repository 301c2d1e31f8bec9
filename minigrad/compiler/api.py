"""mg.compile traces a function of Tensors in its first call, then runs compiled code."""

import functools
import inspect
import threading
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from ..checks import integer
from ..data import DataLoader
from ..engine.tape import clock
from ..engine.tensor import Tensor
from ..engine.tracer import tracer
from ..errors import DtypeError, TraceError
from ..nn.module import Module
from ..ops import random
from ..system import after_fork
from ..types import Array
from .methods import methods_of, reduced
from .module import CompiledModule
from .runtime.buffers import Workspace
from .runtime.check import run_checked
from .runtime.differentiable import Differentiable
from .runtime.epoch import loader_of, refuse_unless_number, run_epoch
from .runtime.executable import MISS, Executable
from .runtime.report import report
from .runtime.trace_cache import TraceCache
from .tracing.captures import Captures
from .tracing.derivative import derivative_of
from .tracing.guards import sharing
from .tracing.leaks import refuse_leaks
from .tracing.numbers import NumberHistory, TracedNumbers
from .tracing.pytree import flatten
from .tracing.signature import (
    Signature,
    TracedArguments,
    is_native,
    lifted,
    names_of,
    native,
    signature_of,
    unhashable,
)
from .tracing.trace import Trace


@overload
def compile(  # type: ignore[overload-overlap]
    function: Module, *, check: int | None = None
) -> CompiledModule: ...
@overload
def compile(function: Callable[..., Any], *, check: int | None = None) -> "CompiledFunction": ...
@overload
def compile(*, check: int | None = None) -> Callable[[Callable[..., Any]], "CompiledFunction"]: ...
def compile(function: Callable[..., Any] | None = None, *, check: int | None = None) -> object:
    """Return a compiled function: its first call traces `function`; each call runs machine code.

    function: a training step, a function of Tensors, or a Module. Without it, `compile` returns a
        decorator with the options.
        A step, with forward, backward and update, becomes one compiled function. What it returns
        has no tape, since the step itself has run backward.
        The results of another function are on the tape where those of `function` would be: a call
        is one record, whose backward is compiled, too. Derivatives of higher order use the rules
        of the operations.
        A Module becomes a Module that shares its parameters, buffers, names, modes and attributes
        with `function`, and whose calls are compiled as those of a function.
    check: the first call, and every check-th call after it, also runs the function itself, twice,
        on the same data and state. Each operation must get the numbers and other constants that
        the trace has for it; all results, gradients and state must agree up to rounding, and the
        numbers, texts, lengths and keys in results exactly. If results are on the tape, the
        gradients of the compiled backward are compared with those of the eager rules, for random
        cotangents. None: no call is checked.

    Live values, which each call reads, are the arrays among the arguments, and the state, modes and
    hyper-parameters of the Modules that are called and of the Optimizers that step. Guarded values,
    whose change causes a new trace, are the other arguments, and the plain values, functions and
    objects that the step, and your functions that it calls, name directly in closures, globals,
    defaults and attributes. Everything else is frozen, including libraries and what is edited by
    hand in the `__dict__` of a layer of minigrad: calls use what the trace has found.

    An array among the arguments, or an object with `__array__`, reaches the step as a Tensor. The
    items of a container are guarded with it. A NumPy array that the step names is live as an
    operand; if Python or NumPy reads its elements (`v[0]`, `v * 2`), it is guarded up to 8 KB, and
    frozen above. Values under computed names, the time, prints and random numbers that are not mg's
    are frozen. Pass what changes as an argument, and as an array if it changes often.

    A guarded number that changes becomes live: the next trace has it as an operand, also in what
    Python's arithmetic makes of it, and each call reads it from its place. Such a trace is valid
    while comparisons of the number give the same results and, if a size, an index, a text or
    another library has used the number, while it is the same. A warning names a number that causes
    8 traces. Numbers in tuples, defaults and classes stay guarded, and so do all numbers if the
    step names `type` or catches exceptions, or if its results are on the tape.

    Eager and compiled calls may alternate, since both change the same parameters, buffers and
    optimizer state. Results are copies. A `.grad` that a step has set is valid until its next
    call. Each object has its own traces of a compiled method. The latest 16 traces for arrays of
    the same shapes are kept, and 128 in all. A step that changes what is guarded, such as its own
    counter, is traced in each call until it changes nothing.

    Errors: DtypeError if `function` is not callable, or for an argument that is neither a Tensor,
    an array nor hashable; ArgumentError for a bad `check`; TraceError for a step that
    - reads the value of a Tensor (a print reads it, too), or takes items of an iterator from
      outside or of a DataLoader, or names memory that no guard sees (an mmap, a pointer of
      ctypes, a structured array with fields of objects);
    - puts a Tensor outside itself (`self.h = h`), or returns an object other than Tensors, numbers
      and texts in tuples, lists and dicts;
    - changes in place what it was given or has made, an array that it has used before, or one of
      two arrays that share memory; or calls backward so that an argument gets a `.grad`;
    - makes a Parameter or an optimizer, converts or loads a Module, assigns to `.data`, seeds the
      random generator, or sets the `lr` of a group;
    and for a checked call that differs, with the name of the first operation that does. After a
    TraceError, no state of minigrad has changed. Operations raise the same errors as in eager
    calls.

    >>> @mg.compile
    ... def gradient(x, y):
    ...     return mg.grad((x * x * y).sum(), x)[0]
    >>> x = mg.tensor([1, 2], requires_grad=True)
    >>> gradient(x, np.array([1.0, 1.0])), gradient(x, np.array([3.0, 5.0]))  # traced, compiled
    (tensor([2., 4.]), tensor([ 6., 20.]))
    """
    if check is not None:
        check = integer("compile", "check", check, 1)
    if function is None:
        return partial(compile, check=check)
    if not callable(function):
        raise DtypeError(f"compile: expected a function, got {type(function).__name__}")
    if isinstance(function, CompiledModule):
        if check is None:
            return function
        function = function._model
    if isinstance(function, Module):
        return CompiledModule(function, partial(CompiledFunction, check=check))
    return CompiledFunction(function, check)


_all: "weakref.WeakSet[CompiledFunction]" = weakref.WeakSet()


@after_fork
def _renew_locks() -> None:
    """Renew the locks after a fork, since the child lacks the threads that may hold them."""
    for compiled in _all:
        compiled._workspace.running = threading.RLock()


class CompiledFunction:
    """A CompiledFunction is what `mg.compile` returns; it is called like the function itself.

    check: see `mg.compile`.
    """

    def __init__(self, function: Callable[..., Any], check: int | None = None) -> None:
        functools.update_wrapper(self, function)
        self._title: str = getattr(function, "__name__", type(function).__name__)
        self._function = function
        self._check, self._calls = check, 0
        self._executables = TraceCache(self._title)
        self._last: Executable | None = None
        self._workspace = Workspace()
        _all.add(self)
        try:
            self._names = list(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            self._names = []
        self._numbers = NumberHistory(self._title, self._names)

    @property
    def traces(self) -> int:
        """Return the number of traces kept: one for each signature and set of guarded values."""
        return sum(map(len, self._executables.values()))

    def __call__(self, *args: object, **kwargs: object) -> Any:
        if tracer.get() is not None:  # the call becomes part of another trace
            return self._eagerly(args, kwargs)
        running = self._workspace.running
        if running._is_owned():  # type: ignore[attr-defined]
            # A signal handler or finaliser interrupts a call, which is using the memory.
            return self._eagerly(args, kwargs)
        with running:
            last = self._last
            if last is not None:
                result = last.call(args, kwargs)
                if result is not MISS:
                    return result
            arrays, signature = signature_of(args, kwargs)
            executable = self._holding(signature, args, kwargs)
            if executable is not None or all(map(is_native, (*args, *kwargs.values()))):
                executable = executable or self._trace(signature, args, kwargs)
                if self._check is not None:
                    return self._run_checked(executable, arrays, args, kwargs)
                return executable.record(arrays, (*args, *kwargs.values()))
        # No executable is kept for arguments that need a conversion, so each such call comes here.
        return self(*map(native, args), **{name: native(x) for name, x in kwargs.items()})

    def _eagerly(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Any:
        """Call the original function, with Tensors in place of arrays."""
        named = {name: lifted(x) for name, x in kwargs.items()}
        return self._function(*map(lifted, args), **named)

    def _run_checked(
        self,
        executable: Executable,
        arrays: list[Array],
        args: Sequence[object],
        kwargs: Mapping[str, object],
    ) -> Any:
        """Run the executable, and in every check-th call also the function."""
        given = (*args, *kwargs.values())

        def run(arrays: list[Array]) -> Any:
            return executable.record(arrays, given)

        self._calls += 1
        # A step that changes what it reads, such as a counter, must not run twice.
        if (self._calls - 1) % self._check or not executable.guards_hold():  # type: ignore[operator]
            return run(arrays)
        own = TracedArguments(self._names, args, kwargs)
        eager = partial(self._function, *own.args, **own.kwargs)
        return run_checked(executable, run, arrays, eager, self._title)

    def _holding(
        self, signature: Signature, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> Executable | None:
        """Return an executable with this signature whose guards hold, or None."""
        try:
            if self._numbers.live:
                signature = self._numbers.signature(signature, args, kwargs)
            executables = self._executables.get(signature, ())
        except TypeError:
            raise unhashable(self._names, args, kwargs) from None
        for executable in reversed(executables):  # later ones read more numbers in each call
            if executable.guards_hold():
                if self._check is None:
                    executable.expect(signature, len(args) + len(kwargs))
                self._last = executable
                return executable
        return None

    def epoch(self, *data: ArrayLike | DataLoader, **options: Any) -> Tensor:
        """Run the step on each mini-batch of an epoch; return its results, shape (batches,).

        data: a DataLoader, to run its next epoch; or arrays, to run the first epoch of a new
            DataLoader with `options` (batch_size, shuffle, drop_last, seed).

        Compiled code also gathers the batches. The result has the same bits as that of `for batch
        in loader: step(*batch)`, and an interrupt leaves the parameters after a whole batch.
        Batches run as separate calls if their size differs from the others', or if the step is not
        one compiled function.

        Errors: those of the calls; ArgumentError for an unknown option, and for a step that does
        not return one number, before anything has changed.
        """
        loader = loader_of(data, options)
        with self._workspace.running:
            return run_epoch(self._number, loader, whole=self._check is None)

    def _number(self, batch: list[Array]) -> tuple[Array, Executable]:
        """Call the step on a batch; return the result, of shape (1,), and the executable."""
        arrays, signature = signature_of(batch, {})
        executable = self._holding(signature, batch, {})
        if executable is None:
            check = partial(refuse_unless_number, title=self._title)
            executable = self._trace(signature, batch, {}, check)
        else:
            refuse_unless_number(executable.unflatten(executable.program.results), self._title)
        if self._check is None:
            result = executable.run(arrays)
        else:
            result = self._run_checked(executable, arrays, batch, {})
        return result._data.reshape(1), self._latest()

    # --- tracing -------------------------------------------------------------------------------

    def _trace(
        self,
        signature: Signature,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        check: Callable[[object], None] = lambda result: None,
    ) -> Executable:
        """Trace the function, and return a new executable for calls like this one.

        check: a function that raises an error to refuse a result.
        """
        again = self._executables.knows_shapes(signature)
        numbers = TracedNumbers(self._numbers, again)
        executable = None
        try:
            executable = self._traced(numbers, args, kwargs, check)
        except Exception:
            if not numbers.places:
                raise
            numbers.restore()
        if executable is None:  # perhaps since there were live numbers
            plain = TracedNumbers(self._numbers, again, live=False)
            executable = self._traced(plain, args, kwargs, check)
            numbers.fix()
        self._executables.keep(self._numbers.signature(signature, args, kwargs), executable)
        self._executables.warn(self._numbers.warnings)
        self._last = executable
        return executable

    def _traced(
        self,
        numbers: TracedNumbers,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        check: Callable[[object], None],
    ) -> Executable:
        """Trace the function once; numbers: puts live numbers in place of those that vary."""
        named = zip(names_of(self._names, args), args, strict=True)
        args = [numbers.argument(name, x) for name, x in named]
        kwargs = {name: numbers.argument(name, x) for name, x in kwargs.items()}
        given = TracedArguments(self._names, args, kwargs)
        trace = Trace(given.tensors)
        trace.numbers = numbers.log
        # Objects among the arguments may change, like objects outside the step.
        label = "model" if isinstance(self._function, Module) else "self"
        roots = {label: self._function, **given.statics}
        before = Captures(roots, trace.name_tensor, numbers.meet)
        trace.undo(partial(random.set_state, random.get_state()))
        try:
            trace.note_module = before.call
            trace.is_outside = lambda array: id(array) in before.arrays
            start, active = next(clock), tracer.get()
            try:
                try:  # an interrupt could come before `with tracing` ends
                    tracer.set(trace)
                    with before.following():
                        result = self._function(*given.args, **given.kwargs)
                        found: list[Tensor] = []
                        unflatten = flatten(result, found)
                        derivative = derivative_of(trace, found, start)
                finally:
                    tracer.set(active)
            finally:
                numbers.give_back(before)
            check(result)
            after = numbers.captured(before, derivative is not None)
            refuse_leaks(before, after, trace)
            captured = [x for _, x in after.tensors]
            trace.give_elements(captured)
            if not (before.guards() and before.bound()):  # the step changes what it reads
                after.guards.never()
            elements = [(look, True) for look in before.elements(trace.has_met)]
            for look, seen in (*trace.guards, *elements):
                after.guards.expect(look, seen)
            for look in sharing(captured):
                after.bound.expect(look, True)
            program = trace.program(found)
        finally:
            trace.take_back()
        trace.reads_numbers = numbers.release(after)
        parts = trace, after, program, unflatten, self._title, self._workspace
        if derivative is None:
            executable = Executable(*parts)
        else:
            arrays = enumerate((*args, *kwargs.values()))
            at = [i for i, x in arrays if isinstance(x, (Tensor, np.ndarray))]
            executable = Differentiable(*parts, derivative, at)
        numbers.close()
        return executable

    def __get__(self, owner: object, kind: type | None = None) -> "CompiledFunction":
        """Return the compiled method of an object, with its own traces."""
        if owner is None:
            return self
        methods = methods_of(owner)
        return methods.get(self) or methods.setdefault(
            self, Bound(self._function, owner, self._check)
        )

    def __reduce__(self) -> str | tuple[object, ...]:
        """Return what pickle needs: the name of the function, or the function itself."""
        return reduced(self, self._function, partial(compile, check=self._check))

    def __copy__(self) -> "CompiledFunction":
        """Return itself, since copies of functions are the functions themselves."""
        return self

    def __deepcopy__(self, memo: object) -> "CompiledFunction":
        """Return itself, since copies of functions are the functions themselves."""
        return self

    # --- what the compiler has made ------------------------------------------------------------

    @property
    def source(self) -> str:
        """Return the generated Python source that the latest call has run.

        Errors: TraceError before the first call.
        """
        return self._latest().emitted.source

    @property
    def path(self) -> Path | None:
        """Return the path of the file with `source`, or None if no folder is writable.

        Errors: as source.
        """
        return self._latest().path

    @property
    def program(self) -> str:
        """Return the operations of the latest call after all passes, one line for each.

        Errors: as source.
        """
        return str(self._latest().program)

    def _latest(self) -> Executable:
        if self._last is None:
            raise TraceError(f"compile: call {self._title} first; it is traced then")
        return self._last

    def report(self) -> str:
        """Return a text about the latest call: the fused operations, the bytes that each loop nest
        moves, and the seconds for writing the code and for compiling or loading it; then the same
        about its backward, if that has run.

        Errors: as source.
        """
        latest = self._latest()
        backward = latest.pullback if isinstance(latest, Differentiable) else None
        text = report(latest)
        return text if backward is None else f"{text}\nbackward:\n{report(backward)}"


class Bound(CompiledFunction):
    """A Bound is a compiled method of one object."""

    def __init__(self, function: Callable[..., Any], owner: object, check: int | None) -> None:
        super().__init__(types.MethodType(function, owner), check)
        self.__self__ = owner

    def __get__(self, owner: object, kind: type | None = None) -> "Bound":
        """Return the method itself, since it is bound already."""
        return self

    __copy__ = __deepcopy__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[object, ...]:
        """Return what pickle and copy need: the object and the name, as for other bound methods."""
        return getattr, (self.__self__, self.__name__)  # type: ignore[attr-defined]
