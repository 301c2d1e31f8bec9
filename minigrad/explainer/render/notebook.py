"""Show an explanation in a notebook: tables of formulas and the graph, as one piece of HTML."""

import html
from itertools import islice

from ..analysis.folding import Folds
from ..derive.derivation import Derivation
from ..graph.graph import graph_of
from ..graph.style import notebook_style
from ..graph.svg import draw
from .mathml import MathML
from .tables import Cells, Table, tables

ROWS = 200  # the most rows of a table, and nodes of a drawing; a page has room for more

# Text inherits the notebook's colour; lines are of a grey that shows on light and dark.
_STYLE = """\
.minigrad table { border-collapse: collapse; margin: .3em 0 .8em; color: inherit }
.minigrad th, .minigrad td { padding: .15em .8em; text-align: left; vertical-align: middle;
  border: 0; border-bottom: 1px solid #8886; background: none; color: inherit }
.minigrad math { text-align: left; width: max-content; font-size: 1.15em }
.minigrad summary { cursor: pointer; font-weight: 600 }
.minigrad .scroll { overflow-x: auto; max-width: 100% }
"""


def notebook(derivation: Derivation, folds: Folds) -> str:
    """Return HTML that may stand in any page; all text in it is escaped."""
    notation = MathML()
    cells = Cells(
        notation, notation.display, lambda text: f"<code>{html.escape(text)}</code>", html.escape
    )
    shown = "".join(map(_table, tables(derivation, folds, cells)))
    drawn = _graph(derivation, folds)
    return f'<div class="minigrad"><style>{_STYLE}</style>{shown}{drawn}</div>'


def _table(table: Table) -> str:
    """Return a table that the reader can fold to its title."""
    rows = iter(table.rows)
    cells = "".join(
        f"<tr>{''.join(f'<td>{c}</td>' for c in row)}</tr>" for row in islice(rows, ROWS)
    )
    if left := sum(1 for _ in rows):
        cells += f'<tr><td colspan="{len(table.head)}">… and {left} more: {_MORE}</td></tr>'
    names = "".join(f'<th scope="col">{h}</th>' for h in table.head)
    return (
        f'<details open="open"><summary>{table.title}</summary>'
        f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{cells}</tbody></table>'
        "</div></details>"
    )


_MORE = "print it, fold its modules, or step through it with <code>save_html(path)</code>"


def _graph(derivation: Derivation, folds: Folds) -> str:
    graph = graph_of(derivation, folds)
    shown = f"{len(graph.nodes)} nodes: {_MORE}"
    if len(graph.nodes) <= ROWS:
        shown = draw(graph, f"the graph of {derivation.loss.name}", notebook_style()).svg
    return (
        f'<details open="open"><summary>Graph</summary><div class="scroll">{shown}</div></details>'
    )
