"""Symbolic tracing runs a rule on Tensors, and turns what it applies into an expression.

The rule that computes a derivative thus writes its text as well, and the two cannot differ.
"""

import ast
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ...engine.tensor import Tensor
from ...engine.tracer import Tracer, tracing
from ...ops.primitive import Attributes, Operand, Primitive
from ...types import Array
from .expressions import formula_of, is_index, is_numeral, literal, renamed, replaced, text_of
from .identifiers import Identifiers
from .user_names import array_of

Part = tuple[str, ast.expr]  # a part of an expression that has a name of its own

WIDTH = 90  # characters of a target and its expression: a line has 100
SHORT = 16  # characters of an expression that is repeated rather than named


class SymbolicTracer(Tracer):
    """Remembers what each Tensor was made of, and writes it as an expression of named Tensors."""

    runs_again = False

    def __init__(
        self,
        constant: Callable[[Array], str],
        function: Callable[[Primitive], str],
        identifiers: Identifiers,
    ) -> None:
        """Start without names. constant, function: they name an array, and a primitive."""
        self._constant, self._function, self._identifiers = constant, function, identifiers
        self._names: dict[int, str] = {}  # by the identity of a Tensor or array
        self._made: dict[int, tuple[Primitive, Sequence[Operand], Attributes, int]] = {}
        self._uses: dict[int, int] = {}
        self._kept_alive: list[Operand] = []  # so that identities stay unique
        self._parts: dict[str, str] = {}  # names of parts, by the text of their expressions

    def apply(
        self, primitive: Primitive, inputs: Sequence[Operand], attributes: Attributes
    ) -> Operand:
        """Apply the primitive, and remember what its results are made of."""
        for x in inputs:
            self._uses[id(x)] = self._uses.get(id(x), 0) + 1
        with tracing(None):
            result = primitive(*inputs, **attributes)
        for i, y in enumerate(primitive.unpack(result)[0]):
            if y is not None:
                for known in (y, array_of(y)):
                    self._made[id(known)] = primitive, inputs, attributes, i
                self._kept_alive.append(y)
        return result

    def name(self, x: Tensor | Array, name: str) -> None:
        """Give a Tensor a name; its array keeps the first name that it gets."""
        if isinstance(x, Tensor):
            self._names[id(x)] = name
        self._names.setdefault(id(array_of(x)), name)
        self._kept_alive.append(x)

    def expression(self, x: Operand, target: str, number: int) -> tuple[list[Part], ast.expr]:
        """Return the new parts that the expression of x needs, and the expression.

        x: a Tensor, array or number; target: the name that the line assigns to; number: the step's
        number, which its parts get as well.
        """
        parts: list[Part] = []
        return parts, self._shortened(self._expression(x, number, parts), target, number, parts)

    def formula(
        self, primitive: Primitive, inputs: Sequence[Operand], attributes: Attributes, number: int
    ) -> tuple[list[Part], list[ast.expr]]:
        """Return the new parts that a primitive's outputs need, and the outputs' expressions."""
        parts: list[Part] = []
        outputs = self._formula(primitive, inputs, attributes, number, parts, None)
        return parts, [self._shortened(node, "v000", number, parts) for node in outputs]

    def _expression(self, x: Operand, number: int, parts: list[Part]) -> ast.expr:
        for known in (x, array_of(x)):
            if id(known) in self._names:
                return ast.Name(self._names[id(known)])
            if id(known) in self._made:
                primitive, inputs, attributes, i = self._made[id(known)]
                node = self._formula(primitive, inputs, attributes, number, parts, i)[i]
                if self._uses.get(id(known), 0) > 1 and len(text_of(node)) > SHORT:
                    node = ast.Name(self._part("t", node, number, parts))
                return node
        x = array_of(x)
        return self._named_constant(x) if isinstance(x, np.ndarray) else literal(x, None)

    def _formula(
        self,
        primitive: Primitive,
        inputs: Sequence[Operand],
        attributes: Attributes,
        number: int,
        parts: list[Part],
        output: int | None,
    ) -> list[ast.expr]:
        """Return the expressions of all outputs, and append the parts that they need to `parts`.

        output: the position of the only output whose parts are needed; None for all.
        """
        named, outputs = formula_of(
            primitive,
            [array_of(x) for x in inputs],
            attributes,
            lambda i: self._expression(inputs[i], number, parts),
            self._named_constant,
            self._function,
        )
        if not named:
            return outputs
        needed = outputs if output is None else [outputs[output]]
        names: dict[str, ast.expr] = {}
        for name, part in _used(named, needed):
            names[name] = ast.Name(self._part(name, renamed(part, names), number, parts))
        return [renamed(node, names) for node in outputs]

    def _part(self, name: str, part: ast.expr, number: int, parts: list[Part]) -> str:
        """Return the name of a part, which is appended to `parts` if it is new."""
        text = text_of(part)
        if text.isidentifier():
            return text
        if text not in self._parts:
            part = self._shortened(part, name, number, parts)
            free = self._parts[text] = self._identifiers.part(name, number)
            parts.append((free, part))
        return self._parts[text]

    def _shortened(self, node: ast.expr, target: str, number: int, parts: list[Part]) -> ast.expr:
        """Return the expression with its longest parts named, until it fits on a line."""
        room = WIDTH - len(target)
        while len(text_of(node)) > room:
            candidates = [n for n in _nested(node) if len(text_of(n)) < room - len(target)]
            if not candidates:
                return node
            part = max(candidates, key=lambda n: len(text_of(n)))
            name = ast.Name(self._part("t", part, number, parts))
            node = replaced(node, part, name)
        return node

    def _named_constant(self, array: Array) -> ast.expr:
        if id(array) not in self._names:
            self.name(array, self._constant(array))
        return ast.Name(self._names[id(array)])


def _used(parts: Sequence[Part], outputs: Iterable[ast.expr]) -> list[Part]:
    """Return the parts that the outputs depend on."""
    wanted = {n.id for node in outputs for n in ast.walk(node) if isinstance(n, ast.Name)}
    used = []
    for name, part in reversed(parts):
        if name in wanted:
            used.append((name, part))
            wanted |= {n.id for n in ast.walk(part) if isinstance(n, ast.Name)}
    return used[::-1]


def _nested(node: ast.expr) -> list[ast.expr]:
    """Return the expressions inside this one that may get a name: no numbers and no indices."""
    kinds = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Subscript, ast.Compare)
    inside = (n for n in ast.walk(node) if isinstance(n, kinds) and n is not node)
    return [n for n in inside if not (is_index(n) or is_numeral(n))]
