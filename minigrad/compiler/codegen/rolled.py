"""A part of a long program is written as a loop over its groups, which share functions.

Each group has a region in the table `sizes`, which holds the positions of its arrays, their sizes
and the positions of its numbers. The group's function reads them from an offset, `at`. Groups that
differ only in their regions, such as the turns of an unrolled loop, share one function, so machine
code grows with the number of different groups, not with the length of the program.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..ir.program import Operation, Value
from .function import TABLES, Code, Writer, anonymous, definition
from .fusion import FusionGroup
from .loops import loop_nest

if TYPE_CHECKING:
    from .module import Emitter

# With more groups, Numba compiles one long function more slowly than one function for each group.
LONG = 64


class Rolled:
    """Rolled writes a part of a program as a loop over its groups.

    A list in the table `sizes` has, for each group, the number of its function and the offset of
    its region. Two more entries of `sizes`, at `_head`, are the begin and end of the list.
    """

    def __init__(self, emitter: "Emitter", name: str) -> None:
        self.emitter = emitter
        self.code = Code(name, [])
        self._head = emitter.region([0, 0])
        self._turns: list[tuple[str, int]] = []  # functions and offsets
        self._places: dict[Value, int] = {}  # the positions of arguments

    def group(self, group: FusionGroup) -> None:
        """Write the function of a group, unless the group can share one that exists."""
        with self.emitter.scope():
            written = _Turn(self)
            lines = written.lines(group)
            key = anonymous(lines, self.emitter.names.made)[0]
        like = "loops" if group.shape is not None else group.operations[0].name
        name = self.emitter.shared(key, like, ["at", *TABLES], lines)
        self._turns.append((name, self.emitter.region(written.entries)))

    def argument(self, v: Value) -> int:
        """Return the entry of `places` that gets the address of an argument in each call."""
        if v not in self._places:
            self._places[v] = self.emitter.place(v)
            self.code.arguments.append(v)
        return self._places[v]

    def finished(self) -> str:
        """Return the source of the part."""
        given = self.emitter.ordered(self.code)
        names = list(dict.fromkeys(name for name, _ in self._turns))
        number = {name: i for i, name in enumerate(names)}
        order = [x for name, at in self._turns for x in (number[name], at)]
        sizes, head = self.emitter.out.sizes, self._head
        sizes[head] = self.emitter.region(order)
        sizes[head + 1] = sizes[head] + len(order)
        turn, which = self.emitter.fresh_name("turn"), self.emitter.fresh_name("which")
        lines = [
            *(
                f"places[{self._places[v]}] = address({text})"
                for v, text in zip(self.code.arguments, given, strict=True)
            ),
            f"for {turn} in range(sizes[{head}], sizes[{head + 1}], 2):",
            f"    {which}, at = sizes[{turn}], sizes[{turn} + 1]",
            *(f"    {line}" for line in _choice(which, names)),
            "    if bad >= 0:",
            "        return bad",
            "return -1",
        ]
        return definition(self.code.name, [*given, *TABLES], lines)


def _choice(which: str, names: Sequence[str], first: int = 0) -> list[str]:
    """Return lines that find the function with the number `which` by binary search, and call it."""
    if len(names) == 1:
        return [f"bad = {names[0]}(at, {', '.join(TABLES)})"]
    half = len(names) // 2
    return [
        f"if {which} < {first + half}:",
        *(f"    {line}" for line in _choice(which, names[:half], first)),
        "else:",
        *(f"    {line}" for line in _choice(which, names[half:], first + half)),
    ]


class _Turn(Writer):
    """_Turn writes the function of one group, which finds everything in the group's region."""

    start = "at + "

    def __init__(self, part: Rolled) -> None:
        super().__init__(part.emitter)
        self._part = part
        self.entries: list[int] = []

    def lines(self, group: FusionGroup) -> list[str]:
        """Return the lines of the function."""
        if group.shape is None:
            body = self.calls(group.operations)
        else:
            body = loop_nest(group, self, self.emitter.stored)
        return [*self.tables(), *body, "return -1"]

    def region(self, entries: Sequence[int]) -> int:
        """Append entries to the group's region, and return the position of the first."""
        self.entries += entries
        return len(self.entries) - len(entries)

    def number_text(self, x: float) -> str:
        """Return the entry of `numbers` for x, whose position is in the region."""
        return f"numbers[{self._entry(self.emitter.number(x))}]"

    def status_text(self, op: Operation) -> str:
        """Return the entry of the region that has the number of the operation."""
        return self._entry(self.emitter.checked(op))

    def _entry(self, x: int) -> str:
        return f"sizes[{self.start}{self.region([x])}]"

    def load_argument(self, v: Value, text: str) -> None:
        """Load an argument by its address, like any other array."""
        self._part.argument(v)
        self.from_memory(v, text)
