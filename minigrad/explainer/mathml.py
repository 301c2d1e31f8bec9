"""Expressions as MathML, which browsers typeset without a network: the core that all of them have.

The same mathematics as latex.py's, in elements instead of commands.
"""

import ast
import html
import re
from collections.abc import Iterable

from .derivation import Line
from .latex import ATOM, GREEK, NEGATIVE, POWER, PRODUCT, SUM, parts_of

COMPARISONS = {
    ast.Eq: "=",
    ast.NotEq: "≠",
    ast.Lt: "<",
    ast.LtE: "≤",
    ast.Gt: ">",
    ast.GtE: "≥",
}
MINUS = "\N{MINUS SIGN}"
LETTERS = dict(zip(sorted(GREEK), "αβδϵϵγλμσθ", strict=True))


def mathml(node: ast.expr) -> str:
    """An expression as elements, to stand inside <math>."""
    return _written(node)[0]


def maths(line: Line) -> str:
    """A line of a derivation, as a formula of its own."""
    sign = "=" if line.sign == "=" else "+="
    row = f"{name(line.target)}{_sign(sign)}{mathml(line.expression)}"
    return f'<math display="block"><mrow>{row}</mrow></math>'


def name(identifier: str) -> str:
    """A variable's name: v with a subscript 7, upright where it is a word."""
    if identifier.startswith("g_") and not identifier.startswith("g_hat"):
        return f"<msub><mi>g</mi>{name(identifier[2:])}</msub>"
    stem, hat, number = parts_of(identifier)
    written = _word(LETTERS.get(stem, stem))
    if hat:
        written = f'<mover accent="true">{written}<mo stretchy="false">^</mo></mover>'
    if not number:
        return written
    return f"<msub>{written}<mn>{number}</mn></msub>"


def _written(node: ast.AST) -> tuple[str, int]:
    """Elements, and how tightly they hold together."""
    for kind, write in WRITERS.items():
        if isinstance(node, kind):
            return write(node)
    return _text(ast.unparse(node)), ATOM


def _at(node: ast.AST, least: int) -> str:
    """With parentheses, unless it holds together at least so tightly."""
    elements, strength = _written(node)
    return elements if strength >= least else _fenced(elements)


def _row(*elements: str) -> str:
    return f"<mrow>{''.join(elements)}</mrow>"


def _fenced(elements: str, left: str = "(", right: str = ")") -> str:
    return _row(f'<mo fence="true">{left}</mo>', elements, f'<mo fence="true">{right}</mo>')


def _listed(elements: Iterable[str]) -> str:
    return '<mo separator="true">,</mo>'.join(elements)


def _sign(sign: str) -> str:
    return f"<mo>{html.escape(sign)}</mo>"


def _word(text: str) -> str:
    """An identifier; one of several letters is upright, as browsers have it."""
    return f"<mi>{html.escape(text)}</mi>"


def _text(text: str) -> str:
    return f"<mtext>{html.escape(text)}</mtext>"


# --- one function for each kind of node ---------------------------------------------------------


def _constant(node: ast.Constant) -> tuple[str, int]:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _text(str(value)), ATOM
    written = f"{value:.6g}" if isinstance(value, float) else str(value)
    mantissa, _, exponent = written.replace("-", MINUS).replace("inf", "∞").partition("e")
    tight = NEGATIVE if value < 0 else ATOM
    if not exponent:
        return f"<mn>{mantissa}</mn>", tight
    exponent = re.sub(r"^\+?0*|(?<=\D)0+", "", exponent)
    power = f"<msup><mn>10</mn><mn>{exponent}</mn></msup>"
    return (power if mantissa == "1" else _row(f"<mn>{mantissa}</mn>", _sign("·"), power)), PRODUCT


def _binary(node: ast.BinOp) -> tuple[str, int]:
    left, right = node.left, node.right
    match node.op:
        case ast.Add():
            return _row(_at(left, SUM), _sign("+"), _at(right, PRODUCT)), SUM
        case ast.Sub():
            return _row(_at(left, SUM), _sign(MINUS), _at(right, PRODUCT)), SUM
        case ast.Mult():
            scaled = any(isinstance(n, ast.Constant) for n in (left, right, *_operands(left)))
            sign = _sign("·" if scaled else "⊙")
            tight = min(PRODUCT, max(NEGATIVE, _written(left)[1]))  # -2 * a is a negative one
            return _row(_at(left, NEGATIVE), sign, _at(right, PRODUCT)), tight
        case ast.MatMult():
            space = '<mspace width="0.3em"></mspace>'
            return _row(_at(left, PRODUCT), space, _at(right, POWER)), PRODUCT
        case ast.Div():
            return f"<mfrac>{_at(left, 0)}{_at(right, 0)}</mfrac>", PRODUCT
        case ast.Pow():
            return f"<msup>{_at(left, ATOM)}{_at(right, 0)}</msup>", POWER
    sign = {ast.BitAnd: "∧", ast.BitOr: "\N{LOGICAL OR}"}.get(type(node.op), "∘")
    return _row(_at(left, POWER), _sign(sign), _at(right, POWER)), SUM


def _operands(node: ast.expr) -> list[ast.expr]:
    return [node.operand] if isinstance(node, ast.UnaryOp) else []


def _unary(node: ast.UnaryOp) -> tuple[str, int]:
    sign = MINUS if isinstance(node.op, ast.USub) else "¬"
    return _row(_sign(sign), _at(node.operand, PRODUCT)), NEGATIVE


def _compare(node: ast.Compare) -> tuple[str, int]:
    sign = _sign(COMPARISONS.get(type(node.ops[0]), "?"))
    return _row(_at(node.left, SUM), sign, _at(node.comparators[0], SUM)), 0


def _call(node: ast.Call) -> tuple[str, int]:
    function = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    arguments, keywords = node.args, {k.arg: k.value for k in node.keywords}
    axis = mathml(keywords.pop("axis")) if "axis" in keywords else ""
    keywords.pop("keepdims", None)  # of the shape, which stands beside
    if function == "sqrt":
        return f"<msqrt>{mathml(arguments[0])}</msqrt>", ATOM
    if function == "abs":
        return _fenced(mathml(arguments[0]), "|", "|"), ATOM
    if function == "exp":
        return f"<msup><mi>e</mi>{mathml(arguments[0])}</msup>", POWER
    if function == "where" and len(arguments) == 3:
        # In one line: the brace of a table grows only where a font of mathematics is installed.
        test, a, b = map(mathml, arguments)
        return _row(a, _text("\xa0if\xa0"), test, _text(", else\xa0"), b), 0
    operator = _sign("∑") if function == "sum" else _word(function)
    if axis:
        axis = _row(_text("axis\xa0"), axis)
        operator = f"<msub>{operator}{axis}</msub>"
    apply = "<mo>&#x2061;</mo>"
    if function == "sum":
        return _row(operator, apply, _argument(arguments[0])), PRODUCT
    if function in ("broadcast_to", "reshape", "astype"):
        return _row(operator, apply, _fenced(mathml(arguments[0]))), PRODUCT
    rest = _listed(mathml(v) for v in (*arguments, *keywords.values()))
    return _row(operator, apply, _fenced(rest)), POWER


def _argument(node: ast.expr) -> str:
    """The operand of a sum: in parentheses, unless it is one thing."""
    elements, strength = _written(node)
    return elements if strength >= POWER else _fenced(elements)


def _attribute(node: ast.Attribute) -> tuple[str, int]:
    if node.attr == "T":
        return f"<msup>{_at(node.value, ATOM)}<mi>T</mi></msup>", POWER
    return _text(ast.unparse(node)), ATOM


def _subscript(node: ast.Subscript) -> tuple[str, int]:
    index = ast.unparse(node.slice)
    index = index[1:-1] if isinstance(node.slice, ast.Tuple) else index
    return _row(_at(node.value, ATOM), _text(f"[{index}]")), ATOM


def _tuple(node: ast.Tuple) -> tuple[str, int]:
    return _fenced(_listed(mathml(n) for n in node.elts)), ATOM


WRITERS = {
    ast.Name: lambda node: (name(node.id), ATOM),
    ast.Constant: _constant,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.Compare: _compare,
    ast.Call: _call,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
    ast.Tuple: _tuple,
}
