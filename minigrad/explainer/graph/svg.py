"""Draw the graph as SVG, without Graphviz, for light and dark pages."""

import html
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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


Points = list[tuple[float, float, float]]  # x, top and bottom of each vertical piece of an edge


class Drawing(NamedTuple):
    """A drawing, with the positions of what is in it.

    svg: the text; middles: the y of each layer's middle; points: the pieces of each edge, by its
    position in the graph; frames: the top and bottom of each frame of the layout.
    """

    svg: str
    layout: Layout
    middles: list[float]
    points: dict[int, Points]
    frames: list[tuple[float, float]]


def draw(graph: Graph, title: str, css: str | None = None) -> Drawing:
    """Return the drawing of a graph, with the CSS `css`, or that of `style()`."""
    layout = layout_of(graph)
    tops, bottoms = _heights(layout)
    points = _points(graph, layout, tops, bottoms)
    frames = _ends(layout, tops, bottoms)
    left, right = _extent(layout)
    width, height = right - left + 2 * MARGIN, bottoms[-1] + _foot(layout) + MARGIN
    box = f"{left - MARGIN:.1f} 0 {width:.1f} {height:.1f}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="minigrad-graph" viewBox="{box}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img">',
        f"<title>{html.escape(title)}</title>",
        f"<style>{style() if css is None else css}</style>",
        f'<rect class="ground" x="{left - MARGIN:.1f}" width="{width:.1f}" height="{height:.1f}"/>',
        *map(_frame, layout.frames, range(len(frames)), frames),
        *_edges(graph, points),
        *map(_head, layout.frames, range(len(frames)), frames),
        *_nodes(graph, layout, tops, bottoms),
        "</svg>",
    ]
    middles = [(top + bottom) / 2 for top, bottom in zip(tops, bottoms, strict=True)]
    return Drawing("\n".join(parts) + "\n", layout, middles, points, frames)


# --- where layers and frames are ----------------------------------------------------------------


def _heights(layout: Layout) -> tuple[list[float], list[float]]:
    """Return the layers' tops and bottoms, with room for the frames that begin or end there."""
    begin = Counter(frame.first for frame in layout.frames)
    end = Counter(frame.last for frame in layout.frames)
    tops, bottoms, y = [], [], MARGIN
    for i, layer in enumerate(layout.layers):
        y += HEAD * begin[i]
        tops.append(y)
        y += max(place.height for place in layer)
        bottoms.append(y)
        y += BELOW + PAD * end[i]
    return tops, bottoms


def _foot(layout: Layout) -> float:
    last = len(layout.layers) - 1
    return PAD * sum(frame.last == last for frame in layout.frames)


def _ends(
    layout: Layout, tops: Sequence[float], bottoms: Sequence[float]
) -> list[tuple[float, float]]:
    """Return the frames' tops and bottoms, outside those of inner frames at the same layer."""
    above, below = Counter[int](), Counter[int]()
    found = []
    for frame in reversed(layout.frames):  # from the inside out
        above[frame.first] += 1
        below[frame.last] += 1
        top = tops[frame.first] - HEAD * above[frame.first]
        found.append((top, bottoms[frame.last] + PAD * below[frame.last]))
    return found[::-1]


def _extent(layout: Layout) -> tuple[float, float]:
    sides = [(frame.left, frame.right) for frame in layout.frames]
    sides += [(p.x - p.left, p.x + p.right) for layer in layout.layers for p in layer]
    return min(left for left, _ in sides), max(right for _, right in sides)


# --- parts --------------------------------------------------------------------------------------


def _frame(frame: Frame, i: int, ends: tuple[float, float]) -> str:
    return (
        f'<rect class="frame" data-frame="{i}" x="{frame.left:.1f}" y="{ends[0]:.1f}" rx="8" '
        f'width="{frame.right - frame.left:.1f}" height="{ends[1] - ends[0]:.1f}"/>'
    )


def _head(frame: Frame, i: int, ends: tuple[float, float]) -> str:
    x, y, title = frame.left + 8, ends[0] + 15, html.escape(frame.title)
    return f'<text class="title small" data-frame="{i}" x="{x:.1f}" y="{y:.1f}">{title}</text>'


def _edges(graph: Graph, points: Mapping[int, Points]) -> Iterator[str]:
    for i, way in points.items():
        yield _edge(graph, i, curve(way), (way[-1][0], way[-1][2]), down=True)


def _points(
    graph: Graph, layout: Layout, tops: Sequence[float], bottoms: Sequence[float]
) -> dict[int, Points]:
    """Return the points of edges, from the middle of a node to the top of another."""
    into: dict[int, list[int]] = {}
    for i, route in layout.routes.items():
        into.setdefault(route[-1].index, []).append(i)
    found: dict[int, Points] = {}
    for target, edges in into.items():
        edges.sort(key=lambda i: layout.routes[i][-2].x)
        half = width_of(graph.nodes[target]) / 2
        for n, i in enumerate(edges, 1):
            route = layout.routes[i]
            way = [(p.x, tops[p.layer], bottoms[p.layer]) for p in route]
            way[0] = (way[0][0], (way[0][1] + way[0][2]) / 2, way[0][2])
            port = way[-1][0] + half * (2 * n / (len(edges) + 1) - 1)
            way[-1] = (port, way[-1][1], (way[-1][1] + way[-1][2] - HEIGHT) / 2)
            found[i] = way
    return found


def curve(points: Points) -> str:
    """Return an SVG path through the points, straight within layers and bent between them."""
    x, top, bottom = points[0]
    path = f"M{x:.1f} {top:.1f}V{bottom:.1f}"
    for x1, top, end in points[1:]:
        middle = (bottom + top) / 2
        path += f"C{x:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {top:.1f}V{end:.1f}"
        x, bottom = x1, end
    return path


def _edge(graph: Graph, i: int, path: str, tip: tuple[float, float], down: bool) -> str:
    edge, (x, y) = graph.edges[i], tip
    kind = "edge" if edge.differentiated else "edge dashed"
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
