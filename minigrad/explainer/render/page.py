"""The explorer is one page to step through a derivation; it needs no network.

All that it shows is computed here and embedded as data; templates/ has its HTML, CSS and
JavaScript.
"""

import base64
import hashlib
import html
import importlib.resources
import itertools
import json
import re
from collections.abc import Sequence

import numpy as np

from ...types import Array
from ..analysis.folding import Dataflow, Folds
from ..analysis.paths import MAX_PATHS, Path, distinct_paths, paths_to, totals
from ..analysis.wording import count_text
from ..derive.derivation import Derivation
from ..derive.expressions import names_in
from ..derive.steps import Line, Step, Variable
from ..graph.graph import Graph, call_node, graph_of
from ..graph.layout import width_of
from ..graph.svg import Drawing, draw
from .heatmap import JSON, summary
from .mathml import MathML

BYTES = 1_000_000  # the size of all heat maps of a page together
CELLS = (36, 2048)  # the least and most cells of a heat map
_NOTATION = MathML()
ALL_PATHS = 512  # the most paths that a page shows; the rest are only counted


@np.errstate(all="ignore")  # sums of cotangents may overflow
def page(derivation: Derivation, folds: Folds) -> str:
    """Return the text of the page. folds: whether a module's call is folded at first."""
    graph = graph_of(derivation, lambda scope: False)
    drawing = draw(graph, f"the graph of {derivation.loss.name}")
    data = {
        "loss": derivation.loss.name,
        "graph": _graph(graph, drawing, folds, Dataflow(derivation)),
        **_Summaries(derivation).all(graph),
    }
    script = "\n".join(map(_template, ("heat.js", "graph.js", "steps.js", "page.js")))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "title": html.escape(f"{derivation.loss.label or derivation.loss.name}: explained"),
        "policy": f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'",
        "style": _template("page.css"),
        "graph": drawing.svg,
        "data": embedded(data),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _template("page.html"))


def embedded(data: JSON) -> str:
    """Return data as JSON that neither ends the script element around it nor begins another."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _template(name: str) -> str:
    files = importlib.resources.files(__package__)
    return files.joinpath("templates", name).read_text(encoding="utf-8")


# --- the graph ----------------------------------------------------------------------------------


def _graph(graph: Graph, drawing: Drawing, folds: Folds, flow: Dataflow) -> JSON:
    """Return what folding moves: places, points of edges, and frames with their folded boxes."""
    home = {d: i for i, place in drawing.layout.places.items() for d in (i, *place.docked)}
    return {
        "nodes": [
            {"names": [v.name for v in node.variables], "place": home[i]}
            for i, node in enumerate(graph.nodes)
        ],
        "middles": {
            i: round(drawing.middles[place.layer], 1) for i, place in drawing.layout.places.items()
        },
        "edges": [
            {
                "source": edge.source,
                "target": edge.target,
                "name": edge.variable.name,
                "points": [[round(x, 1) for x in p] for p in drawing.points.get(i, [])],
            }
            for i, edge in enumerate(graph.edges)
        ],
        "frames": [
            _frame(graph, drawing, i, folds, flow) for i in range(len(drawing.layout.frames))
        ],
    }


def _frame(graph: Graph, drawing: Drawing, i: int, folds: Folds, flow: Dataflow) -> JSON:
    frame, (top, bottom) = drawing.layout.frames[i], drawing.frames[i]
    last = max(frame.members, key=lambda place: place.index)
    inside = [p.index for p in frame.members]
    steps = [step for j in inside for step in graph.nodes[j].steps]
    box = call_node(frame.scope, steps, flow)
    return {
        "title": box.title,
        "subtitle": box.subtitle,
        "head": frame.title,
        "label": frame.scope.label,
        "kind": frame.scope.kind,
        "places": inside,
        "top": round(top, 1),
        "bottom": round(bottom, 1),
        "x": round(last.x, 1),
        "width": round(width_of(box), 1),
        "takes": [v.name for v in flow.inputs(steps)],
        "makes": [v.name for v in flow.outputs(steps)],
        "layer": not frame.inner,
        "folded": folds(frame.scope),
    }


# --- values -------------------------------------------------------------------------------------


class _Summaries:
    """Steps, rules and gradients as data; all heat maps together have a limited size."""

    def __init__(self, derivation: Derivation) -> None:
        self.derivation = derivation
        self.paths = self._paths()
        rules = sum(line.wrt != "" for step in derivation.steps for line in step.backward)
        shown = sum(map(len, self.paths.values()))
        maps = len(derivation.variables) + 2 * rules + shown
        least, most = CELLS
        self.cells = min(most, max(least, BYTES * 3 // 4 // maps))  # base 64: 4 letters for 3 bytes

    def _paths(self) -> dict[str, list[Path]]:
        """Return the paths to parameters and inputs that the page shows, by the variable's name."""
        found, left = {}, ALL_PATHS
        for v, _, n in totals(self.derivation):
            if 1 < n <= min(MAX_PATHS, left):
                found[v.name] = paths_to(self.derivation, v)
                left -= n
        return found

    def all(self, graph: Graph) -> JSON:
        """Return all data except the graph's."""
        node = {id(step): i for i, n in enumerate(graph.nodes) for step in n.steps}
        steps, begin = self.derivation.steps, self.derivation.begin
        edges = {(e.target, e.variable.name): i for i, e in enumerate(graph.edges)}
        return {
            "variables": {v.name: self._variable(v) for v in self.derivation.variables},
            "forward": [self._forward(step, node[id(step)]) for step in steps],
            "begin": {
                **_line([begin]),
                "name": self.derivation.loss.name,
                "target": begin.target,
                "node": node[id(steps[-1])],
                "total": self._summary(begin.value),
            },
            "backward": self._backward(node, edges),
            "gradients": [self._gradient(v.name, n) for v, _, n in totals(self.derivation)],
        }

    def _summary(self, array: Array) -> JSON:
        return summary(array, self.cells)

    def _variable(self, v: Variable) -> JSON:
        return {
            "label": v.label,
            "kind": v.kind,
            "cotangent": v.cotangent,
            "dtype": str(v.value.dtype),
            "value": self._summary(v.value),
        }

    def _forward(self, step: Step, node: int) -> JSON:
        return {
            **_line(step.forward),
            "node": node,
            "primitive": step.primitive,
            "scope": step.scopes[-1].label if step.scopes else "",
            "takes": list(dict.fromkeys(v.name for v in step.inputs if v is not None)),
            "makes": [v.name for v in step.outputs],
        }

    def _backward(self, node: dict[int, int], edges: dict[tuple[int, str], int]) -> list[JSON]:
        """Return each contribution, in the order of the backward pass, with the sum so far."""
        found: list[JSON] = []
        totals: dict[str, tuple[Array, int]] = {}
        for step in reversed(self.derivation.steps):
            parts: list[Line] = []
            for line in step.backward:
                parts.append(line)
                if not line.wrt or line.variable is None:
                    continue
                before, n = totals.get(line.target, (None, 0))
                total = line.value if before is None else before + line.value
                totals[line.target] = total, n + 1
                found.append(
                    {
                        **_line(parts),
                        "node": node[id(step)],
                        "edge": edges[node[id(step)], line.variable.name],
                        "primitive": line.primitive,
                        "wrt": line.wrt,
                        "name": line.variable.name,
                        "target": line.target,
                        "takes": [v.name for v in step.outputs],
                        "reads": list(
                            dict.fromkeys(
                                itertools.chain(*(names_in(part.expression) for part in parts))
                            )
                        ),
                        "number": n + 1,
                        "contribution": self._summary(line.value),
                        "total": self._summary(total) if n else None,  # None: the contribution
                    }
                )
                parts = []
        for entry in found:
            entry["of"] = totals[entry["target"]][1]
        return found

    def _gradient(self, name: str, n: int) -> JSON:
        paths = self.paths.get(name, [])
        return {
            "name": name,
            "count": n,
            "counted": count_text(n),
            "paths": [
                {"way": path.text, "value": self._summary(path.contribution)}
                for path in (distinct_paths(paths) if paths else [])
            ],
        }


def _line(lines: Sequence[Line]) -> JSON:
    return {
        "text": [line.text for line in lines],
        "maths": [_NOTATION.display(_NOTATION.line(line)) for line in lines],
    }
