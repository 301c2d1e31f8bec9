"""The tape consists of records, one for each primitive that was applied to Tensors.

There is no global list. A Tensor refers to the record that made it, and a record to its input
Tensors. The tape of a result is the list of all records that can be reached from it, in the order
of their numbers. This file also has the modes that turn recording off and on.
"""

import inspect
import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import ContextDecorator
from contextvars import ContextVar
from heapq import heappushpop
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload
from weakref import ref

from ..errors import DtypeError
from ..ops.primitive import MAX_OUTPUTS, Attributes, Operand, Primitive

if TYPE_CHECKING:
    from .tensor import Tensor

F = TypeVar("F", bound=Callable[..., object])
# The module calls that are running, innermost first: a reference to the module, the time of the
# call, and the outer calls.
Scopes: TypeAlias = "tuple[ref[Any], int, Scopes] | None"

# One clock numbers records and changes in place, so that one comparison tells whether a Tensor was
# changed after it was recorded. next() is atomic in CPython. The clock advances by MAX_OUTPUTS, so
# that each output of a record has a number.
clock = itertools.count(MAX_OUTPUTS, MAX_OUTPUTS)
# A heap of one time: heappushpop leaves the later of two times in it, and is atomic in CPython.
_last_change = [0]


# A new object is put here when the array or requires_grad of a Tensor, or an attribute of a Module,
# is replaced, so that one comparison tells whether that has happened.
bindings: list[object] = [object()]


def stamp_change() -> int:
    """Return the time of a change in place, which is a new number of the clock."""
    now = next(clock)
    heappushpop(_last_change, now)
    return now


def last_change() -> int:
    """Return the time of the last change in place of any Tensor."""
    return _last_change[0]


class Record:
    """A Record is one application of a primitive: y = primitive(*inputs, **attributes).

    inputs: the inputs: Tensors, Python numbers or None.
    arrays: the inputs with each Tensor replaced by its array.
    y: the result of the forward, for rules that read it. It holds arrays, since a reference to the
        result's Tensor would make a cycle. inputs, arrays and y are None after backward has freed
        the record.
    wrt: the positions of the inputs that gradients flow to.
    number: the number of the first output; other outputs have the numbers that follow.
    changed: whether an output was changed in place after it was made.
    scopes: the module calls that were running when the record was made, innermost first, as
        (weak reference to the module, time of the call, outer scopes); None outside modules.
    """

    __slots__ = (
        "arrays",
        "attributes",
        "changed",
        "inputs",
        "number",
        "primitive",
        "scopes",
        "wrt",
        "y",
    )

    def __init__(
        self,
        primitive: Primitive,
        inputs: Sequence[Operand],
        arrays: Sequence[Operand],
        attributes: Attributes,
        y: Operand,
        wrt: Sequence[int],
    ) -> None:
        self.primitive = primitive
        self.inputs: Any = inputs  # Any, since it is None when the record has been freed
        self.arrays: Any = arrays
        self.attributes = attributes
        self.y = y
        self.wrt = wrt
        self.scopes: Scopes = None
        self.changed = False
        self.number = next(clock)

    def free(self) -> None:
        """Drop the inputs and the result; the record itself stays, so a second backward raises."""
        self.inputs = self.arrays = self.y = None
        self.wrt = ()

    def __repr__(self) -> str:
        return f"<record {self.number}: {self.primitive.name}>"


def tape(roots: Iterable["Tensor"]) -> list[Record]:
    """Return the records that computed the given Tensors, in the order of their numbers.

    The search is iterative, so a chain may be as long as memory allows. A record that backward has
    freed (its inputs are None) is in the list, but the records before it are not.
    """
    found: dict[int, Record] = {}
    stack = [t._record for t in roots if t._record is not None]
    while stack:
        record = stack.pop()
        number, inputs = record.number, record.inputs
        if number not in found:
            found[number] = record
            for i in record.wrt:
                parent = inputs[i]._record
                if parent is not None:
                    stack.append(parent)
    return [found[number] for number in sorted(found)]


# --- modes: context variables, so that each thread and each asyncio task has its own ------------

# True: operations are recorded. False: they are not recorded. None: they are not recorded, and
# normally get arrays only, as in a backward pass that is not itself recorded.
grad_mode: ContextVar[bool | None] = ContextVar("minigrad_grad_mode", default=True)


def is_grad_enabled() -> bool:
    """Return whether operations are recorded in this thread or task."""
    return bool(grad_mode.get())


# The modes that the open `with` blocks will restore, innermost first: (mode, (mode, ...)). They are
# not attributes of the context manager, because threads may share it.
_before: ContextVar[Any] = ContextVar("minigrad_modes_before", default=None)


class _GradMode(ContextDecorator):
    """A context manager and decorator that sets the mode; it may be nested and reused."""

    def __init__(self, name: str, enabled: bool) -> None:
        self._name, self._enabled = name, enabled

    def __enter__(self) -> "_GradMode":
        mode, rest = grad_mode.get(), _before.get()
        try:
            _before.set((mode, rest))
            grad_mode.set(self._enabled)
        except BaseException:  # after an interrupt here, Python does not call __exit__
            grad_mode.set(mode)
            _before.set(rest)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        mode, rest = _before.get()
        grad_mode.set(mode)
        _before.set(rest)

    def __call__(self, function: F) -> F:
        if not callable(function):
            raise DtypeError(
                f"{self._name}: expected a function to decorate, got "
                f"{type(function).__name__}; a block begins `with mg.{self._name}():`"
            )
        if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
            raise DtypeError(
                f"{self._name}: {function.__name__} suspends, and a decorator would end "
                f"before its body runs; write `with {self._name}():` inside it"
            )
        return super().__call__(function)


@overload
def no_grad() -> _GradMode: ...
@overload
def no_grad(function: F) -> F: ...
def no_grad(function: F | None = None) -> _GradMode | F:
    """Turn recording off inside `with mg.no_grad():` or in a `function` decorated with it.

    >>> x = mg.tensor(2, requires_grad=True)
    >>> with mg.no_grad():
    ...     y = x * x
    >>> y.requires_grad, (x * x).requires_grad
    (False, True)
    """
    mode = _GradMode("no_grad", False)
    return mode if function is None else mode(function)


@overload
def enable_grad() -> _GradMode: ...
@overload
def enable_grad(function: F) -> F: ...
def enable_grad(function: F | None = None) -> _GradMode | F:
    """Turn recording on inside `with mg.enable_grad():` or in a decorated `function`.

    It also works within no_grad.
    """
    mode = _GradMode("enable_grad", True)
    return mode if function is None else mode(function)
