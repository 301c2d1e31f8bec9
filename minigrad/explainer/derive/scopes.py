"""Scopes are the module calls during which a record was made."""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

from ...engine.tape import Record
from .identifiers import one_line
from .user_names import UserNames

LABEL = 30  # characters of a module's name in a line of text


class Scope(NamedTuple):
    """A call of a module.

    label: the module's name, or else its class's; kind: its class; time: when the call began, on
    the scale of the records' numbers.
    """

    label: str
    kind: str
    time: int

    @property
    def short(self) -> str:
        """Return the label, or the end of a long one, since a line of text has little room."""
        return self.label if len(self.label) <= LABEL else f"…{self.label[1 - LABEL :]}"


def scopes_of(records: Sequence[Record], names: UserNames) -> list[tuple[Scope, ...]]:
    """Return the scopes around each record, outermost first.

    The records that return results of a call know the call; it lasts from its time to the last of
    them.
    """
    numbers = [record.number for record in records]
    calls: dict[Scope, tuple[int, int]] = {}
    for last, record in enumerate(records, 1):
        scopes = record.scopes
        while scopes is not None:
            reference, time, scopes = scopes
            if (module := reference()) is not None:
                kind = one_line(type(module).__name__)
                first = bisect.bisect(numbers, time)
                calls[Scope(names.of(module) or kind, kind, time)] = first, last
    found: list[tuple[Scope, ...]] = [() for _ in records]
    for scope, (first, last) in sorted(calls.items(), key=lambda call: call[0].time):
        for i in range(first, last):
            found[i] += (scope,)
    return found
