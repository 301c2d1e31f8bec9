"""What a derivation is made of: variables, lines, and the steps that lines belong to."""

import ast
import copy
import functools
from dataclasses import dataclass, field

from ...arrays import Array
from ...engine.tape import Record
from .expressions import text_of
from .names import cotangent, plain
from .scopes import Scope


@dataclass
class Variable:
    """A Tensor of the explanation: what was given, or what a record made.

    name: as expressions have it; label: as the user calls it, or None; kind: "parameter", "input"
    (it requires grad), "constant" or "result".
    """

    name: str
    label: str | None
    kind: str
    value: Array

    @property
    def cotangent(self) -> str:
        """The name of its cotangent, d(loss) / d(this)."""
        return cotangent(self.name)


@dataclass
class Line:
    """target = expression, or target += expression: one contribution to a cotangent.

    variable: that of which the target is the value or the cotangent, None for a part of an
        expression; wrt: in the backward part, the name of the primitive's operand.
    value: of the target or, for +=, of the contribution.
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
        """The line without what is said of it."""
        return f"{self.target} {self.sign} {text_of(self.expression)}"


@dataclass
class Step:
    """A record: the lines that compute its outputs, and those of its rules.

    inputs, places: a Variable for each of the record's inputs that is a Tensor, and for each of its
    outputs that is there; number: that of its output, by which parts of its lines are numbered;
    scopes: the modules around, from the outside in.
    """

    record: Record
    number: int
    inputs: list[Variable | None]
    places: list[Variable | None]
    forward: list[Line]
    backward: list[Line] = field(default_factory=list)
    scopes: tuple[Scope, ...] = ()

    def keep(self) -> None:
        """Hold what the record has now, of arrays copies, as backward will empty it."""
        kept = copy.copy(self.record)
        kept.inputs = self.inputs
        kept.arrays = [
            a if v is None else v.value for v, a in zip(self.inputs, kept.arrays, strict=True)
        ]
        if kept.primitive.saves:
            kept.y = self.outputs[0].value, kept.y[1]
        elif kept.primitive.outputs == 1:
            kept.y = self.outputs[0].value
        self.record = kept

    @property
    def primitive(self) -> str:
        """The name of what was applied, in one line."""
        return plain(self.record.primitive.name)

    @property
    def outputs(self) -> list[Variable]:
        """What the record made."""
        return [v for v in self.places if v is not None]

    @property
    def differentiated(self) -> list[Variable]:
        """The inputs that its rules contribute to, one that is used twice twice."""
        found = [self.inputs[i] for i in self.record.needs]
        return [v for v in found if v is not None]
