"""A live number stands for a number from outside the step, which each call reads again.

While a step is traced, it takes the place of the number and of what Python computes from it, such
as `rate * 0.5 ** epoch`. Operations have live numbers as operands. Whatever else looks at a number
gets its value, and the trace is then valid only while it would see the same.
"""

import dis
import math
import operator
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ...errors import TraceError

CORRECTS_SUMS = sys.version_info >= (3, 12)

# A number, or a LiveNumber in its place; the type is Any, since LiveNumber says it has another one.
Number: TypeAlias = Any

_INTEGERS = [getattr(np, f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
_KINDS = (float, int, np.float32, np.float64, *_INTEGERS)


def plain(x: Any) -> Any:
    """Return the number that a LiveNumber stands for at present, and any other object as it is."""
    return x.value if type(x) is LiveNumber else x


def fixed(x: Any) -> Any:
    """Return x without live numbers in it: the trace becomes valid for these numbers only."""
    if type(x) is LiveNumber:
        return x.log.look(_itself, x)
    if type(x) in (tuple, list):
        return type(x)(map(fixed, x))
    if type(x) is dict:
        return {fixed(k): fixed(v) for k, v in x.items()}
    return slice(fixed(x.start), fixed(x.stop), fixed(x.step)) if type(x) is slice else x


def same(a: object, b: object) -> bool:
    """Return whether two numbers are the same to any step; 1 and 1.0 differ, also 0.0 and -0.0."""
    return type(a) is type(b) and (a is b or repr(a) == repr(b))


def is_number(x: object) -> bool:
    """Return whether x is a float or integer of exactly a class of Python or NumPy."""
    return any(type(x) is kind for kind in _KINDS)


def _itself(x: object) -> object:
    return x


def _item(x: Any) -> Any:
    return x.item()


class Look(NamedTuple):
    """A Look is a function of live numbers whose result has decided something in the trace."""

    function: Callable[..., object]
    operands: tuple[Number, ...]
    seen: object


class NumberLog:
    """A NumberLog has the live numbers of one trace, and what the trace has seen of them.

    It records until `close`. Later, live numbers are mere values. Threads other than the one that
    traces get plain numbers; since the step may have started them, what they see is recorded, too.
    """

    def __init__(self) -> None:
        self.numbers: list[LiveNumber] = []  # each after those that it is computed from
        self.looks: dict[object, Look] = {}
        self._thread: int | None = threading.get_ident()

    def close(self) -> None:
        """End the recording."""
        self._thread = None

    def read(self, look: Callable[[], object], name: str) -> "LiveNumber":
        """Return a new LiveNumber for what `look` returns in each call."""
        return self._add(LiveNumber(self, look(), name, look, ()))

    def apply(self, function: Callable[..., object], *operands: Number) -> Any:
        """Return the result of a function of numbers, as a LiveNumber if it is a number."""
        value = function(*map(plain, operands))
        if threading.get_ident() != self._thread:
            return self.look(function, *operands)  # a thread that the step has started, perhaps
        if type(value) is tuple:  # of divmod
            return tuple(self.apply(part, *operands) for part in (operator.floordiv, operator.mod))
        if not is_number(value):
            return self.look(function, *operands)
        name = f"{getattr(function, '__name__', 'f')}({', '.join(map(shown, operands))})"
        return self._add(LiveNumber(self, value, name, function, operands))

    def look(self, function: Callable[..., object], *operands: Number) -> Any:
        """Return the result of a function of numbers, which the trace then depends on."""
        seen = function(*map(plain, operands))
        if self._thread is not None:
            key = function, *(id(x) if type(x) is LiveNumber else repr(x) for x in operands)
            self.looks[key] = Look(function, operands, seen)
        return seen

    def fixes(self, x: "LiveNumber") -> bool:
        """Return whether the trace is valid for the present value of x only."""
        return (_itself, id(x)) in self.looks

    def names(self) -> list[str]:
        """Return the names of the numbers that each call reads."""
        return [x.name for x in self.numbers if not x.operands]

    def renew(self) -> bool:
        """Compute all numbers again, and return whether the trace is valid for them.

        If it is not, the numbers stay as they are.
        """
        before = [x.value for x in self.numbers]
        try:
            for x in self.numbers:
                value = x.function(*map(plain, x.operands))
                if type(value) is not type(x.value) or not has_float(value):
                    break
                x.value = value
            else:
                if all(same(f(*map(plain, given)), seen) for f, given, seen in self.looks.values()):
                    return True
        except Exception:  # a new trace raises the error, or does without the function
            pass
        for x, value in zip(self.numbers, before, strict=True):
            x.value = value
        return False

    def _add(self, x: "LiveNumber") -> "LiveNumber":
        self.numbers.append(x)
        return x


def has_float(value: Any) -> bool:
    """Return whether a number is the same in float64, in which compiled code gets it."""
    return not isinstance(value, (int, np.integer)) or int(float(value)) == value


def shown(x: object) -> str:
    """Return the name of a LiveNumber, or the text of any other object."""
    return f"%{x.name}" if type(x) is LiveNumber else repr(x)


def _are_numbers(operands: tuple[object, ...]) -> bool:
    return all(type(x) is LiveNumber or type(x) is bool or is_number(x) for x in operands)


def _refuse_sum(caller: FrameType) -> None:
    """Refuse an addition by `sum`, which from Python 3.12 on corrects the rounding of floats only.

    Functions in C have no frame, so the caller's instruction is then no operator.
    """
    name = dis.opname[caller.f_code.co_code[caller.f_lasti]]
    if CORRECTS_SUMS and not name.startswith(("BINARY_", "INPLACE_")):
        raise TraceError("compile: a sum of live numbers has other bits, so it is traced again")


def _arithmetic(function: Callable[..., object]) -> Callable[..., Any]:
    def method(self: "LiveNumber", *others: object) -> Any:
        if function is operator.add:
            _refuse_sum(sys._getframe(1))
        return self.log.apply(function, self, *others) if _are_numbers(others) else NotImplemented

    return method


def _reflected(function: Callable[..., object]) -> Callable[..., Any]:
    def method(self: "LiveNumber", other: object) -> Any:
        if function is operator.add:
            _refuse_sum(sys._getframe(1))
        return self.log.apply(function, other, self) if _are_numbers((other,)) else NotImplemented

    return method


def _seen(function: Callable[..., object]) -> Callable[..., Any]:
    """Return a method that gives the result of the function, which the trace depends on."""

    def method(self: "LiveNumber", *others: object) -> Any:
        return self.log.look(function, self, *others) if _are_numbers(others) else NotImplemented

    return method


def _exactly(function: Callable[..., object]) -> Callable[..., Any]:
    """Return a method that applies the function to the value, which the trace depends on."""
    return lambda self, *others: function(fixed(self), *others)


class LiveNumber:
    """A LiveNumber is a number that each call reads anew, or computes from such numbers.

    value: the number at present. function, operands: each call applies the function to the
        operands; without operands, the function reads the number. name: its name in listings.
    """

    __slots__ = ("function", "log", "name", "operands", "value")

    def __init__(
        self,
        log: NumberLog,
        value: Any,
        name: str,
        function: Callable[..., object],
        operands: tuple[Number, ...],
    ) -> None:
        self.log, self.value, self.name = log, value, name
        self.function, self.operands = function, operands

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Return the class of the number, so that isinstance finds it."""
        return type(self.value)

    def item(self) -> Any:
        """Return the number as one of Python's, live."""
        return self.log.apply(_item, self) if isinstance(self.value, np.generic) else self

    def __getattr__(self, name: str) -> Any:
        getattr(self.value, name)  # an attribute that is missing says nothing about the value
        return getattr(fixed(self), name)

    __add__, __radd__ = _arithmetic(operator.add), _reflected(operator.add)
    __sub__, __rsub__ = _arithmetic(operator.sub), _reflected(operator.sub)
    __mul__, __rmul__ = _arithmetic(operator.mul), _reflected(operator.mul)
    __truediv__, __rtruediv__ = _arithmetic(operator.truediv), _reflected(operator.truediv)
    __floordiv__, __rfloordiv__ = _arithmetic(operator.floordiv), _reflected(operator.floordiv)
    __mod__, __rmod__ = _arithmetic(operator.mod), _reflected(operator.mod)
    __divmod__, __rdivmod__ = _arithmetic(divmod), _reflected(divmod)
    __pow__, __rpow__ = _arithmetic(pow), _reflected(pow)
    __lshift__, __rlshift__ = _arithmetic(operator.lshift), _reflected(operator.lshift)
    __rshift__, __rrshift__ = _arithmetic(operator.rshift), _reflected(operator.rshift)
    __and__, __rand__ = _arithmetic(operator.and_), _reflected(operator.and_)
    __or__, __ror__ = _arithmetic(operator.or_), _reflected(operator.or_)
    __xor__, __rxor__ = _arithmetic(operator.xor), _reflected(operator.xor)
    __neg__, __pos__ = _arithmetic(operator.neg), _arithmetic(operator.pos)
    __abs__, __invert__ = _arithmetic(operator.abs), _arithmetic(operator.invert)
    __round__, __trunc__ = _arithmetic(round), _arithmetic(math.trunc)
    __floor__, __ceil__ = _arithmetic(math.floor), _arithmetic(math.ceil)

    __lt__, __le__ = _seen(operator.lt), _seen(operator.le)
    __gt__, __ge__ = _seen(operator.gt), _seen(operator.ge)
    __eq__, __ne__ = _seen(operator.eq), _seen(operator.ne)
    __bool__, __int__ = _seen(bool), _seen(int)

    __float__, __complex__, __index__ = _exactly(float), _exactly(complex), _exactly(operator.index)
    __hash__, __str__, __repr__ = _exactly(hash), _exactly(str), _exactly(repr)
    __format__ = _exactly(format)
    __array__ = _exactly(np.asarray)
    __copy__ = __deepcopy__ = lambda self, *memo: self

    def __reduce_ex__(self, protocol: Any) -> Any:
        return fixed(self).__reduce_ex__(protocol)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if ufunc is np.power and isinstance(inputs[0], np.generic):
            return NotImplemented  # NumPy's scalars have an operator that rounds otherwise
        if method == "__call__" and not options and _are_numbers(inputs):
            return self.log.apply(ufunc, *inputs)
        return getattr(ufunc, method)(*fixed(inputs), **fixed(options))

    def __array_function__(self, function: Any, kinds: Any, given: Any, options: Any) -> Any:
        return function(*fixed(given), **fixed(options))
