"""The parts of a derivation: variables, lines, and the steps that lines belong to."""

import ast
import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...engine.backward import grad
from ...engine.dispatch import on_tape
from ...engine.tape import Record
from ...engine.tensor import Tensor
from ...types import Array
from .expressions import text_of
from .identifiers import cotangent, one_line
from .scopes import Scope


@dataclass(eq=False)
class Variable:
    """A Tensor of the explanation, which was given or made by a record.

    name: its identifier in expressions; label: what the user calls it, or None; kind: "parameter",
    "input" (it requires grad), "constant" or "result".
    """

    name: str
    label: str | None
    kind: str
    value: Array

    @property
    def cotangent(self) -> str:
        """Return the name of its cotangent, d(loss) / d(this)."""
        return cotangent(self.name)


@dataclass
class Line:
    """A line `target = expression`, or `target += expression` for a contribution to a cotangent.

    value: the value of the target or, for +=, of the contribution.
    wrt: in the backward part, the name of the primitive's operand.
    variable: the one whose value or cotangent is the target; None for a part of an expression.
    """

    target: str
    sign: str
    expression: ast.expr
    value: Array
    primitive: str = ""
    wrt: str = ""
    variable: Variable | None = None

    @functools.cached_property
    def text(self) -> str:
        """Return the line in Python's syntax."""
        return f"{self.target} {self.sign} {text_of(self.expression)}"


@dataclass
class Step:
    """A record, with the lines that compute its outputs and the lines of its rules.

    number: the number of its first variable, which the parts of its expressions get as well.
    inputs: the Variable of each input of the record, None for one that is not a Tensor.
    results: the Variable of each output, None for one that was not made.
    scopes: the module calls around it, outermost first.
    """

    record: Record
    number: int
    inputs: list[Variable | None]
    results: list[Variable | None]
    forward: list[Line]
    backward: list[Line] = field(default_factory=list)
    scopes: tuple[Scope, ...] = ()

    def detach(self) -> None:
        """Replace the record by a copy, with leaves of its own as inputs.

        The step then holds no other record, and keeps its arrays when backward frees the tape.
        """
        record = self.record = copy.copy(self.record)
        record.arrays = [
            a if v is None else v.value for v, a in zip(self.inputs, record.arrays, strict=True)
        ]
        record.inputs = [
            x if v is None else Tensor(v.value)
            for v, x in zip(self.inputs, record.inputs, strict=True)
        ]
        for i in record.wrt:
            record.inputs[i]._requires_grad = True
        _, residuals = record.primitive.unpack(record.y)
        outputs = [None if v is None else v.value for v in self.results]
        record.y = record.primitive.pack(outputs, residuals)

    def pull(self, output: Variable, g: Array, positions: Sequence[int]) -> list[tuple[int, Array]]:
        """Return the contributions of an output's cotangent to the inputs at these positions.

        They are found by a backward pass through this record alone; an input that no gradient
        reaches is left out.
        """
        outputs, _ = self.record.primitive.unpack(self.record.y)
        root = on_tape(outputs, self.record)[self.results.index(output)]
        inputs = [self.record.inputs[i] for i in positions]
        gradients = grad(root, inputs, g, retain_graph=True, allow_unused=True)  # type: ignore[arg-type]
        return [(i, gx._data) for i, gx in zip(positions, gradients, strict=True) if gx is not None]

    @property
    def primitive(self) -> str:
        """Return the name of the record's primitive, on one line."""
        return one_line(self.record.primitive.name)

    @property
    def outputs(self) -> list[Variable]:
        """Return the variables that the record made."""
        return [v for v in self.results if v is not None]

    @property
    def differentiated(self) -> list[Variable]:
        """Return the inputs that its rules contribute to; one that is used twice appears twice."""
        found = [self.inputs[i] for i in self.record.wrt]
        return [v for v in found if v is not None]
