"""The graph of a derivation: its nodes are inputs, records and folded calls."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..analysis.folding import Dataflow, Folds, sections_of
from ..analysis.wording import call_text, shape_text
from ..derive.derivation import Derivation
from ..derive.scopes import Scope
from ..derive.steps import Step, Variable

LENGTH = 44  # the most characters of a title; the hint has the whole text


@dataclass
class Node:
    """A node of the graph: a variable that no record makes, a record, or a folded call.

    kind: "parameter", "input", "constant", "record" or "module"; title, subtitle, hint: its texts,
    not yet escaped; variables: the one that it stands for, or those that it makes; scopes: the
    module calls around it, outermost first; steps: its records.
    """

    kind: str
    title: str
    subtitle: str
    hint: str
    variables: list[Variable]
    scopes: tuple[Scope, ...] = ()
    steps: list[Step] = field(default_factory=list)


class Edge(NamedTuple):
    """A variable's way from the node that makes it to one that uses it, both by position."""

    source: int
    target: int
    variable: Variable
    differentiated: bool  # whether a cotangent comes back along it


class Graph(NamedTuple):
    """Nodes, each after the nodes that it uses, and edges, ordered by target."""

    nodes: list[Node]
    edges: list[Edge]


def graph_of(derivation: Derivation, folds: Folds) -> Graph:
    """Return the graph, with one node for each folded call."""
    sections, flow = sections_of(derivation.steps, folds), Dataflow(derivation)
    inputs = [flow.inputs(section.steps) for section in sections]
    scopes = [_around(scope, steps) for scope, steps in sections]
    entering = _entering(inputs, scopes)
    graph, made = Graph([], []), dict[str, int]()
    for i, ((scope, steps), around) in enumerate(zip(sections, scopes, strict=True)):
        for v, outer in sorted(entering.get(i, ()), key=lambda e: len(e[1])):
            made[v.name] = len(graph.nodes)
            graph.nodes.append(_leaf_node(v, outer))
        target = len(graph.nodes)
        node = call_node(scope, steps, flow, around) if scope else _record_node(steps[0])
        graph.nodes.append(node)
        differentiated = {v.name for v in flow.differentiated(steps)}
        graph.edges.extend(
            Edge(made[v.name], target, v, v.name in differentiated) for v in inputs[i]
        )
        made |= {v.name: target for step in steps for v in step.outputs}
    return graph


Scopes = tuple[Scope, ...]


def _entering(
    inputs: Sequence[Sequence[Variable]], scopes: Sequence[Scopes]
) -> dict[int, list[tuple[Variable, Scopes]]]:
    """Return the variables that no record makes, by the section before which their node stands.

    Each comes with the module calls that surround all sections that use it. Its node stands before
    the first of these sections or, if that lies in a call that does not surround the others, before
    the first section of that call.
    """
    first: dict[str, tuple[int, Variable, Scopes]] = {}
    for i, (used, around) in enumerate(zip(inputs, scopes, strict=True)):
        for v in used:
            if v.kind != "result":
                begin, _, common = first.get(v.name, (i, v, around))
                first[v.name] = begin, v, common_scopes(common, around)
    begins = _begins(scopes)
    found: dict[int, list[tuple[Variable, Scopes]]] = {}
    for i, v, common in first.values():
        inner = len(common)
        at = begins[i][inner] if inner < len(begins[i]) else i
        found.setdefault(at, []).append((v, common))
    return found


def _begins(scopes: Sequence[Scopes]) -> list[list[int]]:
    """Return, for each section, the first sections of the calls around it, outermost first."""
    found: list[list[int]] = []
    for i, around in enumerate(scopes):
        same = len(common_scopes(scopes[i - 1], around)) if i else 0
        found.append((found[-1][:same] if i else []) + [i] * (len(around) - same))
    return found


def _around(scope: Scope | None, steps: Sequence[Step]) -> Scopes:
    """Return the calls around a section, without the folded one."""
    scopes = steps[0].scopes
    return scopes if scope is None else scopes[: scopes.index(scope)]


def common_scopes(a: Scopes, b: Scopes) -> Scopes:
    """Return the outer calls that a and b share."""
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return a[:n]


def _leaf_node(v: Variable, scopes: Scopes) -> Node:
    title = v.label or v.name
    hint = f"{v.name}: {v.kind} {title}, {shape_text(v.value)} {v.value.dtype}"
    return Node(v.kind, short(title), f"{shape_text(v.value)} {v.kind}", hint, [v], scopes)


def _record_node(step: Step) -> Node:
    lines = [line.text for line in step.forward]
    made = [line for line in step.forward if line.variable is not None]
    subtitle = f"{shape_text(made[0].value)} {step.primitive}"
    hint = "; ".join(lines)
    return Node("record", short(made[0].text), subtitle, hint, step.outputs, step.scopes, [step])


def call_node(scope: Scope, steps: Sequence[Step], flow: Dataflow, around: Scopes = ()) -> Node:
    """Return the node that stands for all records of a call."""
    made = flow.outputs(steps)
    title = f"{', '.join(v.name for v in made)} = {scope.label}(...)"
    summary = call_text(scope, steps)
    subtitle, hint = f"{shape_text(made[-1].value)} {summary}", f"{scope.label}: {summary}"
    inside = [v for step in steps for v in step.outputs]
    return Node("module", short(title), subtitle, hint, inside, around, list(steps))


def short(text: str) -> str:
    """Return the text, cut to the room of a node."""
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1]}…"
