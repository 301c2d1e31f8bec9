"""This module writes the source of a loop nest.

Elements are scalars, the innermost loop runs along rows of arrays, and sums of floats are in
float64.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ... import ops
from ...ops.primitive import Reduction, Scalar
from ...types import DType, Shape
from ..ir.program import Operation, Value, origin
from .fusion import FusionGroup, compared_in

if TYPE_CHECKING:
    from .function import LoopInputs, Writer

INDENT = "    "


def loop_nest(group: FusionGroup, function: "Writer | LoopInputs", stored: set[Value]) -> list[str]:
    """Return the lines of a nest; `function` loads arrays and numbers, and gives them names."""
    return _Nest(group, function, stored).lines()


class _Nest:
    def __init__(
        self, group: FusionGroup, function: "Writer | LoopInputs", stored: set[Value]
    ) -> None:
        self.group, self.function, self.stored = group, function, stored
        self.shape: Shape = group.shape or ()
        self.elements: dict[Value, str] = {}  # scalars by Value
        self.rows: list[str] = []  # lines in front of the innermost loop
        self.body: list[str] = []  # lines inside the innermost loop
        self.before: list[str] = []
        self.after: list[str] = []
        self.ends: list[list[str]] = [[] for _ in self.shape]  # by axis, lines after its loop
        self.starts: list[list[str]] = [[] for _ in self.shape]  # by axis, lines before its loop
        self._row_of: dict[tuple[Value, bool], str] = {}
        rank = len(self.shape)
        self.index = [f"i{k}" if rank > 1 else "i" for k in range(rank)]

    def lines(self) -> list[str]:
        """Return all lines of the nest."""
        self.bounds = self._bounds()
        for operation in self.group.operations:
            if operation.reduction is not None:
                self._reduce(operation, operation.reduction)
            elif operation.scalar is not None:
                self._element(operation, operation.scalar)
        text = [f"# loops over {self._what()}", *self.before]
        if not self.shape:
            return [*text, *self.rows, *self.body, *self.after]
        last = len(self.shape) - 1
        for k in range(last + 1):
            pad = INDENT * k
            text += [pad + line for line in (self.rows if k == last else [])]
            text += [pad + line for line in self.starts[k]]
            text.append(f"{pad}for {self.index[k]} in range({self.bounds[k]}):")
        text += [INDENT * (last + 1) + line for line in self.body]
        for k in range(last, -1, -1):
            text += [INDENT * k + line for line in self.ends[k]]
        return text + self.after

    def _bounds(self) -> list[str]:
        """Return the sizes of the nest: those of an array that has its shape, if it uses one."""
        for operation in self.group.operations:
            v = operation.makes[0] if operation.reduction is None else operation.inputs[0]
            if v in self.stored or v.origin != "result":
                name = self.function.name(v)
                return [f"{name}.shape[{k}]" for k in range(len(self.shape))]
        return self.function.size(self.shape, ["n"] * len(self.shape)) if self.shape else []

    def _what(self) -> str:
        names: list[str] = []
        for operation in self.group.operations:
            names += [operation.name] if operation.name not in names else []
        return ", ".join(names)

    # --- elements ------------------------------------------------------------------------------

    def _element(self, operation: Operation, scalar: Scalar) -> None:
        (v,) = operation.makes
        text = self.function.emitter.fresh_name(v.label)
        self.elements[v] = text
        value = self._expression(operation, scalar, v)
        self.body.append(f"{text} = {value}{remark(operation)}")
        if v in self.stored:
            self.body.append(f"{self._at(v, write=True)} = {text}")

    def _expression(self, operation: Operation, scalar: Scalar, v: Value) -> str:
        """Write the intermediate results of an expression, and return the expression."""
        converts, dtype = operation.what is ops.astype, v.dtype
        compared = compared_in(operation) if scalar.compares else None
        if compared is not None:
            dtype = compared
        elif converts:
            dtype = operation.reads[0].dtype
        cast, expression = type_name(dtype), scalar.expression
        if callable(expression):
            expression = expression(*operation.inputs, **operation.attributes)
        *parts, template = expression.split("\n")
        operands = []
        for i, x in enumerate(operation.inputs):
            if f"{{{i}}}" not in expression:
                operands.append("")
            elif not isinstance(x, Value):
                operands.append(self.function.constant(x, cast))
            else:
                text = self._read(x)
                operands.append(text if x.dtype == dtype or i in scalar.raw else f"{cast}({text})")
        names = {
            k: self.function.constant(a, cast, k)
            for k, a in operation.attributes.items()
            if f"{{{k}}}" in expression
        }
        names |= {"zero": f"{cast}(0)", "one": f"{cast}(1)", "dtype": cast}
        for part in parts:
            name, _, value = part.partition(" = ")
            free = self.function.emitter.fresh_name(f"{v.label}_{name}")
            self.body.append(f"{free} = {value.format(*operands, **names)}")
            names[name] = free
        text = template.format(*operands, **names)
        if converts and v.dtype != dtype:
            if v.dtype.kind == "b":
                return f"{text} != 0"
            floats = dtype.kind == "f" and v.dtype.kind in "iu"
            return f"{f'to_{v.dtype}' if floats else type_name(v.dtype)}({text})"
        if v.dtype.kind in "iub" and v.dtype != np.int64 and not (converts or scalar.compares):
            # Numba computes small integers and booleans in int64, so the result needs a cast.
            return f"{type_name(v.dtype)}({text})"
        return text

    def _read(self, v: Value) -> str:
        """Return the expression for the element of v in this turn of the nest."""
        known = self.elements.get(v)
        return self._at(v) if known is None else known

    def _at(self, v: Value, write: bool = False) -> str:
        name = self.function.name(v)
        rank, last = len(v.shape), len(self.shape) - 1
        if rank == 0:
            return f"{name}[()]"
        offset = len(self.shape) - rank
        index = [
            "0" if n == 1 and self.shape[offset + k] != 1 else self.index[offset + k]
            for k, n in enumerate(v.shape)
        ]
        along = index[-1] != "0"
        key = v, along
        if not along and not write:  # one element for the whole row
            if key not in self._row_of:
                self._row_of[key] = self.function.emitter.fresh_name(f"{name}_one")
                self.rows.append(f"{self._row_of[key]} = {name}[{', '.join(index)}]")
            return self._row_of[key]
        if rank == 1 or last < 0:
            return f"{name}[{index[-1]}]"
        if key not in self._row_of:
            self._row_of[key] = self.function.emitter.fresh_name(f"{name}_row")
            self.rows.append(f"{self._row_of[key]} = {name}[{', '.join(index[:-1])}]")
        return f"{self._row_of[key]}[{index[-1]}]"

    # --- sums ----------------------------------------------------------------------------------

    def _reduce(self, operation: Operation, reduction: Reduction) -> None:
        """Write a reduction.

        A float64 sum also adds up the rounding error of each addition, which Dekker's Fast2Sum
        finds if the total is larger than the term. For float32, a plain float64 total is precise
        enough.
        """
        (a,), (v,) = operation.inputs, operation.makes
        axes, rank = set(operation.attributes["axis"]), len(self.shape)
        extreme = reduction.extreme
        wide = "float64" if extreme is None and v.dtype.kind == "f" else type_name(v.dtype)
        term = reduction.term.format(f"{wide}({self._read(a)})")
        zero = "0.0" if wide == "float64" else "0"
        start = zero if extreme is None else f"{wide}({extreme[1]})"
        exact = extreme is None and a.dtype == np.float64
        name, ending = f"{v.label}_total", remark(operation)

        def combined(total: str, lost: str, term: str) -> list[str]:
            if extreme is not None:
                return [f"{total} = {extreme[0]}({total}, {term}){ending}"]
            if not exact:
                return [f"{total} += {term}{ending}"]
            given, both = map(self.function.emitter.fresh_name, (f"{v.label}_term", name))
            return [
                f"{given} = {term}{ending}",
                f"{both} = {total} + {given}",
                f"{lost} += ({total} - {both}) + {given}",
                f"{total} = {both}",
            ]

        def restored(total: str, lost: str) -> str:  # with infinities or NaN, `lost` is NaN
            return f"({total} + {lost} if {lost} - {lost} == 0.0 else {total})" if exact else total

        inner = rank  # the reduction covers this axis and all later ones
        while inner and inner - 1 in axes:
            inner -= 1
        count = " * ".join(self.bounds[k] for k in sorted(axes)) or "1"
        divisor = f" / ({count})" if reduction.mean else ""
        kept = [k for k in range(rank) if k not in axes]
        if inner < rank:  # a scalar is the total in each turn of the outer loops
            scalar = self.function.emitter.fresh_name(name)
            lost = self.function.emitter.fresh_name(f"{v.label}_lost") if exact else ""
            self.starts[inner] += [f"{x} = {start}" for x in (scalar, lost) if x]
            self.body += combined(scalar, lost, term)
            term = restored(scalar, lost)
            if all(k not in axes for k in range(inner)):
                result = f"{type_name(v.dtype)}({term}{divisor})"
                self.ends[inner].append(f"{self._place(v, axes)} = {result}")
                return
        elif not divisor and not exact and v.dtype == wide and len(v.shape) == rank:
            # The result itself serves as the total.
            self.before.append(f"{self.function.name(v)}[...] = {start}")
            self.body += combined(self._at(v, write=True), "", term)
            return
        shape = tuple(self.shape[k] for k in kept)
        arrays = [self.function.array(name, shape, wide)]
        arrays += [self.function.array(f"{v.label}_lost", shape, wide)] if exact else []
        index = ", ".join(self.index[k] for k in kept) or "()"
        elements = [f"{x}[{index}]" for x in arrays]
        places = elements
        if len(kept) > 1 and kept[-1] == rank - 1:
            rows = [self.function.emitter.fresh_name(f"{x}_row") for x in arrays]
            outer = ", ".join(self.index[k] for k in kept[:-1])
            self.rows += [f"{row} = {x}[{outer}]" for row, x in zip(rows, arrays, strict=True)]
            places = [f"{row}[{self.index[rank - 1]}]" for row in rows]
        lines = combined(places[0], places[-1], term)
        (self.body if inner == rank else self.ends[inner]).extend(lines)
        self.before += [f"{x}[...] = {start}" for x in arrays]
        for depth, k in enumerate(kept):
            self.after.append(f"{INDENT * depth}for {self.index[k]} in range({self.bounds[k]}):")
        result = f"{type_name(v.dtype)}({restored(elements[0], elements[-1])}{divisor})"
        self.after.append(f"{INDENT * len(kept)}{self._place(v, axes)} = {result}")

    def _place(self, v: Value, axes: set[int]) -> str:
        """Return the expression for a reduction's result inside the loops over the kept axes."""
        kept = [self.index[k] for k in range(len(self.shape)) if k not in axes]
        index: Sequence[str] = kept
        if len(v.shape) == len(self.shape):
            index = ["0" if k in axes else self.index[k] for k in range(len(self.shape))]
        return f"{self.function.name(v)}[{', '.join(index) or '()'}]"


def type_name(dtype: DType) -> str:
    """Return the name of a dtype in generated code."""
    return "bool_" if dtype.kind == "b" else str(dtype.name)


def remark(operation: Operation) -> str:
    """Return a comment that names an operation and the rule that it comes from."""
    text = origin(operation).strip()
    return f"  # {operation.name}" + (f", {text}" if text else "")
