"""A layered drawing of a graph, by Sugiyama's method, in which module calls are bands of layers.

Each node gets a layer below the nodes that it uses, and a place there that keeps edges short and
straight; an edge gets a place in each layer that it crosses. A layer belongs to one call, or lies
between calls, so that the frames of calls never overlap. An input that only one node uses is docked
to the left of that node. Positions are in pixels.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..derive.scopes import Scope
from .graph import Graph, Node, short

LETTER, SMALL_LETTER = 7.3, 6.1  # the widest usual monospaced font, at 12 and 10 pixels
HEIGHT, DOCK_HEIGHT = 42.0, 38.0
DOCK_GAP, BESIDE, BELOW = 26.0, 26.0, 26.0  # gaps at a docked node, a neighbour, a layer
HEAD, PAD = 24.0, 10.0  # a frame's room for its title, and around its nodes
LONG = 40  # an edge that crosses more layers is straight, and runs behind the nodes in its way
SWEEPS = 8


@dataclass(eq=False)
class Place:
    """The place of a node with its docked inputs or, with index -1, of an edge in a layer.

    x: the middle of the node; left, right: how far the place reaches from there.
    """

    index: int
    layer: int
    left: float
    right: float
    height: float
    docked: list[int] = field(default_factory=list)
    above: list["Place"] = field(default_factory=list)
    below: list["Place"] = field(default_factory=list)
    x: float = 0.0


@dataclass(eq=False)
class Frame:
    """The frame around the places of a module's call, in the layers from first to last.

    depth: 0 for the outermost; inner: the frames of calls inside this one.
    """

    scope: Scope
    depth: int
    first: int
    last: int
    members: list[Place] = field(default_factory=list)
    inner: list["Frame"] = field(default_factory=list)
    left: float = 0.0
    right: float = 0.0

    @property
    def title(self) -> str:
        """Return the module's name and class."""
        label, kind = self.scope.label, self.scope.kind
        return short(label if label == kind else f"{label} {kind}")


class Layout(NamedTuple):
    """The positions of nodes, edges and frames.

    places: those of the nodes that are not docked, by their index; routes: the places along each
    edge between these, by its position in the graph; layers: their places, from left to right;
    frames: outermost first.
    """

    places: dict[int, Place]
    routes: dict[int, list[Place]]
    layers: list[list[Place]]
    frames: list[Frame]


def width_of(node: Node) -> float:
    """Return the width of a node, with room for its two lines."""
    return 20 + max(_letters(node.title) * LETTER, _letters(node.subtitle) * SMALL_LETTER)


def _letters(text: str) -> int:
    """Return a text's width in letters; those beyond Latin, Greek and Cyrillic count twice."""
    return sum(1 if c < "\u0600" or c == "…" else 2 for c in text)


def layout_of(graph: Graph) -> Layout:
    """Return a layout of the graph."""
    users = _users(graph)
    docked: dict[int, list[int]] = {}
    for i, targets in users.items():
        if len(set(targets)) == 1 and not graph.nodes[i].steps:
            docked.setdefault(targets[0], []).append(i)
    away = {d for found in docked.values() for d in found}
    places = {
        i: _place(graph, i, docked.get(i, [])) for i in range(len(graph.nodes)) if i not in away
    }
    frames = _layered(graph, places, users)
    layers: list[list[Place]] = [[] for _ in range(1 + max(p.layer for p in places.values()))]
    for place in places.values():
        layers[place.layer].append(place)
    routes = {
        i: _route(places[edge.source], places[edge.target], layers)
        for i, edge in enumerate(graph.edges)
        if edge.source in places
    }
    _order(layers)
    _align(layers)
    for frame in reversed(frames):
        _widen(frame)
    return Layout(places, routes, layers, frames)


def _users(graph: Graph) -> dict[int, list[int]]:
    """Return the targets of each node's edges."""
    users: dict[int, list[int]] = {}
    for edge in graph.edges:
        users.setdefault(edge.source, []).append(edge.target)
    return users


def _place(graph: Graph, i: int, docked: list[int]) -> Place:
    half = width_of(graph.nodes[i]) / 2
    left, height = half, HEIGHT
    if docked:
        left += DOCK_GAP + max(width_of(graph.nodes[d]) for d in docked)
        height = max(height, DOCK_HEIGHT * len(docked) + 6 * (len(docked) - 1))
    return Place(i, 0, left, half, height, docked)


def _layered(graph: Graph, places: dict[int, Place], users: dict[int, list[int]]) -> list[Frame]:
    """Set the layers of all places, with each call below all before it, and return the frames."""
    sources: dict[int, list[int]] = {}
    for edge in graph.edges:
        sources.setdefault(edge.target, []).append(edge.source)
    base, lowest = 0, -1
    scopes: tuple[Scope, ...] | None = None
    bands: list[tuple[tuple[Scope, ...], list[Place]]] = []
    for i, place in places.items():
        if graph.nodes[i].scopes != scopes:
            base, scopes = lowest + 1, graph.nodes[i].scopes
            bands.append((scopes, []))
        above = [places[s].layer + 1 for s in sources.get(i, []) if s in places]
        place.layer = max([base, *above])
        lowest = max(lowest, place.layer)
        bands[-1][1].append(place)
    for i, targets in users.items():  # an input belongs just above the first that uses it
        node = graph.nodes[i]
        if i in places and not node.steps and _in_band(graph, node, targets):
            place = places[i]
            place.layer = max(place.layer, min(places[t].layer for t in targets) - 1)
    return _framed(bands)


def _in_band(graph: Graph, node: Node, targets: Sequence[int]) -> bool:
    """Return whether all users of a node lie in the same calls as the node."""
    return all(graph.nodes[t].scopes == node.scopes for t in targets)


def _framed(bands: Sequence[tuple[tuple[Scope, ...], list[Place]]]) -> list[Frame]:
    frames: list[Frame] = []
    opened: list[Frame] = []
    for scopes, members in bands:
        first, last = min(p.layer for p in members), max(p.layer for p in members)
        while [f.scope for f in opened] != list(scopes[: len(opened)]):
            opened.pop()
        for depth in range(len(opened), len(scopes)):
            frame = Frame(scopes[depth], depth, first, last)
            if opened:
                opened[-1].inner.append(frame)
            opened.append(frame)
            frames.append(frame)
        for frame in opened:
            frame.last = max(frame.last, last)
            frame.members.extend(members)
    return frames


def _widen(frame: Frame) -> None:
    """Set the left and right of a frame, after those of its inner frames."""
    sides = [(p.x - p.left, p.x + p.right) for p in frame.members]
    sides += [(inner.left, inner.right) for inner in frame.inner]
    # Edges enter from above, to the right of the title.
    ports = [p.x - p.right / 2 for p in frame.members if p.layer == frame.first]
    title = min(ports) - len(frame.title) * SMALL_LETTER - 2 * PAD
    frame.left = min(title, min(left for left, _ in sides) - PAD)
    frame.right = max(right for _, right in sides) + PAD


def _route(source: Place, target: Place, layers: list[list[Place]]) -> list[Place]:
    """Return the way between two places, with a place in each layer that it crosses."""
    route = [source]
    if target.layer - source.layer <= LONG:
        for layer in range(source.layer + 1, target.layer):
            route.append(Place(-1, layer, 0.0, 0.0, 0.0))
            layers[layer].append(route[-1])
    route.append(target)
    for a, b in itertools.pairwise(route):
        a.below.append(b)
        b.above.append(a)
    return route


def _order(layers: list[list[Place]]) -> None:
    """Sort each layer by the mean position of the neighbours above, then below, then above."""
    position: dict[Place, float] = {}

    def sort(layer: list[Place], up: bool) -> None:
        for i, place in enumerate(layer):
            near = [position[p] for p in (place.above if up else place.below)]
            position[place] = sum(near) / len(near) if near else float(i)
        layer.sort(key=lambda place: position[place])
        for i, place in enumerate(layer):
            position[place] = float(i)

    for sweep in range(3):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            sort(layer, up=sweep % 2 == 0)


def _align(layers: list[list[Place]]) -> None:
    """Move all places near to their neighbours, in order and without overlaps."""
    for layer in layers:
        _spread(layer, [0.0] * len(layer))
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            wanted = []
            for place in layer:
                near = (place.above if down else place.below) or place.below or place.above
                wanted.append(sum(p.x for p in near) / len(near) if near else place.x)
            _spread(layer, wanted)


def _spread(layer: list[Place], wanted: list[float]) -> None:
    """Set the positions nearest to `wanted` that keep the order and the least distances.

    This is isotonic regression, which pools neighbours that would be too near; edges weigh more.
    """
    blocks: list[tuple[float, float, int]] = []  # weighted sum, weight, count
    offset, offsets = 0.0, []
    for i, (place, x) in enumerate(zip(layer, wanted, strict=True)):
        offset += 0.0 if i == 0 else layer[i - 1].right + BESIDE + place.left
        offsets.append(offset)
        weight = 4.0 if place.index < 0 else 1.0
        block = ((x - offset) * weight, weight, 1)
        while blocks and blocks[-1][0] / blocks[-1][1] > block[0] / block[1]:
            before = blocks.pop()
            block = (before[0] + block[0], before[1] + block[1], before[2] + block[2])
        blocks.append(block)
    i = 0
    for total, weight, count in blocks:
        for _ in range(count):
            layer[i].x = total / weight + offsets[i]
            i += 1
