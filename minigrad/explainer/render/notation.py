"""Write expressions as mathematics: fractions, roots and sums in place of calls.

This module decides on layout and parentheses; a `Notation` knows the markup for them.
"""

import ast
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

from ..derive.expressions import is_index, is_numeral
from ..derive.steps import Line

Term = tuple[str, int]  # the markup of an expression, and its precedence

# Precedences: an expression below that of its place gets parentheses.
LOOSE, SUM, NEGATIVE, PRODUCT, POWER, ATOM = range(6)

GREEK = {"alpha", "beta", "gamma", "delta", "eps", "epsilon", "lambda", "mu", "sigma", "theta"}
# The sign, the least precedences of the left and right operand, and that of the whole.
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
# Functions whose second operand becomes a lowered index; further operands are left out.
SHAPED = {"broadcast_to", "reshape", "permute_dims", "astype", "scatter"}


class Notation(ABC):
    """The markup of mathematics; its methods take and return pieces of it.

    Signs are Python's operators, or the characters of Unicode that look like them.
    """

    @abstractmethod
    def word(self, text: str) -> str:
        """Return a variable: a letter, one of the GREEK by its name, or a word."""

    @abstractmethod
    def number(self, digits: str) -> str:
        """Return a number without an exponent."""

    @abstractmethod
    def text(self, text: str) -> str:
        """Return plain text."""

    @abstractmethod
    def sign(self, sign: str) -> str:
        """Return an operator or relation."""

    @abstractmethod
    def function(self, name: str) -> str:
        """Return the name of a function; "∑" is one."""

    @abstractmethod
    def row(self, *pieces: str) -> str:
        """Return pieces side by side."""

    @abstractmethod
    def prefixed(self, sign: str, piece: str) -> str:
        """Return a piece with a sign before it."""

    @abstractmethod
    def applied(self, function: str, operand: str) -> str:
        """Return a function before its operand."""

    @abstractmethod
    def fenced(self, piece: str, fences: str = "()") -> str:
        """Return a piece between fences, which grow with it."""

    @abstractmethod
    def listed(self, pieces: Sequence[str]) -> str:
        """Return pieces with commas between them."""

    @abstractmethod
    def fraction(self, above: str, below: str) -> str:
        """Return a fraction."""

    @abstractmethod
    def root(self, piece: str) -> str:
        """Return the square root of a piece."""

    @abstractmethod
    def power(self, base: str, exponent: str) -> str:
        """Return a base with a raised exponent."""

    @abstractmethod
    def lowered(self, base: str, index: str) -> str:
        """Return a base with a lowered index."""

    @abstractmethod
    def hat(self, piece: str) -> str:
        """Return a piece with a hat."""

    @abstractmethod
    def choice(self, a: str, test: str, b: str) -> Term:
        """Return "a if test, else b", and its precedence."""

    # --- what is made of these -----------------------------------------------------------------

    def expression(self, node: ast.expr) -> str:
        """Return an expression, without delimiters."""
        return _Typesetter(self).at(node, LOOSE)

    def line(self, line: Line) -> str:
        """Return a line of a derivation: its target, sign and expression."""
        sign = self.sign("=" if line.sign == "=" else "+=")
        # A comparison is put in parentheses, as in x = (a = b).
        least = SUM if isinstance(line.expression, ast.Compare) else LOOSE
        return self.row(self.name(line.target), sign, _Typesetter(self).at(line.expression, least))

    def name(self, identifier: str) -> str:
        """Return an identifier as v with index 7, x with a hat, g with index x, gamma or a word."""
        if identifier.startswith("g_") and not identifier.startswith("g_hat"):
            return self.lowered(self.word("g"), self.name(identifier[2:]))
        match = re.fullmatch(r"(?P<stem>.*?[^\d_])(?P<number>\d+(?:_\d+)?)", identifier)
        stem, number = match.group("stem", "number") if match else (identifier, "")
        bare = stem.removesuffix("_hat")
        piece = self.word(bare)
        piece = piece if bare == stem else self.hat(piece)
        number = number.replace("_", ",")
        return self.lowered(piece, self.number(number)) if number else piece


# Functions that mathematics does not write as calls.
DRAWN: dict[str, Callable[..., Term]] = {
    "sqrt": lambda math, a: (math.root(a), ATOM),
    "abs": lambda math, a: (math.fenced(a, "||"), ATOM),
    "exp": lambda math, a: (math.power(math.word("e"), a), POWER),
    "where": lambda math, test, a, b: math.choice(a, test, b),
    "ones_like": lambda math, _a: (math.number("1"), ATOM),  # the shape stands beside it
}


class _Typesetter(ast.NodeVisitor):
    """Visits an expression; each node returns its Term."""

    def __init__(self, notation: Notation) -> None:
        self.math = notation

    def at(self, node: ast.AST, least: int) -> str:
        """Return a node's markup, in parentheses if its precedence is below `least`."""
        piece, precedence = self.visit(node)
        return piece if precedence >= least else self.math.fenced(piece)

    def listed(self, nodes: Iterable[ast.AST]) -> str:
        return self.math.listed([self.at(node, LOOSE) for node in nodes])

    def generic_visit(self, node: ast.AST) -> Term:
        return self.math.text(ast.unparse(node)), ATOM

    def visit_Name(self, node: ast.Name) -> Term:
        return self.math.number("∞") if node.id == "inf" else self.math.name(node.id), ATOM

    def visit_Constant(self, node: ast.Constant) -> Term:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return self.math.text(str(value)), ATOM
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        digits, _, exponent = text.removeprefix("-").partition("e")
        piece, precedence = self.math.number(digits), ATOM
        if exponent:
            ten = self.math.power(
                self.math.number("10"), self.at(ast.Constant(int(exponent)), LOOSE)
            )
            piece = ten if digits == "1" else self.math.row(piece, self.math.sign("·"), ten)
            precedence = PRODUCT
        if text.startswith("-"):
            return self.math.prefixed("-", piece), NEGATIVE
        return piece, precedence

    def visit_BinOp(self, node: ast.BinOp) -> Term:
        left, right, kind = node.left, node.right, type(node.op)
        if kind is ast.Div:
            return self.math.fraction(self.at(left, LOOSE), self.at(right, LOOSE)), PRODUCT
        if kind is ast.Pow:
            return self.math.power(self.at(left, ATOM), self.at(right, LOOSE)), POWER
        sign, a, b, precedence = BINARY.get(kind, ("∘", POWER, POWER, SUM))
        if kind is ast.Mult:
            sign = "·" if is_numeral(left) or is_numeral(right) else "⊙"
            # A product that begins with a minus sign needs parentheses where its first factor does.
            precedence = min(PRODUCT, max(NEGATIVE, self.visit(left)[1]))
        return self.math.row(self.at(left, a), self.math.sign(sign), self.at(right, b)), precedence

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Term:
        sign = "-" if isinstance(node.op, ast.USub) else "¬"
        return self.math.prefixed(sign, self.at(node.operand, PRODUCT)), NEGATIVE

    def visit_Compare(self, node: ast.Compare) -> Term:
        sign = self.math.sign(COMPARISONS.get(type(node.ops[0]), "?"))
        return self.math.row(
            self.at(node.left, SUM), sign, self.at(node.comparators[0], SUM)
        ), LOOSE

    def visit_Call(self, node: ast.Call) -> Term:
        name, operands = ast.unparse(node.func), node.args
        if name in DRAWN:
            pieces = [self.at(operand, LOOSE) for operand in operands]
            return DRAWN[name](self.math, *pieces)
        keywords = {k.arg or "": k.value for k in node.keywords}
        keywords.pop("keepdims", None)  # it concerns the shape, which stands beside
        function = self.math.function("∑" if name == "sum" else name)
        if name in SHAPED and len(operands) > 1:
            function = self.math.lowered(function, self.at(operands[1], LOOSE))
            operands = operands[:1]
        if "axis" in keywords:
            function = self.math.lowered(function, self._axis(keywords.pop("axis")))
        if name == "sum":
            return self.math.applied(function, self.at(operands[0], POWER)), PRODUCT
        listed = [self.at(operand, LOOSE) for operand in operands]
        listed += [
            self.math.row(self.math.word(k), self.math.sign("="), self.at(v, LOOSE))
            for k, v in keywords.items()
        ]
        return self.math.applied(function, self.math.fenced(self.math.listed(listed))), POWER

    def _axis(self, node: ast.expr) -> str:
        if isinstance(node, ast.Tuple):
            return self.math.row(self.math.text("axes "), self.listed(node.elts))
        return self.math.row(self.math.text("axis "), self.at(node, LOOSE))

    def visit_Attribute(self, node: ast.Attribute) -> Term:
        if node.attr == "T":
            return self.math.power(self.at(node.value, ATOM), self.math.word("T")), POWER
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> Term:
        index = ast.unparse(node.slice)
        index = index[1:-1] if isinstance(node.slice, ast.Tuple) else index
        # Not lowered, as the indexed name may have a lowered index already.
        piece = self.math.text(f"[{index}]")
        return piece if is_index(node) else self.math.row(self.at(node.value, ATOM), piece), ATOM

    def visit_Tuple(self, node: ast.Tuple) -> Term:
        """Write a tuple as Python does, with a comma after a single element."""
        pieces = self.listed(node.elts)
        return self.math.fenced(
            self.math.listed([pieces, ""]) if len(node.elts) == 1 else pieces
        ), ATOM
