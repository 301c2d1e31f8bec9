"""The source of one generated function: its memory, its numbers, and its lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .calls import CALLS
from .loops import nest
from .moves import basic_index
from .program import Operation, Value, origin
from .schedule import Stage


@dataclass
class Code:
    """A function: its name and source, and the arguments and operations it is made of."""

    name: str
    lines: list[str]
    arguments: list[Value]


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
            self.code.lines += nest(stage, self, self.emitter.stored)
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
        if self.code.lines[-1].startswith("bad = "):
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

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> str:
        """Scratch memory, under a name."""
        v = Value.like(name, shape, dtype)
        return self.name(v)

    def _bring(self, v: Value, text: str) -> None:
        view = self.emitter.out.aliases.of.get(id(v))
        if v.origin == "argument":
            self.code.arguments.append(v)
        elif view is None:
            shape = self._shape(v)
            dtype = "bool_" if v.dtype.kind == "b" else v.dtype.name
            place = f"places[{self.emitter.place(v)}]"
            self.memory.append(f"{text} = array({place}, {shape}, {dtype})  # {v.name}")
        else:
            base = self.name(view.inputs[0])
            if view.name == "permute":
                axes = view.attributes["axes"]
                # A transpose is known to lie in columns, and products take it.
                moved = "T" if axes == (1, 0) else f"transpose({axes})"
                self.memory.append(f"{text} = {base}.{moved}")
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
        given = [*(self.emitter.identifier(v) for v in ordered), "places", "sizes", "numbers"]
        body = ["# sizes and numbers", *self.numbers, "# memory", *self.memory, *self.code.lines]
        body.append("return -1")
        indented = "\n".join(f"    {line}" for line in body)
        return f"def {self.code.name}({', '.join(given)}):\n{indented}"
