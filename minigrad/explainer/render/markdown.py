"""An explanation as Markdown with LaTeX, for notebooks and pages that typeset it."""

import re

from ..analysis.folding import Folds
from ..derive.derivation import Derivation
from .latex import Latex
from .tables import Cells, Table, tables


def markdown(derivation: Derivation, folds: Folds) -> str:
    """Tables of what was given, the forward, the backward and the gradients."""
    cells = Cells(Latex(), "${}$".format, lambda text: f"`{_plain(text)}`", _escaped)
    return "\n\n".join(map(_table, tables(derivation, folds, cells)))


def _table(table: Table) -> str:
    lines = [table.head, ["---"] * len(table.head), *table.rows]
    return f"#### {table.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Text that is neither HTML nor emphasis; an underscore inside a word is none."""
    return re.sub(r"[\\`*<>&|\[\]$~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def _plain(text: str) -> str:
    """Text that can end neither the code it stands in nor the table's cell."""
    return text.replace("`", "'").replace("|", r"\|")
