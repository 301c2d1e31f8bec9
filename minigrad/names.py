"""This module makes unique names for Values, generated code and variables of explanations."""

from collections.abc import Callable, Collection


class Names:
    """Names is a set of names in use; `fresh_name` adds a new one in constant time.

    taken: names that are in use from the beginning.
    """

    def __init__(self, taken: Collection[str] = ()) -> None:
        self._before = taken
        self.made: set[str] = set()
        self._next: dict[str, int] = {}  # by name, the number to try next as its ending

    def fresh_name(self, name: str, partner: Callable[[str], str] | None = None) -> str:
        """Return the name, or the name with the first free number as its ending, and reserve it.

        partner: a function that returns, for a name, another one to reserve with it.
        """
        wanted = name
        while self._is_taken(wanted) or (partner and self._is_taken(partner(wanted))):
            i = self._next.get(name, 2)
            self._next[name] = i + 1
            wanted = f"{name}_{i}"
        self.made.add(wanted)
        if partner is not None:
            self.made.add(partner(wanted))
        return wanted

    def _is_taken(self, name: str) -> bool:
        return name in self.made or name in self._before
