"""The graph of a derivation: what was given and what was made, as nodes; and as Graphviz text."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..analysis.folding import Dataflow, Folds, sections_of
from ..analysis.wording import call_text, shape_text
from ..derive.derivation import Derivation
from ..derive.scopes import Scope
from ..derive.steps import Step, Variable

LENGTH = 44  # characters of a title; a hint has all of it


@dataclass
class Node:
    """What the graph draws as one: a variable that was given, a record, or a folded module.

    kind: "parameter", "input", "constant", "record" or "module"; title, subtitle, hint: what it
    says, in one line each but the hint, not yet escaped; variables: what it is, or makes; scopes:
    the modules around, from the outside in; steps: its records.
    """

    kind: str
    title: str
    subtitle: str
    hint: str
    variables: list[Variable]
    scopes: tuple[Scope, ...] = ()
    steps: list[Step] = field(default_factory=list)


class Edge(NamedTuple):
    """A variable on its way from the node that makes it (by position) to one that takes it."""

    source: int
    target: int
    variable: Variable
    differentiated: bool  # a cotangent comes back along it


class Graph(NamedTuple):
    """Nodes, each after those that it takes from, and edges, by target."""

    nodes: list[Node]
    edges: list[Edge]


def graph_of(derivation: Derivation, folds: Folds) -> Graph:
    """The graph, with one node for each call of a folded module."""
    groups, flow = sections_of(derivation.steps, folds), Dataflow(derivation)
    takers = [flow.inputs(group.steps) for group in groups]
    scopes = [_around(scope, steps) for scope, steps in groups]
    entering = _entering(takers, scopes)
    graph, made = Graph([], []), dict[str, int]()
    for i, ((scope, steps), around) in enumerate(zip(groups, scopes, strict=True)):
        for v, outer in sorted(entering.get(i, ()), key=lambda e: len(e[1])):
            made[v.name] = len(graph.nodes)
            graph.nodes.append(_given(v, outer))
        target = len(graph.nodes)
        box = folded(scope, steps, flow, around) if scope else _record(steps[0])
        graph.nodes.append(box)
        back = {v.name for v in flow.differentiated(steps)}
        graph.edges.extend(Edge(made[v.name], target, v, v.name in back) for v in takers[i])
        made |= {v.name: target for step in steps for v in step.outputs}
    return graph


Scopes = tuple[Scope, ...]


def _entering(
    takers: Sequence[Sequence[Variable]], scopes: Sequence[Scopes]
) -> dict[int, list[tuple[Variable, Scopes]]]:
    """What was given, by the position of the group before which it comes: the first that takes it
    or, where others outside its module do so too, that with which the module begins. With the
    modules around all that take it."""
    first: dict[str, tuple[int, Variable, Scopes]] = {}
    for i, (taken, around) in enumerate(zip(takers, scopes, strict=True)):
        for v in taken:
            if v.kind != "result":
                begin, _, common = first.get(v.name, (i, v, around))
                first[v.name] = begin, v, _common(common, around)
    begins = _begins(scopes)
    found: dict[int, list[tuple[Variable, Scopes]]] = {}
    for i, v, common in first.values():
        inner = len(common)
        at = begins[i][inner] if inner < len(begins[i]) else i
        found.setdefault(at, []).append((v, common))
    return found


def _begins(scopes: Sequence[Scopes]) -> list[list[int]]:
    """For each group, where the calls around it begin, from the outside in."""
    found: list[list[int]] = []
    for i, around in enumerate(scopes):
        same = len(_common(scopes[i - 1], around)) if i else 0
        found.append((found[-1][:same] if i else []) + [i] * (len(around) - same))
    return found


def _around(scope: Scope | None, steps: Sequence[Step]) -> Scopes:
    """The modules around a group: those around the folded one, without it."""
    scopes = steps[0].scopes
    return scopes if scope is None else scopes[: scopes.index(scope)]


def _common(a: Scopes, b: Scopes) -> Scopes:
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return a[:n]


def _given(v: Variable, scopes: Scopes) -> Node:
    title = v.label or v.name
    hint = f"{v.name}: {v.kind} {title}, {shape_text(v.value)} {v.value.dtype}"
    return Node(v.kind, short(title), f"{shape_text(v.value)} {v.kind}", hint, [v], scopes)


def _record(step: Step) -> Node:
    lines = [line.text for line in step.forward]
    made = [line for line in step.forward if line.variable is not None]
    subtitle = f"{shape_text(made[0].value)} {step.primitive}"
    hint = "; ".join(lines)
    return Node("record", short(made[0].text), subtitle, hint, step.outputs, step.scopes, [step])


def folded(scope: Scope, steps: Sequence[Step], flow: Dataflow, around: Scopes = ()) -> Node:
    """What stands for all records of a call of a module."""
    made = flow.outputs(steps)
    title = f"{', '.join(v.name for v in made)} = {scope.label}(...)"
    said = call_text(scope, steps)
    subtitle, hint = f"{shape_text(made[-1].value)} {said}", f"{scope.label}: {said}"
    inside = [v for step in steps for v in step.outputs]
    return Node("module", short(title), subtitle, hint, inside, around, list(steps))


def short(text: str) -> str:
    """Cut to what a node has room for."""
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1]}…"


# --- Graphviz -----------------------------------------------------------------------------------

_STYLES = {
    "parameter": 'shape=box, style="rounded,filled", fillcolor="#d7e8fa"',
    "input": 'shape=box, style="rounded,filled,bold", fillcolor="#d9efdc"',
    "constant": 'shape=box, style="rounded,dashed"',
    "record": "shape=box",
    "module": 'shape=box3d, style="filled", fillcolor="#ececec"',
}


def dot(graph: Graph) -> str:
    """The graph in Graphviz's language; edges without a cotangent are dashed."""
    lines = ["digraph explanation {"]
    lines += ['  node [fontname="monospace", fontsize=11];', "  edge [arrowsize=0.7];"]
    lines += _clusters(graph)
    for edge in graph.edges:
        style = "" if edge.differentiated else " [style=dashed]"
        lines.append(f"  n{edge.source} -> n{edge.target}{style};")
    return "\n".join([*lines, "}", ""])


def _clusters(graph: Graph) -> Iterator[str]:
    """All nodes, inside the modules around them."""
    opened: Scopes = ()
    for i, node in enumerate(graph.nodes):
        same = len(_common(opened, node.scopes))
        yield from ("  " * depth + "}" for depth in range(len(opened), same, -1))
        for depth, scope in enumerate(node.scopes[same:], same + 1):
            # Graphviz merges clusters of one name, so that a call may come in several runs.
            name = quoted(f"cluster_{scope.time}_{scope.label}")
            yield "  " * depth + f"subgraph {name} {{"
            yield "  " * depth + f"  label={quoted(f'{scope.label} {scope.kind}')};"
        opened = node.scopes
        label = quoted(node.title, node.subtitle)
        hint = quoted(node.hint)
        indent = "  " * (len(opened) + 1)
        yield f"{indent}n{i} [label={label}, tooltip={hint}, {_STYLES[node.kind]}];"
    yield from ("  " * depth + "}" for depth in range(len(opened), 0, -1))


def quoted(*lines: str) -> str:
    """A string of Graphviz's, which reads backslashes and HTML's entities in it."""
    escaped = (html.escape(line, quote=False).replace("\\", "\\\\") for line in lines)
    return '"' + "\\n".join(line.replace('"', '\\"') for line in escaped) + '"'
