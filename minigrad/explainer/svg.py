"""The graph as SVG: a drawing of its own, without Graphviz, readable on light and dark pages."""

import html
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .graph import Graph, Node
from .layout import (
    BELOW,
    DOCK_GAP,
    DOCK_HEIGHT,
    HEAD,
    HEIGHT,
    PAD,
    Frame,
    Layout,
    layout_of,
    width_of,
)
from .style import style

MARGIN = 14.0


class Drawing(NamedTuple):
    """svg: the text; layout: where things are; tops, bottoms: of the layers."""

    svg: str
    layout: Layout
    tops: list[float]
    bottoms: list[float]


def draw(graph: Graph, title: str, css: str | None = None) -> Drawing:
    """The drawing of a graph. css: its style; None: `style()`."""
    layout = layout_of(graph)
    tops, bottoms = _heights(layout)
    left, right = _extent(layout)
    width, height = right - left + 2 * MARGIN, bottoms[-1] + _foot(layout) + MARGIN
    box = f"{left - MARGIN:.1f} 0 {width:.1f} {height:.1f}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="minigrad-graph" viewBox="{box}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img">',
        f"<title>{html.escape(title)}</title>",
        f"<style>{style() if css is None else css}</style>",
        f'<rect class="ground" x="{left - MARGIN:.1f}" width="{width:.1f}" height="{height:.1f}"/>',
        *(_frame(frame, i, layout, tops, bottoms) for i, frame in enumerate(layout.frames)),
        *_edges(graph, layout, tops, bottoms),
        *(_head(frame, i, layout, tops) for i, frame in enumerate(layout.frames)),
        *_nodes(graph, layout, tops, bottoms),
        "</svg>",
    ]
    return Drawing("\n".join(parts) + "\n", layout, tops, bottoms)


# --- where layers and frames are ----------------------------------------------------------------


def _heights(layout: Layout) -> tuple[list[float], list[float]]:
    """The tops and bottoms of the layers, with room for the frames that begin and end there."""
    tops, bottoms, y = [], [], MARGIN
    for i, layer in enumerate(layout.layers):
        y += HEAD * sum(frame.first == i for frame in layout.frames)
        tops.append(y)
        y += max(place.height for place in layer)
        bottoms.append(y)
        y += BELOW + PAD * sum(frame.last == i for frame in layout.frames)
    return tops, bottoms


def _foot(layout: Layout) -> float:
    last = len(layout.layers) - 1
    return PAD * sum(frame.last == last for frame in layout.frames)


def _extent(layout: Layout) -> tuple[float, float]:
    sides = [(frame.left, frame.right) for frame in layout.frames]
    sides += [(p.x - p.left, p.x + p.right) for layer in layout.layers for p in layer]
    return min(left for left, _ in sides), max(right for _, right in sides)


# --- parts --------------------------------------------------------------------------------------


def _frame(
    frame: Frame, i: int, layout: Layout, tops: Sequence[float], bottoms: Sequence[float]
) -> str:
    top = _top(frame, layout, tops)
    inside = sum(f.last == frame.last and f.depth > frame.depth for f in layout.frames)
    height = bottoms[frame.last] + PAD * (1 + inside) - top
    return (
        f'<rect class="frame" data-frame="{i}" x="{frame.left:.1f}" y="{top:.1f}" rx="8" '
        f'width="{frame.right - frame.left:.1f}" height="{height:.1f}"/>'
    )


def _head(frame: Frame, i: int, layout: Layout, tops: Sequence[float]) -> str:
    x, y = frame.left + 8, _top(frame, layout, tops) + 15
    title = html.escape(frame.title)
    return f'<text class="title small" data-frame="{i}" x="{x:.1f}" y="{y:.1f}">{title}</text>'


def _top(frame: Frame, layout: Layout, tops: Sequence[float]) -> float:
    inside = sum(f.first == frame.first and f.depth >= frame.depth for f in layout.frames)
    return tops[frame.first] - HEAD * inside


def _edges(
    graph: Graph, layout: Layout, tops: Sequence[float], bottoms: Sequence[float]
) -> Iterator[str]:
    into: dict[int, list[int]] = {}
    for i, route in layout.routes.items():
        into.setdefault(route[-1].index, []).append(i)
    for target, found in into.items():
        found.sort(key=lambda i: layout.routes[i][-2].x)
        half = width_of(graph.nodes[target]) / 2
        for n, i in enumerate(found, 1):
            route = layout.routes[i]
            points = [(p.x, tops[p.layer], bottoms[p.layer]) for p in route]
            middle = (tops[route[0].layer] + bottoms[route[0].layer]) / 2
            points[0] = (points[0][0], middle, points[0][2])
            end = (tops[route[-1].layer] + bottoms[route[-1].layer] - HEIGHT) / 2
            port = route[-1].x + half * (2 * n / (len(found) + 1) - 1)
            points[-1] = (port, points[-1][1], end)
            yield _edge(graph, i, curve(points), (port, end), down=True)


def curve(points: Sequence[tuple[float, float, float]]) -> str:
    """A path through (x, top, bottom): straight in layers, and bent between them."""
    x, top, bottom = points[0]
    path = f"M{x:.1f} {top:.1f}V{bottom:.1f}"
    for x1, top, end in points[1:]:
        middle = (bottom + top) / 2
        path += f"C{x:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {top:.1f}V{end:.1f}"
        x, bottom = x1, end
    return path


def _edge(graph: Graph, i: int, path: str, tip: tuple[float, float], down: bool) -> str:
    edge, (x, y) = graph.edges[i], tip
    kind = "edge" if edge.differentiated else "edge plain"
    head = "l-4 -8h8z" if down else "l-8 -4v8z"
    return (
        f'<g data-edge="{i}"><path class="{kind}" d="{path}"/>'
        f'<path class="tip" d="M{x:.1f} {y:.1f}{head}"/></g>'
    )


def _nodes(
    graph: Graph, layout: Layout, tops: Sequence[float], bottoms: Sequence[float]
) -> Iterator[str]:
    between = {(e.source, e.target): i for i, e in enumerate(graph.edges)}
    for i, place in layout.places.items():
        y = (tops[place.layer] + bottoms[place.layer]) / 2
        yield f'<g data-place="{i}">'
        for n, d in enumerate(place.docked):
            width = width_of(graph.nodes[d])
            x = place.x - place.right - DOCK_GAP - width / 2
            at = y + (DOCK_HEIGHT + 6) * (n - (len(place.docked) - 1) / 2)
            end = y + 8 * (n - (len(place.docked) - 1) / 2)
            start, tip = x + width / 2, place.x - place.right
            path = f"M{start:.1f} {at:.1f}C{start + 14:.1f} {at:.1f} {tip - 16:.1f} {end:.1f} "
            path += f"{tip:.1f} {end:.1f}"
            yield _edge(graph, between[d, i], path, (tip, end), down=False)
            yield _node(graph.nodes[d], d, x, at, DOCK_HEIGHT)
        yield _node(graph.nodes[i], i, place.x, y, HEIGHT)
        yield "</g>"


def _node(node: Node, i: int, x: float, y: float, height: float) -> str:
    width = width_of(node)
    rx = 4 if node.kind in ("record", "module") else height / 2
    return (
        f'<g class="{node.kind}" data-node="{i}"><title>{html.escape(node.hint)}</title>'
        f'<rect class="box" x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" rx="{rx}" '
        f'width="{width:.1f}" height="{height:.1f}"/>'
        f'<text x="{x:.1f}" y="{y - 3:.1f}">{html.escape(node.title)}</text>'
        f'<text class="small" x="{x:.1f}" y="{y + 12:.1f}">{html.escape(node.subtitle)}</text></g>'
    )
