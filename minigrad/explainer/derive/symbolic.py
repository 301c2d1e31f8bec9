"""Rules, written out: a rule is run on Tensors, and what it applies becomes an expression.

So the text of a derivative is made by the rule that computes it, and cannot say anything else.
"""

import ast
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ...arrays import Array
from ...engine.tensor import Tensor
from ...engine.tracer import Tracer, tracing
from ...ops.primitive import Primitive
from .expressions import formula_of, is_index, is_number, literal, renamed, replaced, text_of
from .names import Identifiers

Line = tuple[str, ast.expr]

WIDTH = 90  # characters of a target and its expression: a line has 100
SHORT = 16  # of an expression that is written out again rather than given a name


class SymbolicTracer(Tracer):
    """Expressions of Tensors that are made of known ones; a tracer.

    constant: what gives a name to an array that nobody has given one; function: likewise, to a
    primitive.
    """

    runs_again = False
    rule: Any = None  # set by the backward pass

    def __init__(
        self,
        constant: Callable[[Array], str],
        function: Callable[[Primitive], str],
        identifiers: Identifiers,
    ) -> None:
        self._constant, self._function, self._identifiers = constant, function, identifiers
        self._names: dict[int, str] = {}  # by the identity of the array
        self._made: dict[int, tuple[Primitive, Sequence[Any], dict[str, Any], int]] = {}
        self._uses: dict[int, int] = {}
        self._held: list[Any] = []  # so that no other object gets the identity of one
        self._parts: dict[str, str] = {}  # names of parts, by the text of their expressions

    def apply(self, primitive: Primitive, inputs: Sequence[Any], attributes: dict[str, Any]) -> Any:
        """Apply the primitive, and remember of what its results are made."""
        for x in inputs:
            self._uses[id(x)] = self._uses.get(id(x), 0) + 1
        with tracing(None):
            result = primitive(*inputs, **attributes)
        for i, y in enumerate(primitive.unpack(result)[0]):
            if y is not None:
                self._made[id(y)] = primitive, inputs, attributes, i
                self._held.append(y)
        return result

    def name(self, x: Tensor | Array, name: str) -> None:
        """From here on this Tensor is known by this name, and its array by the first it gets."""
        if isinstance(x, Tensor):
            self._names[id(x)] = name
        self._names.setdefault(id(_array(x)), name)
        self._held.append(x)

    def expression(self, x: Any, target: str, number: int) -> tuple[list[Line], ast.expr]:
        """The expression of a Tensor, array or number, after the new parts that it names.

        target: what it is for; number: that of the step, by which parts are numbered.
        """
        lines: list[Line] = []
        return lines, self._short(self._expression(x, number, lines), target, number, lines)

    def formula(
        self, primitive: Primitive, inputs: Sequence[Any], attributes: dict[str, Any], number: int
    ) -> tuple[list[Line], list[ast.expr]]:
        """Expressions for the outputs of a primitive, likewise."""
        lines: list[Line] = []
        outputs = self._formula(primitive, inputs, attributes, number, lines, None)
        return lines, [self._short(node, "v000", number, lines) for node in outputs]

    def _expression(self, x: Any, number: int, lines: list[Line]) -> ast.expr:
        for known in (x, _array(x)):
            if id(known) in self._names:
                return ast.Name(self._names[id(known)])
            if id(known) in self._made:
                primitive, inputs, attributes, i = self._made[id(known)]
                node = self._formula(primitive, inputs, attributes, number, lines, i)[i]
                if self._uses.get(id(known), 0) > 1 and len(text_of(node)) > SHORT:
                    node = ast.Name(self._part("t", node, number, lines))
                return node
        x = _array(x)
        return self._named_constant(x) if isinstance(x, np.ndarray) else literal(x, None)

    def _formula(
        self,
        primitive: Primitive,
        inputs: Sequence[Any],
        attributes: dict[str, Any],
        number: int,
        lines: list[Line],
        output: int | None,
    ) -> list[ast.expr]:
        parts, outputs = formula_of(
            primitive,
            [_array(x) for x in inputs],
            attributes,
            lambda i: self._expression(inputs[i], number, lines),
            self._named_constant,
            self._function,
        )
        if not parts:
            return outputs
        needed = outputs if output is None else [outputs[output]]
        names: dict[str, ast.expr] = {}
        for name, part in _used(parts, needed):
            names[name] = ast.Name(self._part(name, renamed(part, names), number, lines))
        return [renamed(node, names) for node in outputs]

    def _part(self, name: str, part: ast.expr, number: int, lines: list[Line]) -> str:
        """The name of a part, which it has already if it was met before."""
        text = text_of(part)
        if text.isidentifier():
            return text
        if text not in self._parts:
            part = self._short(part, name, number, lines)
            free = self._parts[text] = self._identifiers.part(name, number)
            lines.append((free, part))
        return self._parts[text]

    def _short(self, node: ast.expr, target: str, number: int, lines: list[Line]) -> ast.expr:
        """The expression, its longest parts given names of their own until it fits a line."""
        room = WIDTH - len(target)
        while len(text_of(node)) > room:
            parts = [n for n in _parts_of(node) if len(text_of(n)) < room - len(target)]
            if not parts:
                return node
            part = max(parts, key=lambda n: len(text_of(n)))
            name = ast.Name(self._part("t", part, number, lines))
            node = replaced(node, part, name)
        return node

    def _named_constant(self, array: Array) -> ast.expr:
        if id(array) not in self._names:
            self.name(array, self._constant(array))
        return ast.Name(self._names[id(array)])


def _used(parts: Sequence[Line], outputs: Iterable[ast.expr]) -> list[Line]:
    """Those of the parts that the outputs are made of."""
    wanted = {n.id for node in outputs for n in ast.walk(node) if isinstance(n, ast.Name)}
    used = []
    for name, part in reversed(parts):
        if name in wanted:
            used.append((name, part))
            wanted |= {n.id for n in ast.walk(part) if isinstance(n, ast.Name)}
    return used[::-1]


def _parts_of(node: ast.expr) -> list[ast.expr]:
    """Expressions inside this one that are worth a name: not names, numbers, functions, indices."""
    kinds = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Subscript, ast.Compare)
    inside = (n for n in ast.walk(node) if isinstance(n, kinds) and n is not node)
    return [n for n in inside if not (is_index(n) or is_number(n))]


def _array(x: Any) -> Any:
    return x._data if isinstance(x, Tensor) else x
