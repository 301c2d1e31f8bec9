"""Expressions are Python's syntax trees, made from the formulas of primitives.

All forms of an explanation share the trees: unparsed, they are the text; visited, they become
mathematics; compiled, they give numbers.
"""

import ast
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...ops.primitive import TABLE, Attributes, Operand, Primitive
from ...types import Array

INDEX = "s_"  # s_[:, 1:3] is an index by itself, as in NumPy


class Formula(NamedTuple):
    """The parts that a formula names, in order, and an expression for each output."""

    parts: list[tuple[str, ast.expr]]
    outputs: list[ast.expr]


def formula_of(
    primitive: Primitive,
    inputs: Sequence[Operand],
    attributes: Attributes,
    operand: Callable[[int], ast.expr],
    constant: Callable[[Array], ast.expr],
    function: Callable[[Primitive], str],
) -> Formula:
    """Return what the primitive computes from these inputs, as expressions.

    operand: returns the expression of the input at a position, and is called only for those that
        the formula mentions; constant: returns that of an array among the attributes; function:
        returns the name by which lines call a primitive.
    """
    text = primitive.formula
    if callable(text):
        text = text(*inputs, **attributes)
    if text is None:
        keywords = [ast.keyword(k, literal(v, constant)) for k, v in attributes.items()]
        called = ast.Call(
            ast.Name(function(primitive)), [operand(i) for i in range(len(inputs))], keywords
        )
        whole = _Substitution(lambda name: None).visit(called)
        if primitive.outputs == 1:
            return Formula([], [whole])
        return Formula(
            [], [ast.Subscript(whole, ast.Constant(i)) for i in range(primitive.outputs)]
        )
    attributes = {**primitive.defaults(len(inputs)), **attributes}
    positions = {name: i for i, name in enumerate(primitive.operands(len(inputs)))}
    parts: dict[str, ast.expr] = {}

    def find(name: str) -> ast.expr | None:
        if name in parts:
            return ast.Name(name)
        if name in positions:
            return operand(positions[name])
        return literal(attributes[name], constant) if name in attributes else None

    substitution = _Substitution(
        find, lambda name: function(TABLE[name]) if name in TABLE else name
    )
    *assignments, result = _parsed(text)
    for node in assignments:
        assert isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        parts[node.targets[0].id] = substitution.visit(node.value)
    assert isinstance(result, ast.Expr)
    several = primitive.outputs > 1 and isinstance(result.value, ast.Tuple)
    outputs = result.value.elts if several else [result.value]  # type: ignore[attr-defined]
    return Formula(list(parts.items()), [substitution.visit(node) for node in outputs])


def text_of(node: ast.expr) -> str:
    """Return an expression in Python's syntax, on one line."""
    return ast.unparse(node)


def renamed(node: ast.expr, names: Mapping[str, ast.expr]) -> ast.expr:
    """Return the expression with some names replaced by expressions; functions keep theirs."""
    new: ast.expr = _Substitution(names.get).visit(node)
    return new


def replaced(node: ast.expr, old: ast.expr, new: ast.expr) -> ast.expr:
    """Return the expression with each occurrence of `old` in it replaced by `new`."""
    text = text_of(old)

    class Replacement(_Copying):
        def visit(self, node: ast.AST) -> Any:
            same = type(node) is type(old) and text_of(node) == text
            return new if same else self.generic_visit(node)

    result: ast.expr = Replacement().visit(node)
    return result


def names_in(node: ast.expr) -> list[str]:
    """Return the names of the variables in an expression, each once; functions are left out."""
    called = {n.func for n in ast.walk(node) if isinstance(n, ast.Call)}
    names = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n not in called]
    return list(dict.fromkeys(names))


def is_index(node: ast.AST) -> bool:
    """Return whether the node is an index by itself."""
    whole = node.value if isinstance(node, ast.Subscript) else None
    return isinstance(whole, ast.Name) and whole.id == INDEX


def is_numeral(node: ast.AST) -> bool:
    """Return whether the node is a number, with or without a sign."""
    return isinstance(node.operand if isinstance(node, ast.UnaryOp) else node, ast.Constant)


def literal(value: Operand, constant: Callable[[Array], ast.expr] | None) -> ast.expr:
    """Return an attribute's value as an expression; an array becomes a named constant."""
    if isinstance(value, np.ndarray) and constant is not None:
        return constant(value)
    if isinstance(value, (tuple, list)):
        return ast.Tuple([literal(v, constant) for v in value])
    if isinstance(value, slice):
        ends = (value.start, value.stop, value.step)
        written = [None if v is None else literal(v, constant) for v in ends]
        return ast.Subscript(ast.Name(INDEX), ast.Slice(*written))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (np.dtype, type)):
        value = np.dtype(value).name
    if isinstance(value, float) and not math.isfinite(value):
        name = ast.Name(str(abs(value)))
        return ast.UnaryOp(ast.USub(), name) if value < 0 else name
    return ast.Constant(value)


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> list[ast.stmt]:
    return ast.parse(text).body


class _Copying(ast.NodeVisitor):
    """Transforms trees as ast.NodeTransformer does, but into copies, since trees share nodes."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not node._fields:  # an operator
            return node
        return type(node)(**{k: self._visited(v) for k, v in ast.iter_fields(node)})

    def _visited(self, field: object) -> object:
        if isinstance(field, list):
            return [self._visited(v) for v in field]
        return self.visit(field) if isinstance(field, ast.AST) else field

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return node


class _Substitution(_Copying):
    """Puts expressions in place of names that `find` knows, and leaves out calls' defaults."""

    def __init__(
        self, find: Callable[[str], ast.expr | None], function: Callable[[str], str] = str
    ) -> None:
        self.find, self.function = find, function

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.find(node.id) or node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Name the function by `function`, write axis=(0,) as axis=0, and leave out defaults."""
        keywords = []
        for k in node.keywords:
            value = self.visit(k.value)
            known = isinstance(value, ast.Constant) and k.arg in _DEFAULTS
            if known and value.value == _DEFAULTS[k.arg]:
                continue
            if k.arg == "axis" and isinstance(value, ast.Tuple) and len(value.elts) == 1:
                value = value.elts[0]
            keywords.append(ast.keyword(k.arg, value))
        func = node.func
        if isinstance(func, ast.Name):
            func = ast.Name(self.function(func.id))
        return ast.Call(func, [self.visit(a) for a in node.args], keywords)


_DEFAULTS: dict[str | None, float] = {"keepdims": False, "correction": 0.0}
