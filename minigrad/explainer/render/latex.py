"""Mathematics in LaTeX."""

from collections.abc import Sequence

from .notation import ATOM, GREEK, Notation, Term

FUNCTIONS = {"log", "tanh", "max", "min"}  # functions for which LaTeX has a command
SIGNS = {
    "·": r"\cdot",
    "⊙": r"\odot",
    "@": r"\,",
    "&": r"\land",
    "|": r"\lor",
    "¬": r"\lnot ",
    "∘": r"\circ",
    "≠": r"\ne",
    "≤": r"\le",
    "≥": r"\ge",
    "←": r"\leftarrow",
    "+=": r"\mathrel{+}=",
}
ESCAPES = str.maketrans(
    {c: rf"\{c}" for c in "#$%&_{} "}
    | {"\\": r"\backslash ", "^": r"\wedge ", "~": r"\sim ", "|": r"\vert "}
)


class Latex(Notation):
    """Mathematics in LaTeX, without delimiters."""

    def word(self, text: str) -> str:
        if text in GREEK:
            return r"\epsilon" if text == "eps" else rf"\{text}"
        return text if len(text) == 1 and text.isalpha() else self.text(text)

    def number(self, digits: str) -> str:
        return digits.replace("∞", r"\infty")

    def text(self, text: str) -> str:
        return rf"\mathrm{{{text.translate(ESCAPES)}}}"

    def sign(self, sign: str) -> str:
        return SIGNS.get(sign, sign)

    def function(self, name: str) -> str:
        if name == "∑":
            return r"\sum"
        return rf"\{name}" if name in FUNCTIONS else rf"\operatorname{{{name.translate(ESCAPES)}}}"

    def row(self, *pieces: str) -> str:
        return " ".join(pieces)

    def prefixed(self, sign: str, piece: str) -> str:
        return self.sign(sign) + piece

    def applied(self, function: str, operand: str) -> str:
        return f"{function} {operand}"

    def fenced(self, piece: str, fences: str = "()") -> str:
        if fences == "||":
            return rf"\left\lvert {piece} \right\rvert"
        return rf"\left{fences[0]}{piece}\right{fences[1]}"

    def listed(self, pieces: Sequence[str]) -> str:
        return ", ".join(pieces).rstrip()

    def fraction(self, above: str, below: str) -> str:
        return rf"\frac{{{above}}}{{{below}}}"

    def root(self, piece: str) -> str:
        return rf"\sqrt{{{piece}}}"

    def power(self, base: str, exponent: str) -> str:
        return f"{{{base}}}^{{{exponent}}}"

    def lowered(self, base: str, index: str) -> str:
        return f"{base}_{{{index}}}"

    def hat(self, piece: str) -> str:
        return rf"\hat{{{piece}}}"

    def choice(self, a: str, test: str, b: str) -> Term:
        return rf"\begin{{cases}} {a} & {test} \\ {b} & \text{{else}} \end{{cases}}", ATOM
