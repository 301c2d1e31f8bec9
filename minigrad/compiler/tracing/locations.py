"""A Location is where the step, or what it names, has an object from outside."""

from collections import deque
from collections.abc import Callable
from types import CellType, MemberDescriptorType
from typing import Any, Final, NamedTuple, TypeAlias

from .guards import CELL, ITEM, SLOT
from .inspection import ABSENT

ITEMS: Final = object()  # the key of each item of a list or deque, where positions may change
# The identity of the object that holds another one, and the key, or the identity of the key.
Identity: TypeAlias = tuple[int, str | int]


class Location(NamedTuple):
    """A Location is where an object was found: its name, the object that holds it, and the key.

    position: the position in a list or dict, or -1.
    """

    name: str
    owner: object = None
    key: object = None
    position: int = -1

    @property
    def identity(self) -> Identity:
        """Return the location without its name, so that locations can be compared."""
        return id(self.owner), self.key if type(self.key) is str else id(self.key)

    @property
    def reading(self) -> tuple[str, tuple[object, ...]] | None:
        """Return the expression that reads the location, with its objects, or None.

        There is none for what has no place of its own, such as a part of a tuple.
        """
        if type(self.owner) is CellType:
            return CELL, (self.owner,)
        if type(self.key) is MemberDescriptorType:
            return SLOT, (self.owner, self.key)
        if type(self.owner) in (list, deque) and self.position >= 0:
            return ITEM, (self.owner, self.position)
        return (ITEM, (self.owner, self.key)) if type(self.owner) is dict else None


class Others:
    """Others returns the items of a list or dict, with ABSENT for those at some positions.

    parts: a function that returns all items; without: the positions.
    """

    def __init__(self, parts: Callable[[Any], tuple[object, ...]], without: frozenset[int]) -> None:
        self.parts, self.without = parts, without

    def __call__(self, x: object) -> tuple[object, ...]:
        return tuple(
            [ABSENT if i in self.without else part for i, part in enumerate(self.parts(x))]
        )
