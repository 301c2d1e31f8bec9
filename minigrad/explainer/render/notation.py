"""Expressions as mathematics: fractions, roots and sums in place of calls, in any notation.

What is put in parentheses, and what goes where, is decided here; a `Notation` knows how it is
written.
"""

import ast
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

from ..derive.expressions import is_index, is_number
from ..derive.steps import Line

Written = tuple[str, int]  # a piece, and how tightly it holds together

# How tightly an expression holds together; what is looser than its place gets parentheses.
LOOSE, SUM, NEGATIVE, PRODUCT, POWER, ATOM = range(6)

GREEK = {"alpha", "beta", "gamma", "delta", "eps", "epsilon", "lambda", "mu", "sigma", "theta"}
# Sign, how tightly left and right must hold together, and how tightly the whole does.
BINARY = {
    ast.Add: ("+", SUM, PRODUCT, SUM),
    ast.Sub: ("-", SUM, PRODUCT, SUM),
    ast.Mult: ("⊙", NEGATIVE, PRODUCT, PRODUCT),
    ast.MatMult: ("@", PRODUCT, POWER, PRODUCT),
    ast.BitAnd: ("&", POWER, POWER, SUM),
    ast.BitOr: ("|", POWER, POWER, SUM),
}
COMPARISONS = {
    ast.Eq: "=",
    ast.NotEq: "≠",
    ast.Lt: "<",
    ast.LtE: "≤",
    ast.Gt: ">",
    ast.GtE: "≥",
}
# To what, or where, the second operand says; a shape behind that stands beside, too.
SHAPED = {"broadcast_to", "reshape", "permute_dims", "astype", "scatter"}


class Notation(ABC):
    """How mathematics is written; what methods take and return are pieces of it.

    Signs come as Python's operators, or as the characters of Unicode that look like them.
    """

    @abstractmethod
    def word(self, text: str) -> str:
        """A variable: a letter, one that is GREEK by its name, or a word."""

    @abstractmethod
    def number(self, digits: str) -> str:
        """A number, without exponent."""

    @abstractmethod
    def text(self, text: str) -> str:
        """What is no mathematics."""

    @abstractmethod
    def sign(self, sign: str) -> str:
        """An operator or relation."""

    @abstractmethod
    def function(self, name: str) -> str:
        """What is applied to something; "∑" among them."""

    @abstractmethod
    def row(self, *pieces: str) -> str:
        """One behind the other."""

    @abstractmethod
    def prefixed(self, sign: str, piece: str) -> str:
        """A sign before what it is of."""

    @abstractmethod
    def applied(self, function: str, operand: str) -> str:
        """A function before its operand."""

    @abstractmethod
    def fenced(self, piece: str, fences: str = "()") -> str:
        """Between fences, which grow with it."""

    @abstractmethod
    def listed(self, pieces: Sequence[str]) -> str:
        """With commas between."""

    @abstractmethod
    def fraction(self, above: str, below: str) -> str:
        """One over the other."""

    @abstractmethod
    def root(self, piece: str) -> str:
        """The square root."""

    @abstractmethod
    def power(self, base: str, exponent: str) -> str:
        """With the exponent raised."""

    @abstractmethod
    def lowered(self, base: str, index: str) -> str:
        """With an index below."""

    @abstractmethod
    def hat(self, piece: str) -> str:
        """With a hat."""

    @abstractmethod
    def choice(self, a: str, test: str, b: str) -> Written:
        """a if test, else b; and how tightly that holds together."""

    # --- what is made of these -----------------------------------------------------------------

    def expression(self, node: ast.expr) -> str:
        """An expression, without delimiters."""
        return _Writer(self).at(node, LOOSE)

    def line(self, line: Line) -> str:
        """A line of a derivation: its target, sign and expression."""
        sign = self.sign("=" if line.sign == "=" else "+=")
        # A comparison in parentheses: x = (a = b).
        least = SUM if isinstance(line.expression, ast.Compare) else LOOSE
        return self.row(self.name(line.target), sign, _Writer(self).at(line.expression, least))

    def name(self, identifier: str) -> str:
        """A variable's: v with index 7, x with a hat, gamma, g with index x, or an upright word."""
        if identifier.startswith("g_") and not identifier.startswith("g_hat"):
            return self.lowered(self.word("g"), self.name(identifier[2:]))
        match = re.fullmatch(r"(?P<stem>.*?[^\d_])(?P<number>\d+(?:_\d+)?)", identifier)
        stem, number = match.group("stem", "number") if match else (identifier, "")
        plain = stem.removesuffix("_hat")
        written = self.word(plain)
        written = written if plain == stem else self.hat(written)
        number = number.replace("_", ",")
        return self.lowered(written, self.number(number)) if number else written


# What is no function's call in mathematics.
DRAWN: dict[str, Callable[..., Written]] = {
    "sqrt": lambda to, a: (to.root(a), ATOM),
    "abs": lambda to, a: (to.fenced(a, "||"), ATOM),
    "exp": lambda to, a: (to.power(to.word("e"), a), POWER),
    "where": lambda to, test, a, b: to.choice(a, test, b),
    "ones_like": lambda to, _a: (to.number("1"), ATOM),  # of the shape, which stands beside
}


class _Writer(ast.NodeVisitor):
    """Walks an expression: of each node, how it is written and how tightly it holds together."""

    def __init__(self, notation: Notation) -> None:
        self.to = notation

    def at(self, node: ast.AST, least: int) -> str:
        """With parentheses, unless it holds together at least so tightly."""
        piece, holds = self.visit(node)
        return piece if holds >= least else self.to.fenced(piece)

    def listed(self, nodes: Iterable[ast.AST]) -> str:
        return self.to.listed([self.at(node, LOOSE) for node in nodes])

    def generic_visit(self, node: ast.AST) -> Written:
        return self.to.text(ast.unparse(node)), ATOM

    def visit_Name(self, node: ast.Name) -> Written:
        return self.to.number("∞") if node.id == "inf" else self.to.name(node.id), ATOM

    def visit_Constant(self, node: ast.Constant) -> Written:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return self.to.text(str(value)), ATOM
        written = f"{value:.6g}" if isinstance(value, float) else str(value)
        digits, _, exponent = written.removeprefix("-").partition("e")
        piece, holds = self.to.number(digits), ATOM
        if exponent:
            ten = self.to.power(self.to.number("10"), self.at(ast.Constant(int(exponent)), LOOSE))
            piece = ten if digits == "1" else self.to.row(piece, self.to.sign("·"), ten)
            holds = PRODUCT
        if written.startswith("-"):
            return self.to.prefixed("-", piece), NEGATIVE
        return piece, holds

    def visit_BinOp(self, node: ast.BinOp) -> Written:
        left, right, kind = node.left, node.right, type(node.op)
        if kind is ast.Div:
            return self.to.fraction(self.at(left, LOOSE), self.at(right, LOOSE)), PRODUCT
        if kind is ast.Pow:
            return self.to.power(self.at(left, ATOM), self.at(right, LOOSE)), POWER
        sign, a, b, holds = BINARY.get(kind, ("∘", POWER, POWER, SUM))
        if kind is ast.Mult:
            sign = "·" if is_number(left) or is_number(right) else "⊙"
            # What begins with a minus sign needs parentheses where its first factor does.
            holds = min(PRODUCT, max(NEGATIVE, self.visit(left)[1]))
        return self.to.row(self.at(left, a), self.to.sign(sign), self.at(right, b)), holds

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Written:
        sign = "-" if isinstance(node.op, ast.USub) else "¬"
        return self.to.prefixed(sign, self.at(node.operand, PRODUCT)), NEGATIVE

    def visit_Compare(self, node: ast.Compare) -> Written:
        sign = self.to.sign(COMPARISONS.get(type(node.ops[0]), "?"))
        return self.to.row(self.at(node.left, SUM), sign, self.at(node.comparators[0], SUM)), LOOSE

    def visit_Call(self, node: ast.Call) -> Written:
        name, operands = ast.unparse(node.func), node.args
        if name in DRAWN:
            pieces = [self.at(operand, LOOSE) for operand in operands]
            return DRAWN[name](self.to, *pieces)
        keywords = {k.arg or "": k.value for k in node.keywords}
        keywords.pop("keepdims", None)  # of the shape, which stands beside
        function = self.to.function("∑" if name == "sum" else name)
        if name in SHAPED and len(operands) > 1:
            function = self.to.lowered(function, self.at(operands[1], LOOSE))
            operands = operands[:1]
        if "axis" in keywords:
            function = self.to.lowered(function, self._axis(keywords.pop("axis")))
        if name == "sum":
            return self.to.applied(function, self.at(operands[0], POWER)), PRODUCT
        listed = [self.at(operand, LOOSE) for operand in operands]
        listed += [
            self.to.row(self.to.word(k), self.to.sign("="), self.at(v, LOOSE))
            for k, v in keywords.items()
        ]
        return self.to.applied(function, self.to.fenced(self.to.listed(listed))), POWER

    def _axis(self, node: ast.expr) -> str:
        if isinstance(node, ast.Tuple):
            return self.to.row(self.to.text("axes "), self.listed(node.elts))
        return self.to.row(self.to.text("axis "), self.at(node, LOOSE))

    def visit_Attribute(self, node: ast.Attribute) -> Written:
        if node.attr == "T":
            return self.to.power(self.at(node.value, ATOM), self.to.word("T")), POWER
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> Written:
        index = ast.unparse(node.slice)
        index = index[1:-1] if isinstance(node.slice, ast.Tuple) else index
        # Behind it, not below: what is indexed may have an index below already.
        written = self.to.text(f"[{index}]")
        return written if is_index(node) else self.to.row(self.at(node.value, ATOM), written), ATOM

    def visit_Tuple(self, node: ast.Tuple) -> Written:
        """A single one with a comma behind it, as Python writes shapes."""
        pieces = self.listed(node.elts)
        return self.to.fenced(self.to.listed([pieces, ""]) if len(node.elts) == 1 else pieces), ATOM
