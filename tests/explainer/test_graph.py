"""Graphs of explanations, as Graphviz text and SVG, are complete and escaped; nothing overlaps."""

import cProfile
import os
import re
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.errors import DtypeError, FileError

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<script>alert("1")</script> & \'x\'\n\\N \\"]; \x00\u202e'


class Block(nn.Module):
    """A Block is a skip over a module that holds another."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, fused=False), nn.ReLU())

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        return x + self.inner(x) * self.inner(x)


def of_network() -> Any:
    net = nn.Sequential(Block(), nn.Linear(4, 3))
    x, y = mg.tensor(np.ones((5, 4))).float(), mg.tensor(np.arange(5) % 3)
    return mg.explain(F.cross_entropy(net(x), y), names={"net": net, "x": x, "y": y})


def of_shared() -> Any:
    w, x = (mg.tensor(np.eye(2) + i, requires_grad=True) for i in range(2))
    h, sums = x, []
    for _ in range(3):
        h = (h @ w).tanh()
        sums.append(h.sum())
    return mg.explain(sums[0] * sums[1] + sums[2] * sums[0] + (x * x).mean())


def of_random(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    made = [mg.tensor(rng.normal(size=2), requires_grad=True) for _ in range(4)]
    for _ in range(30):
        i, j = rng.integers(len(made), size=2)
        made.append(made[i] * made[j] if rng.random() < 0.5 else (made[i] + made[j]).tanh())
    return mg.explain(sum(made[-6:], start=made[-1]).sum(), names={})


def of_evil() -> Any:
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    return mg.explain((x * x).sum(), names={EVIL: x})


def of_two_outputs() -> Any:
    """Return a loss with a primitive of several outputs, an index, a given gradient and a chain."""
    x = mg.tensor(np.ones((6, 3)), requires_grad=True)
    y = F.batch_norm(x, None, None, training=True)[1:3]
    for _ in range(60):
        y = y + x[0]
    return mg.explain(y, np.ones((2, 3)), names={})


EXPLAINED = {
    "network": of_network,
    "folded": lambda: of_network().fold("Linear", "BatchNorm1d"),
    "folded all": lambda: of_network().fold("net"),
    "shared": of_shared,
    "evil": of_evil,
    "outputs": of_two_outputs,
    **{f"random {seed}": (lambda seed=seed: of_random(seed)) for seed in range(3)},
}


@pytest.fixture(params=EXPLAINED)
def explained(request: pytest.FixtureRequest) -> Any:
    return EXPLAINED[request.param]()


def box(rect: ET.Element) -> tuple[float, float, float, float]:
    """Return the left, top, right and bottom of a box."""
    x, y, width, height = (float(rect.get(k, "")) for k in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def apart(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]


def within(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]


def nodes_of(root: ET.Element) -> list[ET.Element]:
    return [g for g in root.iter(f"{SVG}g") if g.get("data-node")]


def rect_of(node: ET.Element) -> tuple[float, float, float, float]:
    rect = node.find(f"{SVG}rect")
    assert rect is not None
    return box(rect)


def hints(root: ET.Element) -> str:
    return "\n".join(node.findtext(f"{SVG}title", "") for node in nodes_of(root))


def test_nothing_overlaps_in_the_drawing(explained: Any) -> None:
    root = ET.fromstring(explained.to_svg())
    whole = [float(n) for n in root.get("viewBox", "").split()]
    canvas = (whole[0], whole[1], whole[0] + whole[2], whole[1] + whole[3])
    boxes = [rect_of(node) for node in nodes_of(root)]
    assert all(within(b, canvas) for b in boxes)
    assert all(apart(a, b) for a, b in combinations(boxes, 2))
    frames = [box(rect) for rect in root.iter(f"{SVG}rect") if rect.get("data-frame")]
    for a in frames:
        assert within(a, canvas)
        assert all(apart(a, b) or within(a, b) or within(b, a) for b in frames)
        assert all(apart(a, b) or within(b, a) for b in boxes)


def test_text_has_room_in_its_box(explained: Any) -> None:
    """The widest letter of the usual monospaced fonts takes 0.605 em."""
    for node in nodes_of(ET.fromstring(explained.to_svg())):
        left, _, right, _ = rect_of(node)
        title, subtitle = (text.text or "" for text in node.iter(f"{SVG}text"))
        assert right - left > max(12 * 0.605 * len(title), 10 * 0.605 * len(subtitle)) + 8


def test_heads_of_frames_are_clear_of_boxes_and_edges() -> None:
    root = ET.fromstring(of_network().to_svg())
    boxes = [rect_of(node) for node in nodes_of(root)]
    heads = [t for t in root.iter(f"{SVG}text") if t.get("data-frame")]
    paths = (p.get("d", "") for p in root.iter(f"{SVG}path") if p.get("class") == "tip")
    tips = [tuple(map(float, re.findall(r"[-\d.]+", d)[:2])) for d in paths]
    assert {"net Sequential", "net.0 Block", "net.0.inner.1 BatchNorm1d"} <= {t.text for t in heads}
    for head in heads:
        x, y = float(head.get("x", "")), float(head.get("y", ""))
        text = (x, y - 9, x + 6.1 * len(head.text or ""), y + 3)
        assert all(apart(text, b) for b in boxes)
        assert not [tip for tip in tips if text[0] <= tip[0] <= text[2] and 0 <= tip[1] - y <= 30]


def test_every_variable_is_drawn_and_edges_are_the_tape_s(explained: Any) -> None:
    root = ET.fromstring(explained.to_svg())
    derivation, drawn = explained.derivation, hints(root)
    folded = set(re.findall(r"v\d+ = \S+\(\.\.\.\)", "".join(root.itertext())))
    for v in derivation.variables:
        if v.kind != "result" or not folded:
            assert re.search(rf"\b{re.escape(v.name)}\b", drawn), v.name
    edges = [g for g in root.iter(f"{SVG}g") if g.get("data-edge")]
    assert len(edges) == explained.to_dot().count(" -> ")
    if not folded:
        taken = sum(len({v.name for v in s.inputs if v is not None}) for s in derivation.steps)
        assert len(edges) >= taken


def test_a_shared_input_is_one_node_and_a_parameter_stands_beside_its_record() -> None:
    root = ET.fromstring(of_shared().to_svg())
    inputs = [node for node in nodes_of(root) if node.get("class") == "input"]
    assert [node.findtext(f"{SVG}text") for node in inputs] == ["x", "w"]
    root = ET.fromstring(EXPLAINED["network"]().to_svg())
    rects = {n.findtext(f"{SVG}text", ""): rect_of(n) for n in nodes_of(root)}
    last = next(r for title, r in rects.items() if "@ net_1_weight.T" in title)
    for name in ("net.1.weight", "net.1.bias"):
        assert rects[name][2] < last[0]


def test_names_are_escaped() -> None:
    explained = of_evil()
    svg = explained.to_svg()
    assert "<script" not in svg
    shown = '<script>alert("1")</script> & \'x\' \\N \\"];'
    assert shown[:40] in hints(ET.fromstring(svg)).replace("\n", " ")
    dot = explained.to_dot()
    assert '&lt;script&gt;alert(\\"1\\")' in dot
    assert len(parsed(dot)[0]) == 3


def parsed(dot: str) -> tuple[dict[str, str], list[tuple[str, str]], list[str]]:
    """Return nodes with labels, edges, and labels of clusters of Graphviz text, read strictly."""
    string = r'"((?:[^"\\\n]|\\.)*)"'
    nodes, edges, clusters, depth = {}, [], [], 0
    for line in map(str.strip, dot.splitlines()):
        if match := re.fullmatch(rf"(n\d+) \[label={string}, tooltip={string}, [^<>&]*\];", line):
            nodes[match[1]] = match[2]
        elif match := re.fullmatch(r"(n\d+) -> (n\d+)(?: \[style=dashed\])?;", line):
            edges.append((match[1], match[2]))
        elif match := re.fullmatch(rf"label={string};", line):
            clusters.append(match[1])
        elif re.fullmatch(rf"(digraph explanation|subgraph {string}) {{", line):
            depth += 1
        elif line == "}":
            depth -= 1
        else:
            assert re.fullmatch(r"(node|edge) \[[^<>&]*\];", line), line
    assert depth == 0
    return nodes, edges, clusters


def test_graphviz_text_has_nodes_edges_and_modules() -> None:
    nodes, edges, clusters = parsed(of_network().to_dot())
    assert {"net Sequential", "net.0.inner.0 Linear"} <= set(clusters)
    labels = "\n".join(nodes.values())
    assert "net.1.weight\\n(3, 4) parameter" in labels
    assert {node for edge in edges for node in edge} == set(nodes)
    folded, _, clusters = parsed(of_network().fold("net").to_dot())
    assert clusters == []
    assert any("net(...)\\n(5, 3) Sequential, 2" in label for label in folded.values())


def test_dashed_edges_carry_no_cotangent() -> None:
    x, c = mg.tensor([1.0], requires_grad=True), mg.tensor([2.0])
    lines = mg.explain((x * c).sum(), names={}).to_dot().splitlines()
    assert [line.strip() for line in lines if "->" in line] == [
        "n0 -> n2;",
        "n1 -> n2 [style=dashed];",
        "n2 -> n3;",
    ]


# --- files --------------------------------------------------------------------------------------


def test_the_file_holds_what_is_returned(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    explained = of_shared()
    assert explained.to_svg(path) == path.read_text(encoding="utf-8")
    link = tmp_path / "link.svg"
    link.symlink_to(path)
    path.chmod(0o640)
    assert of_network().to_svg(str(link)) == path.read_text(encoding="utf-8")
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["a.svg", "link.svg"]


def test_what_cannot_be_written_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained, old = of_shared(), tmp_path / "old.svg"
    old.write_text("old")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    folders = [f"{tmp_path}/none/", f"{old}/", f"{old}/.", tmp_path / "..", "", f"{tmp_path}/new/."]
    for path in (tmp_path, tmp_path / "none" / "a.svg", old / "a.svg", "a\0b", "\ud800.svg",
                 tmp_path / "one", *folders):  # fmt: skip
        with pytest.raises(FileError, match=r"to_svg: .* cannot be written .*; give the path"):
            explained.to_svg(path)
    with pytest.raises(DtypeError, match="expected a path, got int"):
        explained.to_svg(1)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FileError, match="No space left"):
        explained.to_svg(old)
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explained.to_svg(old)
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(FileError, match="read-only"):
        explained.to_svg(old)
    assert old.read_text() == "old"
    assert (tmp_path / "one").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["old.svg", "one", "two"]


def calls(function: Any) -> int:
    """Return the number of Python function calls inside, which no busy machine changes."""
    profile = cProfile.Profile()
    profile.runcall(function)
    return sum(entry.callcount for entry in profile.getstats())


def test_work_grows_with_the_tape_and_no_faster() -> None:
    """Four times the records take four times the calls to explain, print and draw."""

    def work(n: int) -> list[int]:
        x, net = mg.tensor([0.5], requires_grad=True), nn.Sequential(*[nn.ReLU()] * n)
        y = x
        for _ in range(n):
            y = y * mg.tensor([0.999]) + 0.1
        loss = (net(y) * x).sum()
        explained = mg.explain(loss, names={"x": x, "net": net})
        shown = [lambda: mg.explain(loss, names={"x": x, "net": net})]
        shown += [explained.__str__, explained.to_svg, explained.to_dot, explained.fold().__str__]
        return [calls(show) for show in shown]

    for small, large in zip(work(50), work(200), strict=True):
        assert large < 4.4 * small
