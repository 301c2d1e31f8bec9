"""Writers of generated functions: they bring in arrays and numbers, and write the lines."""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...ops.inplace import Update
from ..ir.program import Operation, Value, printable
from .calls import lines_of
from .fusion import FusionGroup
from .indexing import VIEWS
from .loops import loop_nest, remark, type_name

TABLES = ("places", "sizes", "numbers", "pool")


@dataclass
class Code:
    """A function that runs a part of a program, with the program's arguments that it takes."""

    name: str
    arguments: list[Value]


def anonymous(lines: Sequence[str], made: Collection[str]) -> tuple[str, list[str]]:
    """Return the lines without comments, with numbers in place of the names that the emitter has
    made, and these names in order. The text is equal for functions that differ only in names."""
    code = "\n".join(line.partition("# ")[0].rstrip() for line in lines)
    names = [name for name in dict.fromkeys(re.findall(r"\w+", code)) if name in made]
    number = {name: f"<{i}>" for i, name in enumerate(names)}
    return re.sub(r"\w+", lambda found: number.get(found[0], found[0]), code), names


@dataclass
class Loops:
    """A nest of loops, which becomes a function if others differ from it only in names."""

    lines: list[str] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)  # the type of each input, by name

    def alike(self, made: Collection[str]) -> tuple[object, list[str]]:
        """Return a key that is equal for nests that can share a function, and the inputs of that
        function, in the same order for all. made: the names that the emitter has made."""
        text, names = anonymous(self.lines, made)
        arguments = [name for name in names if name in self.given]
        return (text, *(self.given[name] for name in arguments)), arguments


class Writer(ABC):
    """The writer of one generated function, which brings in the arrays, sizes and numbers by name.

    Subclasses tell how the function finds them in its tables.
    """

    def __init__(self, emitter: Any) -> None:
        self.emitter = emitter
        self.memory: list[str] = []
        self.numbers: list[str] = []
        self._known: set[Value] = set()

    @abstractmethod
    def place_text(self, v: Value) -> str:
        """Return where the function finds the address of v."""

    @abstractmethod
    def size_texts(self, shape: Sequence[int], of: object) -> list[str]:
        """Return where it finds the sizes of a shape; of: what has this shape."""

    @abstractmethod
    def number_text(self, x: float) -> str:
        """Return where it finds a number."""

    @abstractmethod
    def status_text(self, op: Operation) -> str:
        """Return what the function returns where the operation is refused."""

    @abstractmethod
    def load_argument(self, v: Value, text: str) -> None:
        """Bring an argument of the program in, under a name."""

    def call(self, op: Operation) -> list[str]:
        """Return the lines of an operation that is no loop."""
        lines = lines_of(op, self.name) or []
        written: list[str] = []
        for i, line in enumerate(lines):
            written.append(line if i else f"{line}{remark(op)}")
            if line.startswith("bad = "):
                written += ["if bad >= 0:", f"    return {self.status_text(op)}"]
        return written

    def name(self, x: Any, like: str = "number") -> str:
        """Bring in a Value, a number or the kernel of an update, and return its name.

        Numbers and flags come from a table, in the types for which kernels are compiled; to Numba,
        a constant would have a type of its own.
        """
        if isinstance(x, Update):
            return self.emitter.kernels[x]  # type: ignore[no-any-return]
        if not isinstance(x, Value):
            return self.constant(x, type(x).__name__, like)
        text: str = self.emitter.identifier(x)
        self.emitter.mark_used(x)
        missing = []  # x, and the Values that it is a view of
        while x not in self._known:
            self._known.add(x)
            missing.append(x)
            view = self.emitter.out.aliases.of.get(x)
            x = x if view is None else view.inputs[0]
        for v in reversed(missing):
            self._bring(v, self.emitter.identifier(v))
        return text

    def constant(self, x: float, dtype: str, like: str = "number") -> str:
        """Bring in a number in a dtype, and return its name."""
        text: str = self.emitter.fresh_name(like)
        self.numbers.append(f"{text} = {dtype}({self.number_text(x)})")
        return text

    def size(self, shape: tuple[int, ...], names: Sequence[str]) -> list[str]:
        """Bring in the sizes of a space, and return their names."""
        free = [self.emitter.fresh_name(name) for name in names]
        self.numbers.append(f"{', '.join(free)} = {', '.join(self.size_texts(shape, object()))}")
        return free

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> str:
        """Bring in memory of the function's own, and return its name."""
        return self.name(Value.like(name, shape, dtype))

    def from_memory(self, v: Value, text: str) -> None:
        """Bring in an array by its address."""
        array = f"array({self.place_text(v)}, {self._shape(v)}, {type_name(v.dtype)})"
        self.memory.append(f"{text} = {array}  # {printable(v.name)}")

    def tables(self) -> list[str]:
        """Return the lines that a function begins with."""
        begin = "places, sizes, numbers = table(places), table(sizes), table(numbers)"
        return [begin, "# sizes and numbers", *self.numbers, "# memory", *self.memory]

    def _bring(self, v: Value, text: str) -> None:
        view = self.emitter.out.aliases.of.get(v)
        if v.origin == "argument":
            self.load_argument(v, text)
        elif view is None:
            self.from_memory(v, text)
        else:
            base = self.name(view.inputs[0])
            made = VIEWS[view.name](view, base, lambda: self._shape(v), self.name)
            self.memory.append(f"{text} = {made}")

    def _shape(self, v: Value) -> str:
        sizes = self.size_texts(v.shape, v)
        return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


class LoopInputs:
    """A proxy of a nest's function, which notes all that the nest asks for as its inputs."""

    def __init__(self, function: Writer, loops: Loops) -> None:
        self.function, self.emitter, self.noted = function, function.emitter, loops.given

    def name(self, v: Value) -> str:
        """Bring an array in."""
        text = self.function.name(v)
        self.noted[text] = f"{v.dtype} {len(v.shape)} {self.emitter.layout(v)}"
        return text

    def constant(self, x: float, dtype: str, like: str = "number") -> str:
        """Bring a number in, in a dtype."""
        text = self.function.constant(x, dtype, like)
        self.noted[text] = dtype
        return text

    def size(self, shape: tuple[int, ...], names: Sequence[str]) -> list[str]:
        """Bring the sizes of a space in."""
        free = self.function.size(shape, names)
        self.noted |= dict.fromkeys(free, "size")
        return free

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> str:
        """Bring memory of the nest's own in."""
        return self.name(Value.like(name, shape, dtype))


class Straight(Writer):
    """A part of a program whose groups stand in one function, one below the other."""

    def __init__(self, emitter: Any, name: str) -> None:
        super().__init__(emitter)
        self.code = Code(name, [])
        self._lines: list[str | Loops] = []

    def group(self, group: FusionGroup) -> None:
        """Write a nest or a call."""
        if group.shape is None:
            self._lines += self.call(group.operations[0])
            return
        loops = Loops()
        loops.lines = loop_nest(group, LoopInputs(self, loops), self.emitter.stored)
        self._lines.append(self.emitter.noted(loops))

    def place_text(self, v: Value) -> str:
        """Return a place by its number."""
        return f"places[{self.emitter.place(v)}]"

    def size_texts(self, shape: Sequence[int], of: object) -> list[str]:
        """Return sizes by their numbers."""
        at = self.emitter.size(shape, of)
        return [f"sizes[{at + i}]" for i in range(len(shape))]

    def number_text(self, x: float) -> str:
        """Return a number by its position in the table."""
        return f"numbers[{self.emitter.number(x)}]"

    def status_text(self, op: Operation) -> str:
        """Return the number of the operation."""
        return str(self.emitter.checked(op))

    def load_argument(self, v: Value, text: str) -> None:
        """Make an argument of the program one of the function."""
        self.code.arguments.append(v)

    def finished(self) -> str:
        """Return the source of the function."""
        given = self.emitter.ordered(self.code)
        body = self.tables()
        for line in self._lines:
            body += [line] if isinstance(line, str) else self.emitter.called(line)
        return definition(self.code.name, [*given, *TABLES], [*body, "return -1"])


def definition(name: str, arguments: Sequence[str], lines: Sequence[str]) -> str:
    """Return the source of a function."""
    return "\n".join([f"def {name}({', '.join(arguments)}):", *(f"    {line}" for line in lines)])
