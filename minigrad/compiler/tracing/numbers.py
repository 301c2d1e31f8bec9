"""Numbers from outside the step that change from trace to trace become inputs of its program.

The first trace guards a number. If the number differs in a later trace, a live number takes its
place for the time of that trace, be it an attribute, a global, a cell, an item or an argument.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ...errors import TraceError
from ..ir.live_numbers import LiveNumber, Number, NumberLog, fixed, is_number, same
from .captures import Captures
from .guards import Reading
from .inspection import ABSENT
from .leaks import put
from .locations import Location
from .signature import LIVE, Signature, names_of

MANY = 8  # traces that one number may cause without a warning

# The identity of a location, and the position in a list or -1.
Place: TypeAlias = tuple[tuple[int, str | int], int]


class NumberHistory:
    """A NumberHistory has what the traces of one function have found out about numbers.

    title: the name of the function; names: the names of its parameters.
    """

    def __init__(self, title: str, names: Sequence[str]) -> None:
        self._title, self._names = title, names
        self.arguments: dict[str, Number] = {}  # the live arguments of the current call
        self.live: set[str] = set()  # their names
        self._seen: dict[Place, Number] = {}  # as of the latest trace
        self._varying: set[Place] = set()
        self._static: set[Place] = set()  # these cannot be live
        self._changes: Counter[Place] = Counter()
        self.tells_apart = False  # whether its code may tell a live number from a number
        self.on_tape = False  # whether the latest trace has put results on the tape
        self.warnings: list[str] = []

    def signature(
        self, signature: Signature, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> Signature:
        """Return the signature without the values of live arguments, and note these values."""
        key = [*signature]
        named = zip(names_of(self._names, args), args, strict=True)
        for i, (name, x) in enumerate((*named, *kwargs.items())):
            if name in self.live and is_number(x):
                key[i] = type(x), LIVE
                self.arguments[name] = x
        return tuple(key)

    def notes(self, place: Place, name: str, x: Number, again: bool) -> bool:
        """Note the number in a place, and return whether it has been another one before.

        again: whether the function has been traced for arrays of the same shapes before.
        """
        before = self._seen.setdefault(place, x)
        if not same(before, x):
            self._seen[place] = x
            self._varying.add(place)
            self._changes[place] += again
            if again and self._changes[place] == MANY:
                self.warnings.append(
                    f"compile: {self._title} was traced {MANY} times because {name} was another "
                    "number each time, and compiled code cannot read it in each call: it decides "
                    "a branch, a size or an argument of a function, or the step changes it (does "
                    "the step count?); change it outside the step, and use it in arithmetic only, "
                    "or pass an array"
                )
        return place in self._varying

    def may_be_live(self, place: Place) -> bool:
        """Return whether a live number may stand in this place."""
        return place not in self._static and not (self.tells_apart or self.on_tape)

    def fix(self, place: Place) -> None:
        """Note that no live number can stand in a place."""
        self._static.add(place)
        (owner, name), _ = place
        if owner == id(self.arguments):
            self.live.discard(str(name))


class TracedNumbers:
    """TracedNumbers puts live numbers into their places for one trace.

    history: what is known from other traces; again: see `NumberHistory.notes`; live: whether to put
        live numbers anywhere.
    """

    def __init__(self, history: NumberHistory, again: bool, live: bool = True) -> None:
        self.log = NumberLog()
        self._history, self._again, self._may = history, again, live
        # For each place with a live number: the number from outside, and the live one.
        self.places: dict[Place, tuple[Number, LiveNumber]] = {}
        self._locations: dict[Place, list[Location]] = {}  # two for an item of a `__dict__`

    def meet(self, location: Location, x: Number) -> None:
        """Note a number that the step may read, and put a live one there if it varies."""
        place = _place(location)
        if place in self.places:
            self._locations[place].append(location)
            return
        live = self._live(location, x)
        if live is not x:
            _store(location, live)

    def argument(self, name: str, x: object) -> object:
        """Return the argument that the step gets in place of x."""
        if not is_number(x):
            return x
        arguments = self._history.arguments
        arguments[name] = x
        live = self._live(Location(f"the argument {name}", arguments, name), x)
        (self._history.live.discard if live is x else self._history.live.add)(name)
        return live

    def _live(self, location: Location, x: Number) -> Number:
        place = _place(location)
        varies = self._history.notes(place, location.name, x, self._again)
        if not (self._may and varies and self._history.may_be_live(place)):
            return x
        reading = location.reading
        assert reading is not None
        live = self.log.read(Reading(*reading).now, location.name)
        self.places[place] = x, live
        self._locations[place] = [location]
        return live

    def give_back(self, before: Captures) -> None:
        """Put plain numbers in place of the live ones, also where the step has put some.

        before: the captures before the step.
        """
        self._history.tells_apart |= before.tells_apart
        for place, location, x, live in self._outside():
            if _found(location) is live:
                _store(location, x)
            else:  # the step changes it
                self._history.fix(place)
        if self.places:
            for location in self._left(before.again()):
                _store(location, _fixed(_found(location)))

    def captured(self, before: Captures, on_tape: bool) -> Captures:
        """Return the captures after the step, without live numbers in them.

        before: the captures before the step; on_tape: whether its results are on the tape.

        Errors: TraceError if the trace must not have live numbers.
        """
        self._history.on_tape = on_tape  # a backward pass needs the numbers of its own call
        for guards in (before.guards, before.bound):
            guards.replace({id(live): x for x, live in self.places.values()})
        for location, _ in before.live:
            self._locations.get(_place(location), []).append(location)
        after = before.again()
        if self.places and (before.tells_apart or on_tape or self._left(after)):
            raise TraceError("compile: no live number can be here, so the caller traces again")
        return after

    def restore(self) -> None:
        """End a trace that has failed, and put each number back that a live one has stood for."""
        self.log.close()
        for _, location, x, _ in self._outside():
            # The step may have moved the items of a list or deque.
            if type(location.owner) not in (list, deque) and is_number(_found(location)):
                _store(location, x)

    def _outside(self) -> list[tuple[Place, Location, Number, LiveNumber]]:
        """Return the places that are not arguments, with their numbers."""
        found = [(place, self._locations[place][0], *pair) for place, pair in self.places.items()]
        return [each for each in found if each[1].owner is not self._history.arguments]

    def _left(self, captures: Captures) -> list[Location]:
        """Return the locations of live numbers of this trace."""
        return [location for location, x in captures.live if x.log is self.log]

    def release(self, after: Captures) -> list[tuple[str, tuple[object, ...]]]:
        """Return the expressions that read the live numbers, which get no guards any more."""
        return [after.release(x) for locations in self._locations.values() for x in locations]

    def close(self) -> None:
        """End the trace; numbers that it has fixed are never live again."""
        self.log.close()
        for place, (_, live) in self.places.items():
            if self.log.fixes(live):
                self._history.fix(place)

    def fix(self) -> None:
        """Note that live numbers are impossible in all of these places."""
        for place in self.places:
            self._history.fix(place)


def _place(location: Location) -> Place:
    """Return the identity of a location; an item of a dict is found with and without a position."""
    return location.identity, -1 if type(location.owner) is dict else location.position


def _found(location: Location) -> object:
    reading = location.reading
    return ABSENT if reading is None else Reading(*reading).now()


def _store(location: Location, x: object) -> None:
    """Put a number, or a tuple with numbers, into a location that has a reading."""
    owner: Any = location.owner
    if type(owner) in (list, deque):
        owner[location.position] = x
    elif x is not ABSENT:
        put(location, x)


def _fixed(x: object) -> object:
    """Return a live number, or a tuple of some, with the present numbers."""
    return tuple(map(_fixed, x)) if type(x) is tuple else fixed(x) if type(x) is LiveNumber else x
