"""The tape: records of the primitives that were applied, their order, and the modes of recording.

There is no global list. A Tensor points at the record that made it, and a record at its input
Tensors; the tape of a result is the list of the records that can be reached from it, in the order
of their numbers.
"""

import inspect
import itertools
import threading
from collections.abc import Iterable, Sequence
from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ..errors import DtypeError
from ..ops.primitive import MAX_OUTPUTS, Primitive

if TYPE_CHECKING:
    from .tensor import Tensor

# One clock numbers records and dates changes in place, so that one comparison tells whether a
# Tensor was changed after it was recorded. next() on it is atomic in CPython. It goes in steps, so
# that each output of a record has a number.
clock = itertools.count(MAX_OUTPUTS, MAX_OUTPUTS)
_last_change = 0
_stamping = threading.Lock()


# Another object as soon as a Tensor gets another array or requires_grad, or a Module another
# attribute, so that one comparison tells whether any has.
bindings: list[object] = [object()]


def stamp_change() -> int:
    """Return the time of a change in place, which is now."""
    global _last_change
    with _stamping:  # no thread may put an older time over a newer one
        _last_change = next(clock)
        return _last_change


def last_change() -> int:
    """Return when a Tensor was last changed in place; records made later need no check."""
    return _last_change


class Record:
    """One application of a primitive: y = primitive(*inputs, **attributes).

    inputs: Tensors, Python numbers or None, as they were given. arrays: the inputs, with arrays in
        place of Tensors. y: what the forward has returned, for rules that read it; it has arrays,
        because a record that pointed at its Tensor would make a cycle. All three are None after
        backward has freed the record.
    needs: the positions of the inputs that gradients flow to.
    number: the number of the first output; other outputs have the numbers that follow.
    changed: whether an output was changed in place after it was made.
    scopes: the module calls that were running when the record was made, from inside out, as
        (weak reference to the module, time of the call, (scopes around it)); None outside modules.
    """

    __slots__ = (
        "arrays",
        "attributes",
        "changed",
        "inputs",
        "needs",
        "number",
        "primitive",
        "scopes",
        "y",
    )

    def __init__(
        self,
        primitive: Primitive,
        inputs: Any,
        arrays: Any,
        attributes: dict[str, Any],
        y: Any,
        needs: Sequence[int],
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.arrays = arrays
        self.attributes = attributes
        self.y = y
        self.needs = needs
        self.scopes: Any = None
        self.changed = False
        self.number = next(clock)

    def free(self) -> None:
        """Drop inputs and output; the record remains, so that a second backward is an error."""
        self.inputs = self.arrays = self.y = None
        self.needs = ()

    def __repr__(self) -> str:
        return f"<record {self.number}: {self.primitive.name}>"


def tape(roots: Iterable["Tensor"]) -> list[Record]:
    """Return the records that the given Tensors were computed by, in the order of their numbers.

    It is iterative, so that a chain may be as long as memory allows. A record that backward has
    freed (its inputs are None) is in the list, but the records behind it are not.
    """
    found: dict[int, Record] = {}
    stack = [t._record for t in roots if t._record is not None]
    while stack:
        record = stack.pop()
        if record.number not in found:
            found[record.number] = record
            for i in record.needs:
                parent = record.inputs[i]._record
                if parent is not None:
                    stack.append(parent)
    return [found[number] for number in sorted(found)]


# --- modes: context variables, so that each thread and each asyncio task has its own ------------

# True: operations are recorded. False: they are not. None: they are not, and they are expected to
# be given arrays only, as in a backward pass that is not itself recorded.
grad_mode: ContextVar[bool | None] = ContextVar("minigrad_grad_mode", default=True)


def is_grad_enabled() -> bool:
    """Return whether operations are recorded, in this thread or task."""
    return bool(grad_mode.get())


# The modes that the open `with` blocks will restore, innermost first: (mode, (mode, ...)). They are
# not kept in the block's object, because threads may share it.
_before: ContextVar[Any] = ContextVar("minigrad_modes_before", default=None)


class _GradMode(ContextDecorator):
    """Sets the mode in a `with` block or a decorated function; blocks may be nested and reused."""

    _enabled: bool

    def __new__(cls, function: Any = None) -> Any:
        """Return the mode or, as a decorator without parentheses, the decorated function."""
        return super().__new__(cls) if function is None else cls()(function)

    def __enter__(self) -> "_GradMode":
        mode, rest = grad_mode.get(), _before.get()
        try:
            _before.set((mode, rest))
            grad_mode.set(self._enabled)
        except BaseException:  # after an interrupt the block is not entered, and so never left
            grad_mode.set(mode)
            _before.set(rest)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        mode, rest = _before.get()
        grad_mode.set(mode)
        _before.set(rest)

    def __call__(self, function: Any) -> Any:
        if not callable(function):
            raise DtypeError(
                f"{type(self).__name__}: expected a function to decorate, got "
                f"{type(function).__name__}; a block begins `with mg.{type(self).__name__}():`"
            )
        if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
            raise DtypeError(
                f"{type(self).__name__}: {function.__name__} suspends, and a decorator would end "
                f"before its body runs; write `with {type(self).__name__}():` inside it"
            )
        return super().__call__(function)


class no_grad(_GradMode):
    """Records nothing inside `with mg.no_grad():` or a `function` decorated with it.

    >>> x = mg.tensor(2, requires_grad=True)
    >>> with mg.no_grad():
    ...     y = x * x
    >>> y.requires_grad, (x * x).requires_grad
    (False, True)
    """

    _enabled = False


class enable_grad(_GradMode):
    """Records inside `with mg.enable_grad():` or a decorated `function`, also within no_grad."""

    _enabled = True
