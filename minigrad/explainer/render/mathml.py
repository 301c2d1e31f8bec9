"""Mathematics in MathML Core, which every browser typesets without a network."""

import html
from collections.abc import Sequence

from .notation import GREEK, LOOSE, Notation, Term

LETTERS = dict(zip(sorted(GREEK), "αβδϵϵγλμσθ", strict=True))
SIGNS = {"-": "\N{MINUS SIGN}", "&": "∧", "|": "\N{LOGICAL OR}"}


class MathML(Notation):
    """Mathematics as elements that belong inside <math>."""

    def display(self, piece: str) -> str:
        """Return a piece as a formula of its own."""
        return f'<math display="block"><mrow>{piece}</mrow></math>'

    def word(self, text: str) -> str:
        """Return a variable; browsers set a word upright and a letter italic."""
        return f"<mi>{html.escape(LETTERS.get(text, text))}</mi>"

    def number(self, digits: str) -> str:
        return f"<mn>{digits}</mn>"

    def text(self, text: str) -> str:
        return f"<mtext>{html.escape(text).replace(' ', '&#xa0;')}</mtext>"

    def sign(self, sign: str) -> str:
        if sign == "@":
            return '<mspace width="0.3em"></mspace>'
        return f"<mo>{html.escape(SIGNS.get(sign, sign))}</mo>"

    def function(self, name: str) -> str:
        return self.sign(name) if name == "∑" else self.word(name)

    def row(self, *pieces: str) -> str:
        return f"<mrow>{''.join(pieces)}</mrow>"

    def prefixed(self, sign: str, piece: str) -> str:
        return self.row(self.sign(sign), piece)

    def applied(self, function: str, operand: str) -> str:
        return self.row(function, "<mo>&#x2061;</mo>", operand)

    def fenced(self, piece: str, fences: str = "()") -> str:
        left, right = (f'<mo fence="true">{fence}</mo>' for fence in fences)
        return self.row(left, piece, right)

    def listed(self, pieces: Sequence[str]) -> str:
        return self.row('<mo separator="true">,</mo>'.join(pieces))

    def fraction(self, above: str, below: str) -> str:
        return f"<mfrac>{above}{below}</mfrac>"

    def root(self, piece: str) -> str:
        return f"<msqrt>{piece}</msqrt>"

    def power(self, base: str, exponent: str) -> str:
        return f"<msup>{base}{exponent}</msup>"

    def lowered(self, base: str, index: str) -> str:
        return f"<msub>{base}{index}</msub>"

    def hat(self, piece: str) -> str:
        return f'<mover accent="true">{piece}<mo stretchy="false">^</mo></mover>'

    def choice(self, a: str, test: str, b: str) -> Term:
        """Return it on one line, since braces grow only with a font for mathematics."""
        return self.row(a, self.text(" if "), test, self.text(", else "), b), LOOSE
