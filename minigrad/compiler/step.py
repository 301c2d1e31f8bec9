"""mg.compile: a function of Tensors that is traced at its first call and runs compiled from then
on. May import everything but explainer."""

import functools
import inspect
import os
import threading
import types
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from .. import random
from ..apply import tracing
from ..checks import integer
from ..errors import DtypeError, TraceError
from ..nn.module import Module
from ..tape import tracer
from ..tensor import Tensor
from .arguments import TracedArguments, is_native, lifted, native, signature_of, unhashable
from .check import run_checked
from .epoch import loader_of, refuse_unless_number, run_epoch
from .guards import Together
from .kept import Plans
from .leaks import refuse_left
from .memory import Workspace
from .methods import methods_of, reduced
from .plan import Plan
from .report import report
from .results import taken_apart
from .trace import Trace
from .watch import Watched


def compile(function: Any = None, *, check: int | None = None) -> Any:
    """The function, traced when first called with arguments of some shapes, and then compiled.

    function: a training step with forward, backward and update, or any function of Tensors; left
        out, `compile` is a decorator with options.
    check: every so many calls, the first among them, the function also runs eagerly, on the same
        data and state, and a difference beyond rounding is a TraceError that names the operation
        where the two part; nothing has changed then. It costs an eager call each time.

    Live: arrays among the arguments, which arrive as Tensors; the state of the Modules that are
    called and of the Optimizers that step, their modes and hyper-parameters. Guarded, so that a
    change is traced anew: other arguments, and the plain values, functions and objects that the
    step, and the user's functions that it calls, name in closures, globals, defaults and
    attributes, in containers, and by thread or context. Frozen: the rest, libraries included.

    What is like an array (a memoryview, an object with `__array__`) is taken as one. The latest 16
    traces for arrays of the same shapes are kept. Parameters, buffers, `.grad` and the optimizer's
    state are the user's own, and eager and compiled steps may alternate. `.grad` is valid until
    the next call. Results are copies without a tape. A method that is compiled in its class has
    traces of its own for each object.

    A step that changes these itself, as a counter, is traced anew until it leaves them as they are.
    Whatever else Python does happens once, when the step is traced: prints, the time, a draw from a
    random generator other than mg's. Frozen are also the elements of NumPy arrays that choose what
    is done, values under names that are computed, and masks that are indices: give these to the
    step as arguments, or, for what changes often, as arrays, which are not traced anew.

    Errors: DtypeError for what is no function, TraceError for a step that looks at the value of a
    Tensor, if only to print it, that puts one outside itself (`self.h = h`), that seeds, or that
    sets the `lr` of a group; nothing of minigrad's has changed then. Those of the operations,
    as eager.

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
        return functools.partial(compile, check=check)
    if not callable(function):
        raise DtypeError(f"compile: expected a function, got {type(function).__name__}")
    return Compiled(function, check)


_all: "weakref.WeakSet[Compiled]" = weakref.WeakSet()


def _after_fork() -> None:
    """In a child none of the threads is left that were in a call, and held its lock."""
    for compiled in _all:
        compiled._running = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Compiled:
    """What `mg.compile` returns; call it as the function."""

    def __init__(self, function: Callable[..., Any], check: int | None = None) -> None:
        functools.update_wrapper(self, function)
        self._title: str = getattr(function, "__name__", type(function).__name__)
        self._function = function
        self._check, self._calls = check, 0
        self._plans = Plans(self._title)
        self._last: Plan | None = None
        self._workspace = Workspace()
        self._running = threading.RLock()  # one plan's memory serves one call at a time
        _all.add(self)
        try:
            self._names = list(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            self._names = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if tracer.get() is not None:  # the call becomes a part of the trace of another function
            return self._eagerly(args, kwargs)
        arrays, signature = signature_of(args, kwargs)
        if self._running._is_owned():  # type: ignore[attr-defined]
            # A signal handler or finaliser calls in the middle of a call, whose memory is in use.
            return self._eagerly(args, kwargs)
        with self._running:
            plan = self._holding(signature, args, kwargs)
            if plan is not None or all(map(is_native, (*args, *kwargs.values()))):
                plan = plan or self._trace(signature, args, kwargs)
                if self._check is None:
                    return plan.run(arrays)
                return self._run_checked(plan, arrays, args, kwargs)
        # No plan is kept for arguments that need a conversion, so each such call comes here.
        return self(*map(native, args), **{name: native(x) for name, x in kwargs.items()})

    def _eagerly(self, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Call the function itself, with Tensors in place of arrays."""
        named = {name: lifted(x) for name, x in kwargs.items()}
        return self._function(*map(lifted, args), **named)

    def _run_checked(self, plan: Plan, arrays: list[Any], args: Any, kwargs: Any) -> Any:
        """Run the plan, and every so many calls the function as well."""
        self._calls += 1
        if (self._calls - 1) % self._check:  # type: ignore[operator]
            return plan.run(arrays)
        given = TracedArguments(self._names, args, kwargs)
        eager = functools.partial(self._function, *given.args, **given.kwargs)
        return run_checked(plan, arrays, eager, self._title)

    def _holding(self, signature: Any, args: Any, kwargs: Any) -> Plan | None:
        """The plan for a call, if there is one."""
        try:
            plans = self._plans.get(signature, ())
        except TypeError:
            raise unhashable(self._names, args, kwargs) from None
        for plan in plans:
            if plan.holds():
                self._last = plan
                return plan
        return None

    def epoch(self, *data: Any, **options: Any) -> Tensor:
        """Run the step on every mini-batch of an epoch inside compiled code, gathering included;
        returns what the calls return, a number each, as a Tensor of shape (batches,).

        data: a DataLoader, whose next epoch this is; or arrays, with the DataLoader's `options`
            (batch_size, shuffle, drop_last, seed), for the first epoch of a new one.
        The result is bit for bit that of `for batch in loader: step(*batch)`, and an interrupt
        finds the parameters after some whole batches. A batch of another size than the others, and
        a step that is not one compiled function, run as calls do. Errors: those of the calls, and
        ArgumentError for options that there are not, and before anything has changed unless the
        step returns one number.
        """
        loader = loader_of(data, options)
        with self._running:
            return run_epoch(self._number, loader, whole=self._check is None)

    def _number(self, batch: list[Any]) -> tuple[Any, Plan]:
        """What a call returns, as an array of shape (1,), and its plan."""
        arrays, signature = signature_of(batch, {})
        plan = self._holding(signature, batch, {})
        if plan is None:
            check = functools.partial(refuse_unless_number, title=self._title)
            plan = self._trace(signature, batch, {}, check)
        else:
            refuse_unless_number(plan.rebuild(plan.program.results), self._title)
        if self._check is None:
            result = plan.run(arrays)
        else:
            result = self._run_checked(plan, arrays, batch, {})
        return result._data.reshape(1), self._latest()

    # --- tracing -------------------------------------------------------------------------------

    def _trace(
        self,
        signature: Any,
        args: Any,
        kwargs: Mapping[str, Any],
        check: Callable[[Any], None] = lambda result: None,
    ) -> Plan:
        """A new plan for calls like this one. check: raises to refuse a result."""
        given = TracedArguments(self._names, args, kwargs)
        trace = Trace(given.tensors)
        # Objects among the arguments may change as those outside may.
        label = "model" if isinstance(self._function, Module) else "self"
        before = Watched({label: self._function, **given.statics}, trace.know)
        trace.undo(functools.partial(random.go_back, random.place()))
        try:
            trace.note_module = before.call
            with tracing(trace), before.following():
                result = self._function(*given.args, **given.kwargs)
            check(result)
            found: list[Tensor] = []
            rebuild = taken_apart(result, found)
            watched = before.again()
            refuse_left(before, watched, trace)
            known = [place.tensor for place in watched.places]
            trace.give_elements(known)
            together = Together(known)
            if not before.guards():  # the step counts, which compiled calls would not
                trace.guards.append((bool, True))  # never holds
            trace.guards += [(guard, True) for guard in (watched.guards, together) if len(guard)]
            program = trace.program(found)
        finally:
            trace.take_back()
        plan = Plan(trace, program, rebuild, known, self._title, self._workspace)
        self._plans.keep(signature, plan)
        self._last = plan
        return plan

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        """As a method: bound to its object, with traces of its own."""
        if owner is None:
            return self
        methods = methods_of(owner)
        return methods.get(self) or methods.setdefault(
            self, Bound(self._function, owner, self._check)
        )

    def __reduce__(self) -> Any:
        """Pickled as a function is."""
        return reduced(self, self._function, functools.partial(compile, check=self._check))

    def __copy__(self) -> "Compiled":
        """Itself, as of a function."""
        return self

    def __deepcopy__(self, memo: Any) -> "Compiled":
        """Itself, as of a function."""
        return self

    # --- what was made -------------------------------------------------------------------------

    @property
    def source(self) -> str:
        """The generated Python of the latest call. Errors: TraceError before the first."""
        return self._latest().emitted.source

    @property
    def path(self) -> Any:
        """The file of `source`, or None where no folder could take one. Errors: as source."""
        return self._latest().path

    @property
    def program(self) -> str:
        """The traced operations of the latest call after all passes, a line for each.

        Errors: as source.
        """
        return str(self._latest().program)

    def _latest(self) -> Plan:
        if self._last is None:
            raise TraceError(f"compile: call {self._title} first; it is traced then")
        return self._last

    def report(self) -> str:
        """What was fused, which passes over memory are left, and the seconds that tracing, writing
        and Numba's compiling or loading, in the call that follows, took. Errors: as source."""
        return report(self._latest())


class Bound(Compiled):
    """A compiled method of an object."""

    def __init__(self, function: Callable[..., Any], owner: Any, check: int | None) -> None:
        super().__init__(types.MethodType(function, owner), check)
        self.__self__ = owner

    def __get__(self, owner: Any, kind: Any = None) -> "Bound":
        """Itself: it is bound already."""
        return self

    __copy__ = __deepcopy__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        """Pickled and copied as a bound method is: by its object and its name."""
        return getattr, (self.__self__, self.__name__)  # type: ignore[attr-defined]
