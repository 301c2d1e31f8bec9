"""Guards tell whether all that a trace has read outside the step is unchanged."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from operator import is_
from types import MappingProxyType
from typing import Any, TypeAlias

from ...engine.tensor import Tensor
from ..ir.live_numbers import is_number
from .inspection import ABSENT, Space, is_plain
from .straight_line import StraightLine

# A function that returns something outside the step; it may have a method `reads`, see `depend`.
Look: TypeAlias = Callable[[], object]
# Expressions that readings use; {0} and {1} stand for objects.
ITEM = "{0}[{1}]"
CELL = "{0}.cell_contents"
SLOT = "{1}.__get__({0})"
TYPE = "type({0})"
CALL = "{0}()"
OF = "{1}({0})"


class Reading:
    """A Reading is an expression, the objects in it, and its value when it was read.

    seen: the value, or ABSENT if the expression raises an error. each: whether the value is a tuple
        whose parts are compared one by one.
    """

    def __init__(self, code: str, given: tuple[object, ...], each: bool = False) -> None:
        self.code, self.given, self.each = code, given, each
        self.seen = self.now()

    def now(self) -> object:
        """Return the value of the expression now, or ABSENT."""
        try:
            return _function(self.code, len(self.given))(*self.given)
        except Exception:
            return ABSENT


@cache
def _function(code: str, count: int) -> Callable[..., object]:
    names = [f"x{i}" for i in range(count)]
    function: Callable[..., object] = eval(f"lambda {', '.join(names)}: {code.format(*names)}")
    return function


class Guards:
    """Guards are the readings of a trace; they hold while each reading has the same value.

    `unchanged()` returns whether all values are the same objects, those in `expected`. It is one
    generated function with lines such as `if o2["rate"] is not v0: return False`. A call of Guards
    also accepts equal plain values, and later compares with these.
    """

    def __init__(self) -> None:
        self._readings: dict[tuple[str | int, ...], Reading] = {}
        self.expected: tuple[object, ...] = ()
        self.unchanged: Any = self._generate

    def __len__(self) -> int:
        return len(self._readings)

    def read(self, code: str, *given: object, each: bool = False) -> Any:
        """Guard the value of an expression, and return it."""
        key = _key(code, given)
        if key not in self._readings:
            self._readings[key] = Reading(code, given, each)
        return self._readings[key].seen

    def drop(self, code: str, *given: object) -> None:
        """Guard the value of an expression no longer."""
        self._readings.pop(_key(code, given), None)
        self.unchanged = self._generate

    def replace(self, objects: Mapping[int, object]) -> None:
        """Expect other objects in place of some that were read; objects: by their identities."""
        if objects:
            for reading in self._readings.values():
                seen = reading.seen
                parts = seen if type(seen) is tuple else (seen,)
                if any(id(part) in objects for part in parts):
                    parts = tuple([objects.get(id(part), part) for part in parts])
                    reading.seen = parts if type(seen) is tuple else parts[0]

    def item(self, space: Space, key: object) -> Any:
        """Guard the value at a key of a dict, and return it."""
        exact = type(space) is dict or type(space) is MappingProxyType
        return self.read(ITEM if exact else "dict.__getitem__({0}, {1})", space, key)

    def names(self, space: Space) -> None:
        """Guard the keys of a dict, which are names, and the order of the keys."""
        if not len(space):
            self.read("len({0})", space)
        elif type(space) is dict or type(space) is MappingProxyType:
            self.read("([*{0}] == {1})", space, [*space])
        else:
            self.read("([*dict.keys({0})] == {1})", space, [*dict.keys(space)])

    def depend(self, look: Look) -> None:
        """Guard the readings that `look.reads()` lists or, without `reads`, what look() returns."""
        for code, given in look.reads() if hasattr(look, "reads") else [(CALL, (look,))]:
            self.read(code, *given)

    def expect(self, look: Look, seen: object) -> None:
        """Guard that a function returns `seen`, which it has returned before."""
        if not hasattr(look, "reads"):
            self.read(CALL, look)
            self._readings[CALL, id(look)].seen = seen
        elif look() == seen:
            self.depend(look)
        else:
            self.never()

    def never(self) -> None:
        """Add a guard that never holds."""
        self.read(CALL, object)

    def __call__(self) -> bool:
        """Return whether each value is the same object, or an equal plain value."""
        if self.unchanged():
            return True
        now = self.now()
        if not all(map(same, now, (reading.seen for reading in self._readings.values()))):
            return False
        self.accept(now)
        return True

    def now(self) -> list[object]:
        """Return the values of all expressions now."""
        return [reading.now() for reading in self._readings.values()]

    def accept(self, now: list[object]) -> None:
        """Guard these values of all expressions from now on."""
        fits = True
        for reading, found in zip(self._readings.values(), now, strict=True):
            fits = fits and (reading.seen is ABSENT) == (found is ABSENT)
            reading.seen = found
        self.expected = tuple(now)
        if not fits:
            self.unchanged = self._generate

    def forget(self) -> None:
        """Make `unchanged()` return False until `accept`, whatever the values are."""
        self.expected = tuple([object() for _ in self._readings])

    def write(self, code: StraightLine, otherwise: str) -> None:
        """Write lines that run `return otherwise` unless all values are the same objects.

        The lines stand in a `try` block, since each expression may raise an error.
        """
        self.expected = tuple([reading.seen for reading in self._readings.values()])
        values = code.fresh(len(self._readings))
        code.unpack(f"{code.name(self)}.expected", values, indent=2)
        for v, reading in zip(values, self._readings.values(), strict=True):
            now = reading.code.format(*map(code.name, reading.given))
            owner, bracket, key = now.partition("[")
            if reading.seen is ABSENT:
                now = f"{code.name(reading.now)}()"
            elif bracket and re.fullmatch(r"\w+\.\w+", owner):  # the state of an optimizer
                now = f"{code.shared(owner, 2)}[{key}"
            test = f"not {code.name(is_each)}({now}, {v})" if reading.each else f"{now} is not {v}"
            # One long condition would be slower.
            code.add(f"if {test}: return {otherwise}", indent=2)

    def _generate(self) -> bool:
        """Generate `unchanged`, and return what it returns."""
        code = StraightLine()
        code.add("try:")
        self.write(code, "False")
        code.add("return True", indent=2)
        code.add("except Exception:")
        code.add("return False", indent=2)
        self.unchanged = code.function()
        return bool(self.unchanged())


def _key(code: str, given: tuple[object, ...]) -> tuple[str | int, ...]:
    return code, *(x if type(x) is str else id(x) for x in given)


def is_each(now: tuple[object, ...], seen: tuple[object, ...]) -> bool:
    """Return whether two tuples have the same objects."""
    return len(now) == len(seen) and all(map(is_, now, seen))


def same(a: object, b: object) -> bool:
    """Return whether no step can tell a from b; a step can tell 1 from 1.0, and 0.0 from -0.0."""
    if type(a) is tuple is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    return a is b or ((is_plain(a) or is_number(a)) and type(a) is type(b) and repr(a) == repr(b))


def sharing(tensors: Iterable[Tensor]) -> list[Callable[[], bool]]:
    """Return functions that tell whether Tensors that share an array, and a Value, still do so."""
    first: dict[int, Tensor] = {}
    pairs = [(x, first.setdefault(id(x._data), x)) for x in tensors]
    return [partial(_share, x, other) for x, other in pairs if other is not x]


def _share(a: Tensor, b: Tensor) -> bool:
    return a._data is b._data
