"""A Writer makes the source of one generated function, which loads arrays and numbers first."""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from numpy.typing import DTypeLike

from ...ops.inplace import Update
from ...types import DType, Shape
from ..ir.live_numbers import LiveNumber, Number, plain
from ..ir.program import Input, Operation, Value
from .calls import kernel_shape, lines_of, parameters
from .fusion import FusionGroup
from .indexing import VIEWS
from .loops import loop_nest, remark, type_name

if TYPE_CHECKING:
    from .module import Emitter

TABLES = ("places", "sizes", "numbers", "pool", "blas")
# The most numbers and arrays that a line loads; Python assigns three numbers without a tuple.
NUMBERS, ARRAYS = 3, 4

Kind: TypeAlias = tuple[int, DType]  # the number of dimensions and the dtype of an array


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

    start: the text in front of a position in the function's part of the table `sizes`.
    """

    start = ""

    def __init__(self, emitter: "Emitter") -> None:
        self.emitter = emitter
        self._numbers: list[tuple[str, str]] = []  # the names of numbers, with their expressions
        self._arrays: dict[Value, str] = {}  # the names of arrays
        self._views: list[str] = []
        self._loaded: set[Value] = set()
        self._attributes: dict[object, str] = {}  # the names of numbers that attributes have

    @abstractmethod
    def region(self, entries: Sequence[int]) -> int:
        """Append entries to the function's part of `sizes`, and return the first position."""

    @abstractmethod
    def number_text(self, x: float) -> str:
        """Return the expression for a number."""

    @abstractmethod
    def status_text(self, op: Operation) -> str:
        """Return the expression that the function returns if it refuses the operation."""

    @abstractmethod
    def load_argument(self, v: Value, text: str) -> None:
        """Load an argument of the program under the name `text`."""

    def calls(self, operations: Sequence[Operation]) -> list[str]:
        """Return the lines of an operation that is a call, or of several updates by one kernel."""
        if len(operations) > 1:
            return self._loop(operations)
        (op,) = operations
        lines = lines_of(op, self.name) or []
        written: list[str] = []
        for i, line in enumerate(lines):
            written.append(line if i else f"{line}{remark(op)}")
            if line.startswith("bad = "):
                written += ["if bad >= 0:", f"    return {self.status_text(op)}"]
        return written

    def _loop(self, operations: Sequence[Operation]) -> list[str]:
        """Return a loop over updates by one kernel, whose arrays the table `sizes` describes."""
        update, arrays = operations[0].what, operations[0].reads
        assert isinstance(update, Update)
        names = list(map(self.emitter.fresh_name, parameters(update)[: len(arrays)]))
        kinds = [(len(kernel_shape(update, v)), v.dtype) for v in arrays]
        entry, lines, step = self.emitter.fresh_name("entry"), [], 0
        order = in_lines(kinds)
        for line in order:
            lines.append(load(line, names, kinds, f"{entry} + {step}" if step else entry))
            step += len(line) * (1 + kinds[line[0]][0])
        given = [*names, f"pool_for(pool, {names[0]}.size)"] if update.threads else names
        lines.append(f"{self.name(update)}({', '.join(given)})")
        inputs = [op.inputs[i] for op in operations for line in order for i in line]
        for v in inputs:
            self.emitter.mark_used(v)
        first = self._describe([(v, kernel_shape(update, v)) for v in inputs])
        span = f"{self.start}{first}, {self.start}{first + step * len(operations)}, {step}"
        head = f"for {entry} in range({span}):{remark(operations[0])}"
        return [head, *(f"    {line}" for line in lines)]

    def name(self, x: Input | Update, like: str = "number") -> str:
        """Load a Value, a number or the kernel of an update, and return its name.

        Numbers come from a table, cast to the types for which kernels are compiled, since Numba
        would give a constant another type.
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

    def constant(self, x: Number, dtype: str, like: str = "number") -> str:
        """Load a number in a dtype, and return its name; equal attributes of one name share it.

        Numbers without a name do not, since they may differ at another batch size.
        """
        key = like, dtype, id(x) if type(x) is LiveNumber else repr(x)
        if key in self._attributes:
            return self._attributes[key]
        text = self.emitter.fresh_name(like)
        found = str(x) if dtype == "bool" else f"{dtype}({self.number_text(x)})"
        self._numbers.append((text, found))
        if like != "number":
            self._attributes[key] = text
        return text

    def size(self, shape: Shape, names: Sequence[str]) -> list[str]:
        """Load the sizes of an iteration shape, and return their names."""
        free = list(map(self.emitter.fresh_name, names))
        self._numbers += zip(free, self._sizes(shape), strict=True)
        return free

    def array(self, name: str, shape: Shape, dtype: DTypeLike) -> str:
        """Load an array that only this function uses, and return its name."""
        return self.name(Value.like(name, shape, dtype))

    def from_memory(self, v: Value, text: str) -> None:
        """Load an array by its address, under the name `text`."""
        self._arrays[v] = text

    def _describe(self, arrays: Iterable[tuple[Value, Shape]]) -> int:
        """Describe arrays in `sizes`, as `arrays` reads it; return the position of the first."""
        root = self.emitter.out.views.root
        return self.region(
            [x for v, shape in arrays for x in (self.emitter.place(root(v)), *shape)]
        )

    def tables(self) -> list[str]:
        """Return the first lines of the function, which load numbers and arrays."""
        lines = ["places, sizes, numbers = table(places), table(sizes), table(numbers)"]
        for i in range(0, len(self._numbers), NUMBERS):
            texts, found = zip(*self._numbers[i : i + NUMBERS], strict=True)
            lines.append(f"{', '.join(texts)} = {', '.join(found)}")
        names, kinds = list(self._arrays.values()), [(v.ndim, v.dtype) for v in self._arrays]
        arrays = list(self._arrays)
        for line in in_lines(kinds):
            first = self._describe([(arrays[i], arrays[i].shape) for i in line])
            lines.append(load(line, names, kinds, f"{self.start}{first}"))
        return lines + self._views

    def _load(self, v: Value, text: str) -> None:
        view = self.emitter.out.views.of.get(v)
        if v.origin == "argument":
            self.load_argument(v, text)
        elif view is None:
            self.from_memory(v, text)
        else:
            base = self.name(view.inputs[0])
            made = VIEWS[view.name](view, base, lambda: self._shape(v), self.name)
            self._views.append(f"{text} = {made}")

    def _sizes(self, shape: Shape) -> list[str]:
        first = self.region(shape)
        return [f"sizes[{self.start}{first + i}]" for i in range(len(shape))]

    def _shape(self, v: Value) -> str:
        sizes = self._sizes(v.shape)
        return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def in_lines(kinds: Sequence[Kind]) -> list[list[int]]:
    """Return the positions of arrays in groups of one kind, each for one line of source."""
    lines: list[list[int]] = []
    last: dict[Kind, list[int]] = {}
    for i, kind in enumerate(kinds):
        if len(last.get(kind, ())) % ARRAYS == 0:
            last[kind] = []
            lines.append(last[kind])
        last[kind].append(i)
    return lines


def load(line: Sequence[int], names: Sequence[str], kinds: Sequence[Kind], at: str) -> str:
    """Return the line that loads arrays of one kind, which `sizes` describes from `at` on."""
    ndim, dtype = kinds[line[0]]
    texts = ", ".join(names[i] for i in line)
    left = texts if len(line) > 1 else f"({texts},)"
    return f"{left} = arrays({len(line)}, {ndim}, {type_name(dtype)}, places, sizes, {at})"


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
            self._lines += self.calls(group.operations)
            return
        loops = Loops()
        loops.lines = loop_nest(group, LoopInputs(self, loops), self.emitter.stored)
        self._lines.append(self.emitter.noted(loops))

    def region(self, entries: Sequence[int]) -> int:
        """Append entries to `sizes`, and return the position of the first."""
        return self.emitter.region(entries)

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
