"""Identifiers: the names of variables, cotangents and parts of expressions in an explanation."""

import keyword
import re
import unicodedata
from collections.abc import Iterable

from ...names import Names

LONGEST = 30  # characters of an identifier: a line has several


class Identifiers:
    """Makes identifiers, no two of them equal."""

    def __init__(self, reserved: Iterable[str]) -> None:
        """Keep the `reserved` names, which are those of functions, from being used."""
        self._reserved = frozenset(reserved)
        self._names = Names(self._reserved)
        self.count = 0  # of variables without a label

    def new(self, label: str | None) -> str:
        """Return a new identifier for a variable: its label's, or v and a number without a label.

        If another variable or cotangent has this identifier or that of its cotangent, a number is
        added; if a function has it, an underscore.
        """
        self.count += label is None
        name = f"v{self.count}" if label is None else _identifier(label)
        name = f"{name}_" if name in self._reserved else name
        return self._names.fresh_name(name, cotangent)

    def part(self, name: str, number: int) -> str:
        """Return the identifier of a part of step `number`'s expressions: its name and number."""
        return self._names.fresh_name(f"{name}{number}")


def cotangent(name: str) -> str:
    """Return the identifier of a variable's cotangent: g7 for v7, g_x for x."""
    return f"g{name[1:]}" if re.fullmatch(r"v\d+(_\d+)?", name) else f"g_{name}"


def one_line(text: str) -> str:
    """Return the text on one line, without characters that a page or drawing may not contain."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()) or "?"


def _identifier(label: str) -> str:
    # NFKC, as Python reads names: compatible forms of a letter are the same to it.
    name = unicodedata.normalize("NFKC", re.sub(r"\[(['\"]?)(.*?)\1\]", r"_\2", label))
    name = "".join(c if f"a{c}".isidentifier() else "_" for c in name)[-LONGEST:]
    reserved = keyword.iskeyword(name) or name.startswith("__")
    return f"_{name.lstrip('_')}_" if reserved or not name.isidentifier() else name
