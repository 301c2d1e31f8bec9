"""The source of one generated function: its memory, its numbers, and its lines."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .calls import CALLS
from .loops import nest
from .moves import basic_index
from .program import Operation, Value, origin, printable
from .schedule import Stage


@dataclass
class Code:
    """A function: its name and source, and the arguments and operations it is made of."""

    name: str
    lines: "list[str | Loops]"
    arguments: list[Value]


@dataclass
class Loops:
    """A nest of loops, which is a function of its own where others are alike but for names."""

    lines: list[str] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)  # what it takes, and of what type that is

    def alike(self, made: set[str]) -> tuple[object, list[str]]:
        """What is equal for nests that can share a function; and what that takes, in an order that
        is the same for all. made: the names that the emitter has made."""
        code = "\n".join(line.partition("  # ")[0] for line in self.lines[1:])
        names = [name for name in dict.fromkeys(re.findall(r"\w+", code)) if name in made]
        place = {name: f"<{i}>" for i, name in enumerate(names)}
        text = re.sub(r"\w+", lambda found: place.get(found[0], found[0]), code)
        arguments = [name for name in names if name in self.given]
        return (text, *(self.given[name] for name in arguments)), arguments


class Given:
    """What a nest asks its function for, noted."""

    def __init__(self, function: "Function", loops: Loops) -> None:
        self.function, self.emitter, self.noted = function, function.emitter, loops.given

    def name(self, v: Value) -> str:
        """As of the function, which brings an array in."""
        text = self.function.name(v)
        self.noted[text] = f"{v.dtype} {len(v.shape)} {self.emitter.layout(v)}"
        return text

    def constant(self, x: float, dtype: str, like: str = "number") -> str:
        """As of the function."""
        text = self.function.constant(x, dtype, like)
        self.noted[text] = dtype
        return text

    def size(self, shape: tuple[int, ...], names: Sequence[str]) -> list[str]:
        """As of the function."""
        free = self.function.size(shape, names)
        self.noted |= dict.fromkeys(free, "size")
        return free

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> str:
        """As of the function."""
        return self.name(Value.like(name, shape, dtype))


class Function:
    """One function under way."""

    def __init__(self, emitter: Any, name: str) -> None:
        self.emitter = emitter
        self.code = Code(name, [], [])
        self.memory: list[str] = []
        self.numbers: list[str] = []
        self._known: set[int] = set()

    def stage(self, stage: Stage) -> None:
        """Write a nest or a call."""
        if stage.space is not None:
            loops = Loops()
            loops.lines = nest(stage, Given(self, loops), self.emitter.stored)
            self.code.lines.append(self.emitter.noted(loops))
            return
        op = stage.operations[0]
        lines = CALLS[op.name](op, self.name) or []
        remark = f"  # {op.name}{origin(op).replace('   ', ', ', 1)}"
        self.code.lines += [f"{line}{remark}" for line in lines[:1]]
        for line in lines[1:]:
            self._check(op)
            self.code.lines.append(line)
        self._check(op)

    def _check(self, op: Operation) -> None:
        """Behind a line that says what is bad, leave off with the number of the operation."""
        line = self.code.lines[-1]
        if isinstance(line, str) and line.startswith("bad = "):
            if op not in self.emitter.out.checked:
                self.emitter.out.checked.append(op)
            k = self.emitter.out.checked.index(op)
            self.code.lines += ["if bad >= 0:", f"    return {k}"]

    def name(self, x: Any, like: str = "number") -> str:
        """What a Value, or a number, is called here; it is brought in.

        Numbers and flags come from a table, as the kernels were compiled for them: a constant would
        be a type of its own to Numba.
        """
        if not isinstance(x, Value):
            return self.constant(x, type(x).__name__, like)
        text: str = self.emitter.identifier(x)
        self.emitter.touch(x)
        if id(x) not in self._known:
            self._known.add(id(x))
            self._bring(x, text)
        return text

    def constant(self, x: float, dtype: str, like: str = "number") -> str:
        """A number in a dtype, under a name."""
        text: str = self.emitter.free(like)
        self.numbers.append(f"{text} = {dtype}(numbers[{self.emitter.number(x)}])")
        return text

    def size(self, shape: tuple[int, ...], names: Sequence[str]) -> list[str]:
        """The sizes of a space, under names."""
        free = [self.emitter.free(name) for name in names]
        at = self.emitter.size(shape, -1 - len(self.emitter.out.sizes))
        values = ", ".join(f"sizes[{at + i}]" for i in range(len(shape)))
        self.numbers.append(f"{', '.join(free)} = {values}")
        return free

    def _bring(self, v: Value, text: str) -> None:
        view = self.emitter.out.aliases.of.get(id(v))
        if v.origin == "argument":
            self.code.arguments.append(v)
        elif view is None:
            shape = self._shape(v)
            dtype = "bool_" if v.dtype.kind == "b" else v.dtype.name
            place = f"places[{self.emitter.place(v)}]"
            self.memory.append(f"{text} = array({place}, {shape}, {dtype})  # {printable(v.name)}")
        else:
            base = self.name(view.inputs[0])
            if view.name == "permute":
                axes = view.attributes["axes"]
                # A transpose is known to lie in columns, and products take it.
                moved = f"{base}.T" if axes == (1, 0) else f"permuted({base}, {axes})"
                self.memory.append(f"{text} = {moved}")
            elif view.name == "getitem":
                index = basic_index(view.attributes["index"], view.inputs[0].shape, self.name)
                self.memory.append(f"{text} = {base}[{index}]")
            else:
                self.memory.append(f"{text} = {base}.reshape({self._shape(v)})")

    def _shape(self, v: Value) -> str:
        at = self.emitter.size(v.shape, id(v))
        sizes = ", ".join(f"sizes[{at + i}]" for i in range(len(v.shape)))
        return f"({sizes},)" if len(v.shape) == 1 else f"({sizes})"

    def finished(self) -> str:
        """The source."""
        ordered = [v for v in self.emitter.program.arguments if v in self.code.arguments]
        self.code.arguments = ordered
        given = [self.emitter.identifier(v) for v in ordered]
        given += ["places", "sizes", "numbers", "team"]
        body = ["places, sizes, numbers = table(places), table(sizes), table(numbers)"]
        body += ["# sizes and numbers", *self.numbers, "# memory", *self.memory]
        for line in self.code.lines:
            body += [line] if isinstance(line, str) else self.emitter.called(line)
        return definition(self.code.name, given, [*body, "return -1"])


def definition(name: str, arguments: Sequence[str], lines: Sequence[str]) -> str:
    """The source of a function."""
    return "\n".join([f"def {name}({', '.join(arguments)}):", *(f"    {line}" for line in lines)])
