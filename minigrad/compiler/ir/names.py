"""This module gives unique names to Values and to what generated code defines."""

from collections.abc import Collection


class Names:
    """Names is a set of names in use; `fresh_name` adds a new one in constant time.

    taken: names that are in use from the beginning.
    """

    def __init__(self, taken: Collection[str] = ()) -> None:
        self._before = taken
        self.made: set[str] = set()
        self._next: dict[str, int] = {}  # by name, the number to try next as its ending

    def fresh_name(self, name: str) -> str:
        """Return the name, or the name with the first free number as its ending, and reserve it."""
        wanted = name
        while wanted in self.made or wanted in self._before:
            i = self._next.get(name, 2)
            self._next[name] = i + 1
            wanted = f"{name}_{i}"
        self.made.add(wanted)
        return wanted
