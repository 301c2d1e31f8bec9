"""An explanation in a notebook: tables of formulas, and the graph, as one piece of HTML."""

import html
import itertools
from collections.abc import Iterable, Iterator, Sequence

from .derivation import Derivation, Step
from .graph import graph_of
from .mathml import maths, name
from .scopes import Scope
from .style import notebook_style
from .svg import draw
from .text import Folds, border, grouped, shape_of, size_of, totals

ROWS = 200  # of a table, and nodes of a drawing; more is for a page

# Text has the colour of the notebook's, and lines a grey that shows on light and dark.
_STYLE = """\
.minigrad table { border-collapse: collapse; margin: .3em 0 .8em; color: inherit }
.minigrad th, .minigrad td { padding: .15em .8em; text-align: left; vertical-align: middle;
  border: 0; border-bottom: 1px solid #8886; background: none; color: inherit }
.minigrad math { text-align: left; width: max-content; font-size: 1.15em }
.minigrad summary { cursor: pointer; font-weight: 600 }
.minigrad .scroll { overflow-x: auto; max-width: 100% }
"""


def notebook(derivation: Derivation, folds: Folds) -> str:
    """HTML to stand in any page, with everything in it escaped."""
    groups = grouped(derivation.steps, folds)
    forward = (row for scope, steps in groups for row in _forward(scope, steps))
    backward = (row for scope, steps in reversed(groups) for row in _backward(scope, steps))
    begin = [(maths(derivation.begin), shape_of(derivation.begin.value), "")]
    given = (
        (
            _formula(name(v.name)),
            shape_of(v.value),
            f"{v.kind} {html.escape(v.label or v.name)}",
        )
        for v in derivation.variables
        if v.kind != "result"
    )
    gradients = (
        (_formula(name(v.cotangent)), shape_of(total), str(n), size_of(total))
        for v, total, n in totals(derivation)
    )
    parts = [
        f"<style>{_STYLE}</style>",
        _table("Inputs", ("", "shape", ""), given),
        _table("Forward", ("", "shape", "module"), forward),
        _table("Backward", ("", "shape", "rule"), itertools.chain(begin, backward)),
        _table("Gradients", ("", "shape", "paths", "largest element"), gradients),
        _graph(derivation, folds),
    ]
    return f'<div class="minigrad">{"".join(parts)}</div>'


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that can be folded to its title; cells are HTML."""
    rows = list(rows)
    cells = "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in row)}</tr>" for row in rows[:ROWS])
    if len(rows) > ROWS:
        cells += f'<tr><td colspan="{len(head)}">… and {len(rows) - ROWS} more: {_MORE}</td></tr>'
    names = "".join(f'<th scope="col">{h}</th>' for h in head)
    return (
        f"<details open='open'><summary>{title}</summary>"
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


def _forward(scope: Scope | None, steps: Sequence[Step]) -> Iterator[Sequence[str]]:
    if scope is not None:
        given, made = border(steps)
        operands = "<mo>,</mo>".join(name(v.name) for v in given)
        call = f"{name(made[-1].name)}<mo>←</mo><mo>(</mo>{operands}<mo>)</mo>"
        yield _formula(call), shape_of(made[-1].value), _module(scope)
        return
    for step in steps:
        module = f"<code>{html.escape(step.scopes[-1].label)}</code>" if step.scopes else ""
        for line in step.forward:
            yield maths(line), shape_of(line.value), module


def _backward(scope: Scope | None, steps: Sequence[Step]) -> Iterator[Sequence[str]]:
    if scope is not None:
        given, made = border(steps)
        wanted = "<mo>,</mo>".join(name(v.cotangent) for v in given if v.kind != "constant")
        call = f"<mo>(</mo>{wanted}<mo>)</mo><mo>←</mo>{name(made[-1].cotangent)}"
        yield _formula(call), "", _module(scope)
        return
    for step in steps:
        for line in step.backward:
            rule = f"{line.primitive}, w.r.t. {line.wrt}" if line.wrt else ""
            yield maths(line), shape_of(line.value), html.escape(rule)


def _formula(elements: str) -> str:
    return f'<math display="block"><mrow>{elements}</mrow></math>'


def _module(scope: Scope) -> str:
    label, kind = (html.escape(text) for text in (scope.label, scope.kind))
    return f"<code>{label}</code> ({kind})"
