"""An explanation as Markdown with LaTeX, for notebooks and pages that typeset both."""

import re

from ..analysis.folding import Folds
from ..derive.derivation import Derivation
from .latex import Latex
from .tables import Cells, Table, tables


def markdown(derivation: Derivation, folds: Folds) -> str:
    """Return the tables of inputs, forward, backward and gradients."""
    cells = Cells(Latex(), "${}$".format, _code, _escaped)
    return "\n\n".join(map(_table, tables(derivation, folds, cells)))


def _table(table: Table) -> str:
    lines = [table.head, ["---"] * len(table.head), *table.rows]
    return f"#### {table.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Return text with markup escaped; an underscore inside a word is no markup."""
    return re.sub(r"[\\`*<>&|\[\]$~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def _code(text: str) -> str:
    """Return text as code, without what would end the code or the table's cell."""
    text = text.replace("`", "'").replace("|", r"\|")
    return f"`{text}`"
