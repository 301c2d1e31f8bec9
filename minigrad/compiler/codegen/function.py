"""A Writer makes the source of one generated function, which loads arrays and numbers first."""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from numpy.typing import DTypeLike

from ...ops.inplace import Update
from ...types import Shape
from ..ir.live_numbers import plain
from ..ir.program import Input, Operation, Value, printable
from .calls import lines_of
from .fusion import FusionGroup
from .indexing import VIEWS
from .loops import loop_nest, remark, type_name

if TYPE_CHECKING:
    from .module import Emitter

TABLES = ("places", "sizes", "numbers", "pool", "blas")


@dataclass
class Code:
    """Code names a generated function, and the arguments of the program that it takes."""

    name: str
    arguments: list[Value]


def anonymous(lines: Sequence[str], made: Collection[str]) -> tuple[str, list[str]]:
    """Return the lines as a text, with numbers for names and without comments, and the names.

    The text is equal for functions that differ only in names.

    made: the names that the emitter has made; no other name gets a number.
    """
    code = "\n".join(line.partition("# ")[0].rstrip() for line in lines)
    names = [name for name in dict.fromkeys(re.findall(r"\w+", code)) if name in made]
    number = {name: f"<{i}>" for i, name in enumerate(names)}
    return re.sub(r"\w+", lambda found: number.get(found[0], found[0]), code), names


@dataclass
class Loops:
    """Loops holds a loop nest, which becomes a function if other nests differ only in names."""

    lines: list[str] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)  # the type of each input, by name

    def shared_key(self, made: Collection[str]) -> tuple[object, list[str]]:
        """Return a key that is equal for nests that can share a function, and the nest's inputs.

        The inputs are in the order in which the shared function takes them.

        made: the names that the emitter has made.
        """
        text, names = anonymous(self.lines, made)
        arguments = [name for name in names if name in self.given]
        return (text, *(self.given[name] for name in arguments)), arguments


class Writer(ABC):
    """A Writer loads the arrays, sizes and numbers of one generated function under names.

    Subclasses define where the function finds them in its tables.
    """

    def __init__(self, emitter: "Emitter") -> None:
        self.emitter = emitter
        self.memory: list[str] = []
        self.numbers: list[str] = []
        self._loaded: set[Value] = set()

    @abstractmethod
    def place_text(self, v: Value) -> str:
        """Return the expression for the address of v."""

    @abstractmethod
    def size_texts(self, shape: Sequence[int], of: object) -> list[str]:
        """Return the expressions for the sizes of a shape; of: the object that has this shape."""

    @abstractmethod
    def number_text(self, x: float) -> str:
        """Return the expression for a number."""

    @abstractmethod
    def status_text(self, op: Operation) -> str:
        """Return the expression that the function returns if it refuses the operation."""

    @abstractmethod
    def load_argument(self, v: Value, text: str) -> None:
        """Load an argument of the program under the name `text`."""

    def call(self, op: Operation) -> list[str]:
        """Return the lines of an operation that is a call."""
        lines = lines_of(op, self.name) or []
        written: list[str] = []
        for i, line in enumerate(lines):
            written.append(line if i else f"{line}{remark(op)}")
            if line.startswith("bad = "):
                written += ["if bad >= 0:", f"    return {self.status_text(op)}"]
        return written

    def name(self, x: Input | Update, like: str = "number") -> str:
        """Load a Value, a number or the kernel of an update, and return its name.

        Numbers and flags come from a table, cast to the types for which kernels are compiled, since
        Numba would give a constant another type.
        """
        if isinstance(x, Update):
            return self.emitter.kernels[x]
        if not isinstance(x, Value):
            return self.constant(x, type(plain(x)).__name__, like)
        text = self.emitter.identifier(x)
        self.emitter.mark_used(x)
        missing = []  # x, and the Values that it is a view of
        while x not in self._loaded:
            self._loaded.add(x)
            missing.append(x)
            view = self.emitter.out.views.of.get(x)
            x = x if view is None else view.inputs[0]
        for v in reversed(missing):
            self._load(v, self.emitter.identifier(v))
        return text

    def constant(self, x: float, dtype: str, like: str = "number") -> str:
        """Load a number in a dtype, and return its name."""
        text = self.emitter.fresh_name(like)
        self.numbers.append(f"{text} = {dtype}({self.number_text(x)})")
        return text

    def size(self, shape: Shape, names: Sequence[str]) -> list[str]:
        """Load the sizes of an iteration shape, and return their names."""
        free = [self.emitter.fresh_name(name) for name in names]
        self.numbers.append(f"{', '.join(free)} = {', '.join(self.size_texts(shape, object()))}")
        return free

    def array(self, name: str, shape: Shape, dtype: DTypeLike) -> str:
        """Load an array that only this function uses, and return its name."""
        return self.name(Value.like(name, shape, dtype))

    def from_memory(self, v: Value, text: str) -> None:
        """Load an array by its address, under the name `text`."""
        array = f"array({self.place_text(v)}, {self._shape(v)}, {type_name(v.dtype)})"
        self.memory.append(f"{text} = {array}  # {printable(v.name)}")

    def tables(self) -> list[str]:
        """Return the first lines of the function, which load numbers and arrays."""
        begin = "places, sizes, numbers = table(places), table(sizes), table(numbers)"
        return [begin, "# sizes and numbers", *self.numbers, "# memory", *self.memory]

    def _load(self, v: Value, text: str) -> None:
        view = self.emitter.out.views.of.get(v)
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
    """LoopInputs loads what a nest uses in its function, and notes these inputs of the nest."""

    def __init__(self, function: Writer, loops: Loops) -> None:
        self.function, self.emitter, self.noted = function, function.emitter, loops.given

    def name(self, v: Value) -> str:
        """Load an array, and return its name."""
        text = self.function.name(v)
        self.noted[text] = f"{v.dtype} {len(v.shape)} {self.emitter.layout(v)}"
        return text

    def constant(self, x: float, dtype: str, like: str = "number") -> str:
        """Load a number in a dtype, and return its name."""
        text = self.function.constant(x, dtype, like)
        self.noted[text] = dtype
        return text

    def size(self, shape: Shape, names: Sequence[str]) -> list[str]:
        """Load the sizes of an iteration shape, and return their names."""
        free = self.function.size(shape, names)
        self.noted |= dict.fromkeys(free, "size")
        return free

    def array(self, name: str, shape: Shape, dtype: DTypeLike) -> str:
        """Load an array that only this nest uses, and return its name."""
        return self.name(Value.like(name, shape, dtype))


class Straight(Writer):
    """Straight writes the groups of a part of a program one below the other, in one function."""

    def __init__(self, emitter: "Emitter", name: str) -> None:
        super().__init__(emitter)
        self.code = Code(name, [])
        self._lines: list[str | Loops] = []

    def group(self, group: FusionGroup) -> None:
        """Write the nest or the call of a group."""
        if group.shape is None:
            self._lines += self.call(group.operations[0])
            return
        loops = Loops()
        loops.lines = loop_nest(group, LoopInputs(self, loops), self.emitter.stored)
        self._lines.append(self.emitter.noted(loops))

    def place_text(self, v: Value) -> str:
        """Return the entry of `places` for v."""
        return f"places[{self.emitter.place(v)}]"

    def size_texts(self, shape: Sequence[int], of: object) -> list[str]:
        """Return the entries of `sizes` for a shape."""
        at = self.emitter.size(shape, of)
        return [f"sizes[{at + i}]" for i in range(len(shape))]

    def number_text(self, x: float) -> str:
        """Return the entry of `numbers` for x."""
        return f"numbers[{self.emitter.number(x)}]"

    def status_text(self, op: Operation) -> str:
        """Return the number of the operation."""
        return str(self.emitter.checked(op))

    def load_argument(self, v: Value, text: str) -> None:
        """Note that the function takes an argument of the program."""
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
