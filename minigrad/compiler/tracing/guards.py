"""Guards tell whether what a trace has met outside the step is still as it was."""

import gc
import zlib
from collections.abc import Callable, Iterable
from itertools import chain, repeat
from operator import is_
from typing import Any

import numpy as np

from ...engine.tensor import Tensor
from .inspection import ABSENT, is_plain

_nbytes: Any = np.ndarray.nbytes.__get__
MOST_BYTES = 1 << 13  # of an array whose elements are compared


class Guards:
    """Readings of objects outside the step, with what each has found.

    A call tells whether all readings find the same objects, or equal plain values, again.
    """

    def __init__(self) -> None:
        self._whole: list[Any] = []  # objects, and all that they held
        self._held: list[Any] = []
        self._dicts: list[dict[str, Any]] = []  # dicts, a name in each, and the value there
        self._names: list[str] = []
        self._values: list[Any] = []
        self._spaces: list[dict[str, Any]] = []  # dicts, and all their names
        self._known: list[str] = []
        self._keys: list[Any] = []  # views of the keys of dicts, and these keys
        self._keyed: list[Any] = []
        self._looks: list[tuple[Callable[[Any], Any], Any]] = []
        self._seen: list[Any] = []

    def __len__(self) -> int:
        return len(self._whole) + len(self._dicts) + len(self._spaces) + len(self._looks)

    def whole(self, x: Any) -> None:
        """Guard all objects that x refers to."""
        self._whole.append(x)
        self._held += gc.get_referents(x)

    def value(self, space: dict[str, Any], name: str) -> Any:
        """Guard the value at a name, which may be absent, and return it."""
        found = dict.get(space, name, ABSENT)
        self._dicts.append(space)
        self._names.append(name)
        self._values.append(found)
        return found

    def names(self, space: dict[str, Any]) -> None:
        """Guard the names in a dict, and their order."""
        self._spaces.append(space)
        self._known += space

    def keys(self, x: dict[Any, Any]) -> None:
        """Guard all keys of a dict."""
        self._keys.append(dict.keys(x))
        self._keyed += dict.keys(x)

    def look(self, look: Callable[[Any], Any], x: Any) -> Any:
        """Guard what `look` finds in x, and return it."""
        found = look(x)
        self._looks.append((look, x))
        self._seen.append(found)
        return found

    def __call__(self) -> bool:
        if list(chain.from_iterable(self._spaces)) != self._known:
            return False
        held = gc.get_referents(*self._whole)
        values = map(dict.get, self._dicts, self._names, repeat(ABSENT))
        if not (  # every call pays for this: mostly, all are the same objects
            len(held) == len(self._held)
            and all(map(is_, held, self._held))
            and all(map(is_, values, self._values))
        ):
            values = map(dict.get, self._dicts, self._names, repeat(ABSENT))
            if not (_alike(held, self._held) and _alike([*values], self._values)):
                return False
        return (not self._looks or _alike([look(x) for look, x in self._looks], self._seen)) and (
            not self._keys or _alike([*chain.from_iterable(self._keys)], self._keyed)
        )


def _alike(now: list[Any], seen: list[Any]) -> bool:
    """Return whether these are the objects that were seen, or plain values that equal them."""
    if len(now) != len(seen):
        return False
    if not all(map(is_, now, seen)):
        if not all(map(same, now, seen)):
            return False
        seen[:] = now
    return True


def same(a: Any, b: Any) -> bool:
    """Return whether a step cannot tell a from b; it can tell 1, 1.0 and True, or 0.0 and -0.0."""
    if type(a) is tuple is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    return a is b or (type(a) is type(b) and is_plain(a) and repr(a) == repr(b))


class Elements:
    """Whether small arrays of NumPy have the elements that they had when they were noted, which
    Python may have read; larger ones would take too long to look at in each call."""

    def __init__(self) -> None:
        self._noted: dict[int, tuple[Any, int]] = {}
        self._met: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._noted)

    def note(self, array: Any) -> None:
        """The elements of this array count, if it is small."""
        self._met[id(array)] = array
        if _nbytes(array) <= MOST_BYTES and id(array) not in self._noted:
            self._noted[id(array)] = array, _checksum(array)

    def has(self, array: Any) -> bool:
        """Whether this array was noted, of whatever size."""
        return id(array) in self._met

    def leave_out(self, met: Callable[[Any], bool]) -> None:
        """Forget the arrays that `met` is true of: these are read anew in each call."""
        self._noted = {i: noted for i, noted in self._noted.items() if not met(noted[0])}

    def __call__(self) -> bool:
        return all(_checksum(array) == seen for array, seen in self._noted.values())


def _checksum(array: Any) -> int:
    return zlib.crc32(np.ndarray.tobytes(array))  # also of a class with its own


class Together:
    """A guard that Tensors which share an array, and so are one Value, still share it."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        first: dict[int, Tensor] = {}
        self._pairs = []
        for x in tensors:
            other = first.setdefault(id(x._data), x)
            if other is not x:
                self._pairs.append((x, other))

    def __len__(self) -> int:
        return len(self._pairs)

    def __call__(self) -> bool:
        return all(a._data is b._data for a, b in self._pairs)
