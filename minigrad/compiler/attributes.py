"""The attributes that an object has itself, in its `__dict__` or its `__slots__`, as a mapping."""

from collections.abc import Iterator, Mapping
from types import MemberDescriptorType
from typing import Any


class _Slotted(Mapping[str, Any]):
    """Those of an object of a class with `__slots__`."""

    def __init__(self, owner: Any, members: Mapping[str, MemberDescriptorType]) -> None:
        self._owner, self._members = owner, members
        self._held = vars(owner) if hasattr(owner, "__dict__") else {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._members:
            return self._held[name]
        try:
            return self._members[name].__get__(self._owner)
        except AttributeError:  # it has not been set
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return (name for name in (*self._held, *self._members) if name in self)

    def __len__(self) -> int:
        return len(list(iter(self)))


def attributes(x: Any) -> Mapping[str, Any]:
    """Those of x, also of what is set later."""
    members = {} if isinstance(x, type) else _members(type(x))
    if members:
        return _Slotted(x, members)
    return vars(x) if hasattr(x, "__dict__") else {}


def has_attributes(x: Any) -> bool:
    """Whether x may have any."""
    return hasattr(x, "__dict__") or bool(_members(type(x)))


def _members(kind: type) -> dict[str, MemberDescriptorType]:
    return {
        name: member
        for base in reversed(kind.__mro__)
        for name, member in vars(base).items()
        if isinstance(member, MemberDescriptorType) and not name.startswith("__")
    }
