"""Unique names for Values and for what generated code defines."""

from collections.abc import Collection


class Names:
    """A set of names, to which `fresh_name` adds others in constant time.

    taken: names that are not free to begin with.
    """

    def __init__(self, taken: Collection[str] = ()) -> None:
        self._before = taken
        self.made: set[str] = set()
        self._next: dict[str, int] = {}  # the number to try first behind a name

    def fresh_name(self, name: str) -> str:
        """Return the name, or the name with the first free number behind it, and take it."""
        wanted = name
        while wanted in self.made or wanted in self._before:
            i = self._next.get(name, 2)
            self._next[name] = i + 1
            wanted = f"{name}_{i}"
        self.made.add(wanted)
        return wanted
