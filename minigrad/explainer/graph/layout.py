"""A layered drawing of a graph: Sugiyama's, for a tape, whose modules are bands of layers.

Each node gets a layer below those that it takes from, and a place in it that keeps edges short and
straight; edges that pass layers get a place in each. Layers belong to one module's call (or to what
is between calls), so that the frames of modules never overlap. What only one node takes is docked
to the left of that. Positions are in pixels.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..derive.scopes import Scope
from .graph import Graph, Node, short

LETTER, SMALL_LETTER = 7.3, 6.1  # widest of the usual monospaced fonts, at 12 and 10 pixels
HEIGHT, DOCK_HEIGHT = 42.0, 38.0
DOCK_GAP, BESIDE, BELOW = 26.0, 26.0, 26.0  # docked to its taker, between neighbours, layers
HEAD, PAD = 24.0, 10.0  # of the frame of a module: above with its title, and around
LONG = 40  # an edge that passes more layers goes straight, behind what is in its way
SWEEPS = 8


@dataclass(eq=False)
class Place:
    """A node with what is docked to it, or an edge that passes a layer (index -1).

    x: of the middle of the node; left, right: how far it reaches from there.
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
    """Around the places of a call of a module, which has the layers from first to last.

    depth: 0 for the outermost; inner: the frames of calls inside it.
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
        """The module's name and class."""
        label, kind = self.scope.label, self.scope.kind
        return short(label if label == kind else f"{label} {kind}")


class Layout(NamedTuple):
    """places: of the nodes that are not docked, by their index; routes: of the edges between them,
    by position in the graph: the places on the way; frames: from the outside in."""

    places: dict[int, Place]
    routes: dict[int, list[Place]]
    layers: list[list[Place]]
    frames: list[Frame]


def width_of(node: Node) -> float:
    """Room for its two lines."""
    return 20 + max(_letters(node.title) * LETTER, _letters(node.subtitle) * SMALL_LETTER)


def _letters(text: str) -> int:
    """Letters beyond Latin, Greek and Cyrillic may be twice as wide."""
    return sum(1 if c < "\u0600" or c == "…" else 2 for c in text)


def layout_of(graph: Graph) -> Layout:
    """Where everything is."""
    takers = _takers(graph)
    docked: dict[int, list[int]] = {}
    for i, taken in takers.items():
        if len(set(taken)) == 1 and not graph.nodes[i].steps:
            docked.setdefault(taken[0], []).append(i)
    away = {d for found in docked.values() for d in found}
    places = {
        i: _place(graph, i, docked.get(i, [])) for i in range(len(graph.nodes)) if i not in away
    }
    frames = _layered(graph, places, takers)
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


def _takers(graph: Graph) -> dict[int, list[int]]:
    takers: dict[int, list[int]] = {}
    for edge in graph.edges:
        takers.setdefault(edge.source, []).append(edge.target)
    return takers


def _place(graph: Graph, i: int, docked: list[int]) -> Place:
    half = width_of(graph.nodes[i]) / 2
    left, height = half, HEIGHT
    if docked:
        left += DOCK_GAP + max(width_of(graph.nodes[d]) for d in docked)
        height = max(height, DOCK_HEIGHT * len(docked) + 6 * (len(docked) - 1))
    return Place(i, 0, left, half, height, docked)


def _layered(graph: Graph, places: dict[int, Place], takers: dict[int, list[int]]) -> list[Frame]:
    """Layers of all places, and the frames around them: a module's begin below all before it."""
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
    for i, taken in takers.items():  # what was given belongs just above the first that takes it
        node = graph.nodes[i]
        if i in places and not node.steps and _in_band(graph, node, taken):
            place = places[i]
            place.layer = max(place.layer, min(places[t].layer for t in taken) - 1)
    return _framed(bands)


def _in_band(graph: Graph, node: Node, taken: Sequence[int]) -> bool:
    return all(graph.nodes[t].scopes == node.scopes for t in taken)


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
    """The left and right of a frame, around its places and the frames inside, which know theirs."""
    sides = [(p.x - p.left, p.x + p.right) for p in frame.members]
    sides += [(inner.left, inner.right) for inner in frame.inner]
    # Edges come in from above, right of the title.
    ports = [p.x - p.right / 2 for p in frame.members if p.layer == frame.first]
    title = min(ports) - len(frame.title) * SMALL_LETTER - 2 * PAD
    frame.left = min(title, min(left for left, _ in sides) - PAD)
    frame.right = max(right for _, right in sides) + PAD


def _route(source: Place, target: Place, layers: list[list[Place]]) -> list[Place]:
    """From place to place, with one in each layer between."""
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
    """Each layer in the order of the middles of neighbours above, then below, then above."""
    position: dict[int, float] = {}

    def sort(layer: list[Place], up: bool) -> None:
        for i, place in enumerate(layer):
            near = [position[id(p)] for p in (place.above if up else place.below)]
            position[id(place)] = sum(near) / len(near) if near else float(i)
        layer.sort(key=lambda place: position[id(place)])
        for i, place in enumerate(layer):
            position[id(place)] = float(i)

    for sweep in range(3):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            sort(layer, up=sweep % 2 == 0)


def _align(layers: list[list[Place]]) -> None:
    """Near to the neighbours, in order, without overlapping."""
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
    """The positions nearest to those wanted, by least squares, that keep order and distance:
    isotonic regression, by pooling neighbours that would be too near. An edge's weighs more."""
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
