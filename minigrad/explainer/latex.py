"""Expressions as LaTeX: fractions, roots and sums in place of calls."""

import ast
import re

# How tightly an expression holds together; what is looser than its place gets parentheses.
SUM, NEGATIVE, PRODUCT, POWER, ATOM = 1, 2, 3, 4, 5

GREEK = {"alpha", "beta", "gamma", "delta", "eps", "epsilon", "lambda", "mu", "sigma", "theta"}
FUNCTIONS = {"exp", "log", "tanh", "max", "min"}  # those that LaTeX has a command for
COMPARISONS = {
    ast.Eq: "=",
    ast.NotEq: r"\ne",
    ast.Lt: "<",
    ast.LtE: r"\le",
    ast.Gt: ">",
    ast.GtE: r"\ge",
}


def latex(node: ast.expr) -> str:
    """An expression in LaTeX's mathematics, without delimiters."""
    return _written(node)[0]


def _written(node: ast.AST) -> tuple[str, int]:
    """LaTeX, and how tightly it holds together."""
    for kind, write in WRITERS.items():
        if isinstance(node, kind):
            return write(node)
    return _text(ast.unparse(node)), ATOM


def _at(node: ast.AST, least: int) -> str:
    """With parentheses, unless it holds together at least so tightly."""
    text, strength = _written(node)
    return text if strength >= least else rf"\left({text}\right)"


def _text(text: str) -> str:
    escaped = re.sub(r"([#$%&_{}])", r"\\\1", text.replace("\\", r"\backslash "))
    return rf"\mathrm{{{escaped}}}"


# --- one function for each kind of node ---------------------------------------------------------


def name(identifier: str) -> str:
    """A variable's name: v_{7}, \\hat{x}_{7}, \\gamma, \\mathrm{weight}, g_{x}."""
    if identifier.startswith("g_") and not identifier.startswith("g_hat"):
        return f"g_{{{name(identifier[2:])}}}"
    stem, hat, number = parts_of(identifier)
    if stem in GREEK:
        written = r"\epsilon" if stem == "eps" else rf"\{stem}"
    else:
        written = stem if len(stem) == 1 else _text(stem)
    written = rf"\hat{{{written}}}" if hat else written
    return written + (f"_{{{number}}}" if number else "")


def parts_of(identifier: str) -> tuple[str, bool, str]:
    """Of a name its stem, whether that has a hat, and its numbers: x_hat2_3 is x, with, and 2,3."""
    match = re.fullmatch(r"(?P<stem>.*?[^\d_])(?P<number>\d+(?:_\d+)?)", identifier)
    stem, number = match.group("stem", "number") if match else (identifier, "")
    return stem.removesuffix("_hat"), stem.endswith("_hat"), number.replace("_", ",")


def _constant(node: ast.Constant) -> tuple[str, int]:
    value = node.value
    if isinstance(value, float):
        mantissa, _, exponent = f"{value:.6g}".partition("e")
        if exponent:
            power = rf"10^{{{int(exponent)}}}"
            return (power if mantissa == "1" else rf"{mantissa} \cdot {power}"), PRODUCT
        return mantissa.replace("inf", r"\infty"), NEGATIVE if value < 0 else ATOM
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value), NEGATIVE if value < 0 else ATOM
    return _text(str(value)), ATOM


def _binary(node: ast.BinOp) -> tuple[str, int]:
    left, right = node.left, node.right
    match node.op:
        case ast.Add():
            return f"{_at(left, SUM)} + {_at(right, PRODUCT)}", SUM
        case ast.Sub():
            return f"{_at(left, SUM)} - {_at(right, PRODUCT)}", SUM
        case ast.Mult():
            scaled = _is_number(left) or _is_number(right)
            sign = r"\cdot" if scaled else r"\odot"
            text, strength = _written(left)
            text = text if strength >= NEGATIVE else rf"\left({text}\right)"
            # What begins with a minus sign needs parentheses where its first factor does.
            strength = NEGATIVE if strength == NEGATIVE else PRODUCT
            return rf"{text} {sign} {_at(right, PRODUCT)}", strength
        case ast.MatMult():
            return rf"{_at(left, PRODUCT)} \, {_at(right, POWER)}", PRODUCT
        case ast.Div():
            return rf"\frac{{{latex(left)}}}{{{latex(right)}}}", PRODUCT
        case ast.Pow():
            return f"{{{_at(left, ATOM)}}}^{{{latex(right)}}}", POWER
    sign = {ast.BitAnd: r"\land", ast.BitOr: r"\lor"}.get(type(node.op), r"\circ")
    return f"{_at(left, POWER)} {sign} {_at(right, POWER)}", SUM


def _is_number(node: ast.expr) -> bool:
    return isinstance(node.operand if isinstance(node, ast.UnaryOp) else node, ast.Constant)


def _unary(node: ast.UnaryOp) -> tuple[str, int]:
    sign = "-" if isinstance(node.op, ast.USub) else r"\lnot "
    return sign + _at(node.operand, PRODUCT), NEGATIVE


def _compare(node: ast.Compare) -> tuple[str, int]:
    sign = COMPARISONS.get(type(node.ops[0]), "?")
    return f"{_at(node.left, SUM)} {sign} {_at(node.comparators[0], SUM)}", 0


def _call(node: ast.Call) -> tuple[str, int]:
    function = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    arguments, keywords = node.args, {k.arg: k.value for k in node.keywords}
    axis = "" if "axis" not in keywords else latex(keywords.pop("axis")).strip("()")
    keywords.pop("keepdims", None)  # of the shape, which stands beside
    if function == "sqrt":
        return rf"\sqrt{{{latex(arguments[0])}}}", ATOM
    if function in ("sum", "mean"):
        sign = r"\sum" if function == "sum" else r"\operatorname{mean}"
        place = f"_{{{axis}}}" if axis else ""
        return rf"{sign}{place}{_argument(arguments[0])}", PRODUCT
    if function == "abs":
        return rf"\left\lvert {latex(arguments[0])} \right\rvert", ATOM
    if function == "where" and len(arguments) == 3:
        test, a, b = map(latex, arguments)
        return rf"\begin{{cases}} {a} & {test} \\ {b} & \text{{else}} \end{{cases}}", ATOM
    if function in ("broadcast_to", "reshape", "astype"):
        return rf"\operatorname{{{_plain(function)}}}{_argument(arguments[0])}", PRODUCT
    known = rf"\{function}" if function in FUNCTIONS else rf"\operatorname{{{_plain(function)}}}"
    place = f"_{{{axis}}}" if axis else ""
    rest = [latex(v) for v in (*arguments, *keywords.values())]
    return rf"{known}{place}\left({', '.join(rest)}\right)", POWER


def _argument(node: ast.expr) -> str:
    """The operand of an operator such as a sum: in parentheses, unless it is one thing."""
    text, strength = _written(node)
    return f" {text}" if strength >= POWER else rf"\left({text}\right)"


def _plain(function: str) -> str:
    return function.replace("_", r"\_")


def _attribute(node: ast.Attribute) -> tuple[str, int]:
    if node.attr == "T":
        return f"{{{_at(node.value, ATOM)}}}^{{T}}", POWER
    return _text(ast.unparse(node)), ATOM


def _subscript(node: ast.Subscript) -> tuple[str, int]:
    index = ast.unparse(node.slice)
    index = index[1:-1] if isinstance(node.slice, ast.Tuple) else index
    return f"{_at(node.value, ATOM)}_{{[{_text(index)}]}}", ATOM


def _tuple(node: ast.Tuple) -> tuple[str, int]:
    return f"({', '.join(latex(n) for n in node.elts)})", ATOM


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
