"""Write the graph in the language of Graphviz."""

import html
from collections.abc import Iterator

from .graph import Graph, Scopes, common_scopes
from .style import LIGHT

_STYLES = {
    "parameter": f'shape=box, style="rounded,filled", fillcolor="{LIGHT["parameter"]}"',
    "input": f'shape=box, style="rounded,filled,bold", fillcolor="{LIGHT["input"]}"',
    "constant": 'shape=box, style="rounded,dashed"',
    "record": "shape=box",
    "module": f'shape=box3d, style="filled", fillcolor="{LIGHT["module"]}"',
}


def dot(graph: Graph) -> str:
    """Return the graph in Graphviz's language; edges without a cotangent are dashed."""
    lines = ["digraph explanation {"]
    lines += ['  node [fontname="monospace", fontsize=11];', "  edge [arrowsize=0.7];"]
    lines += _clusters(graph)
    for edge in graph.edges:
        style = "" if edge.differentiated else " [style=dashed]"
        lines.append(f"  n{edge.source} -> n{edge.target}{style};")
    return "\n".join([*lines, "}", ""])


def _clusters(graph: Graph) -> Iterator[str]:
    """Yield all nodes, in clusters for the modules around them."""
    opened: Scopes = ()
    for i, node in enumerate(graph.nodes):
        same = len(common_scopes(opened, node.scopes))
        yield from ("  " * depth + "}" for depth in range(len(opened), same, -1))
        for depth, scope in enumerate(node.scopes[same:], same + 1):
            # Graphviz merges clusters of one name, so that a call may be opened several times.
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
    """Return lines as one quoted string; Graphviz reads backslashes and HTML entities in it."""
    escaped = (html.escape(line, quote=False).replace("\\", "\\\\") for line in lines)
    return '"' + "\\n".join(line.replace('"', '\\"') for line in escaped) + '"'
