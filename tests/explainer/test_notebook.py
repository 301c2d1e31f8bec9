"""Pages and notebooks show formulas as MathML, heat maps of arrays, and tables."""

import ast
import base64
import itertools
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from case_runs import SMOOTH, run, tensors
from cases import Case
from pages import digits_loss

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.explainer.render.heatmap import summary
from minigrad.explainer.render.mathml import MathML
from minigrad.explainer.render.notebook import ROWS
from minigrad.ops.primitive import Primitive

EVIL = '<script>alert("1")</script>&\'\n`|$'


def flat(e: ET.Element) -> str:
    """Return the MathML in one line."""
    inside = [flat(child) + (child.tail or "") for child in e]
    match e.tag:
        case "msub":
            return f"{inside[0]}_{{{inside[1]}}}"
        case "msup":
            return f"{inside[0]}^{{{inside[1]}}}"
        case "mfrac":
            return f"{{{inside[0]}}}/{{{inside[1]}}}"
        case "msqrt":
            return f"√{{{''.join(inside)}}}"
        case "mover":
            return f"hat{{{inside[0]}}}"
        case "mspace":
            return " "
    return (e.text or "").replace("\xa0", " ").replace("\u2061", "") + "".join(inside)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b - c", "a+b-c"),
        ("a - (b - c)", "a-(b-c)"),
        ("a * (b + c)", "a⊙(b+c)"),
        ("2.0 * a", "2·a"),
        ("a * -2", "a·(-2)"),
        ("g14 * (-0.5 * v14 * v14)", "g_{14}⊙(-0.5·v_{14}⊙v_{14})"),
        ("-a * b", "-a⊙b"),
        ("-(a + b)", "-(a+b)"),
        ("a @ b.T", "a b^{T}"),
        ("a @ (b @ c)", "a (b c)"),
        ("(a + b) / c", "{a+b}/{c}"),
        ("1 / sqrt(v4 + 1e-05)", "{1}/{√{v_{4}+10^{-5}}}"),
        ("2.5e+20 * a", "2.5·10^{20}·a"),
        ("(-a) ** 2", "(-a)^{2}"),
        ("exp(-a)", "e^{-a}"),
        ("sum(g * x_hat3, axis=0, keepdims=True)", "∑_{axis 0}(g⊙hat{x}_{3})"),
        ("sum(a)", "∑a"),
        ("mean(gamma, axis=(0, 2))", "mean_{axes 0,2}(\N{GREEK SMALL LETTER GAMMA})"),
        ("abs(a - 1)", "|a-1|"),
        ("where(a > 0, g, 0) * 2", "(g if a>0, else 0)·2"),
        ("clip(a, 0.0, inf)", "clip(a,0,∞)"),
        ("a[:, 2:4]", "a[:, 2:4]"),
        ("a.real", "a.real"),
        ("a['<b>']", "a['<b>']"),
        ("a & b", "a∧b"),
        ("~a", "¬a"),
        ("g_net_0_weight", "g_{net_0_weight}"),
        ("astype(a, 'float32')", "astype_{float32}(a)"),
        ("reshape(a, (1, -1))", "reshape_{(1,-1)}(a)"),
        ("broadcast_to(a, (3,))", "broadcast_to_{(3,)}(a)"),
        ("log_softmax(a, axis=1, keepdims=True)", "log_softmax_{axis 1}(a)"),
        ("f(a, k=-1e-05)", "f(a,k=-10^{-5})"),
        ("lambda: 0", "lambda: 0"),
    ],
)
def test_expressions_as_mathml(text: str, expected: str) -> None:
    e = ET.fromstring(f"<math>{MathML().expression(ast.parse(text, mode='eval').body)}</math>")
    assert flat(e).replace("\N{MINUS SIGN}", "-") == expected


@pytest.mark.parametrize(("name", "case"), SMOOTH)
def test_every_line_is_mathml(name: str, case: Case) -> None:
    inputs = tensors(case)
    y = run(case, inputs)
    derivation = mg.explain(y, np.ones(y.shape), names={}).derivation
    for step in derivation.steps:
        for line in (*step.forward, *step.backward):
            e = ET.fromstring(MathML().display(MathML().line(line)))
            for part in e.iter():
                arity = {"msub": 2, "msup": 2, "mfrac": 2, "mover": 2}.get(part.tag)
                assert arity is None or len(part) == arity


# --- heat maps ----------------------------------------------------------------------------------


def cells(found: dict[str, Any]) -> np.ndarray:
    levels = np.frombuffer(base64.b64decode(found["heat"]), np.int8)
    return levels.reshape(found["cells"]).astype(float)


@pytest.mark.parametrize(
    ("shape", "limit", "expected"),
    [
        ((), 36, (1, 1)),
        ((5,), 36, (1, 5)),
        ((1000,), 100, (1, 100)),
        ((64, 128), 2048, (32, 64)),
        ((7, 3), 36, (7, 3)),
        ((1000, 1), 100, (100, 1)),
        ((3, 4, 5), 2048, (3, 20)),
        ((100, 101), 36, (4, 8)),
    ],
)
def test_cells_are_means_of_blocks(
    shape: tuple[int, ...], limit: int, expected: tuple[int, int]
) -> None:
    a = np.random.default_rng(0).normal(size=shape)
    found = summary(a, limit)
    assert found["cells"] == expected
    matrix = a.reshape(shape[0] if len(shape) > 1 else 1, -1)
    rows = np.arange(expected[0] + 1) * matrix.shape[0] // expected[0]
    columns = np.arange(expected[1] + 1) * matrix.shape[1] // expected[1]
    means = np.array(
        [
            [matrix[r0:r1, c0:c1].mean() for c0, c1 in itertools.pairwise(columns)]
            for r0, r1 in itertools.pairwise(rows)
        ]
    )
    peak = np.abs(means).max()
    np.testing.assert_allclose(cells(found), means / peak * 127, atol=0.51)
    assert float(found["peak"]) == pytest.approx(peak, rel=1e-3)
    assert found["norm"] == f"{np.linalg.norm(a):.4g}"
    assert ("numbers" in found) is (a.size <= 64)


def test_heat_maps_of_what_is_not_finite_or_not_there() -> None:
    found = summary(np.array([np.nan, -np.inf, 2.0, -1.0], np.float32), 36)
    assert cells(found).tolist() == [[-128, -128, 127, -64]]
    assert (found["min"], found["max"], found["numbers"][1]) == ("nan", "nan", "-inf")
    assert summary(np.zeros((0, 3)), 36) == {"shape": "(0, 3)"}
    assert not cells(summary(np.zeros(3), 36)).any()
    assert cells(summary(np.array([True, False]), 36)).tolist() == [[127, 0]]
    assert cells(summary(np.array([1e-320]), 36)).tolist() == [[127]]


# --- notebooks ----------------------------------------------------------------------------------


def network() -> Any:
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, fused=False), nn.ReLU())
    x, y = mg.tensor(np.ones((5, 4))).float(), mg.tensor(np.arange(5) % 3)
    return mg.explain(F.cross_entropy(net(x), y), names={"net": net, "x": x, "y": y})


def parts(explained: Any) -> dict[str, ET.Element]:
    """Return the parts of the HTML, which must be well-formed, by their titles."""
    root = ET.fromstring(explained._repr_html_())
    return {e.findtext("summary", ""): e for e in root.iter("details")}


def rows(part: ET.Element) -> list[str]:
    return [" | ".join(map(flat, row)) for row in part.iter("tr")]


def test_a_notebook_shows_every_line_and_the_graph() -> None:
    explained = network()
    found = parts(explained)
    assert list(found) == ["Inputs", "Forward", "Backward", "Gradients", "Graph"]
    steps = explained.derivation.steps
    assert len(rows(found["Forward"])) == 1 + sum(len(step.forward) for step in steps)
    assert len(rows(found["Backward"])) == 2 + sum(len(step.backward) for step in steps)
    assert "v_{3}=v_{1}\N{MINUS SIGN}v_{2} | (5, 3) | net.1" in rows(found["Forward"])
    assert "g_{5}+=∑_{axis 0}(g_{6}⊙v_{3}) | (1, 3) | mul, w.r.t. b" in rows(found["Backward"])
    assert any(
        row.startswith("g_{net_0_weight} | (3, 4) | 4 | ") for row in rows(found["Gradients"])
    )
    assert "net.1 BatchNorm1d" in "".join(found["Graph"].itertext())


def test_a_notebook_shows_folded_modules_in_one_row() -> None:
    found = parts(network().fold("net.1"))
    assert "v_{8}←(v_{1},net_1_weight,net_1_bias) | (5, 3) | net.1 (BatchNorm1d)" in rows(
        found["Forward"]
    )
    assert "(g_{1},g_{net_1_weight},g_{net_1_bias})←g_{8} |  | net.1 (BatchNorm1d)" in rows(
        found["Backward"]
    )


def test_names_in_a_notebook_are_escaped() -> None:
    x, net = mg.tensor([1.0, 2.0], requires_grad=True), nn.Sequential(nn.ReLU())
    explained = mg.explain(net(x).sum(), names={EVIL: x, f"{EVIL}net": net})
    assert "<script" not in explained._repr_html_()
    assert 'input <script>alert("1")</script>&\' `|$' in rows(parts(explained)["Inputs"])[1]
    assert "<script>" in rows(parts(explained.fold())["Forward"])[1]


def test_a_long_tape_is_cut() -> None:
    x = mg.tensor([1.0], requires_grad=True)
    y = x
    for _ in range(ROWS + 100):
        y = y * x
    found = parts(mg.explain(y, names={}))
    _, *lines, more = rows(found["Forward"])
    assert len(lines) == ROWS
    assert more.startswith("… and 100 more: print it, fold its modules")
    assert found["Graph"].find(".//svg") is None
    assert f"{ROWS + 101} nodes" in "".join(found["Graph"].itertext())


def test_notebooks_show_what_each_path_contributes() -> None:
    """They show what the text shows; folded modules by name, and at most the eight largest."""
    loss, net = digits_loss()
    explained = mg.explain(loss, names={"net": net})
    for shown in (explained, explained.fold("BatchNorm1d")):
        lines = str(shown).partition("gradients:")[2].splitlines()
        ways = [line.split() for line in lines if line.startswith(("    through", "    directly"))]
        assert len(ways) >= 4
        markdown = [row.replace("|", " ").split() for row in shown._repr_markdown_().splitlines()]
        html = shown._repr_html_()
        for *words, size in ways:
            assert [*words, size] in markdown
            assert f"<tr><td>{' '.join(words)}</td><td></td><td></td><td>{size}</td></tr>" in html
    y = x = mg.tensor([1.0], requires_grad=True)
    for _ in range(4):
        y = y * y
    assert (
        "<code>.paths(&#x27;x&#x27;)</code></td><td></td><td>8 more"
        in mg.explain(y, np.ones(y.shape), names={"x": x})._repr_html_()
    )


def test_markdown_outside_of_formulas_is_plain() -> None:
    """Names of primitives and classes become neither HTML nor emphasis."""
    twice = Primitive("<b>_a_*", lambda a: 2 * a, (lambda g, _y, _a: 2 * g,), "")

    class Evil(nn.Module):
        def forward(self, x: mg.Tensor) -> mg.Tensor:
            return twice(x)  # type: ignore[no-any-return]

    Evil.__name__ = "*<i>*"
    evil = Evil()
    explained = mg.explain(evil(mg.tensor([1.0], requires_grad=True)))
    assert r"\<b\>\_a\_\*, w.r.t. a |" in explained._repr_markdown_()
    assert r"`evil` (\*\<i\>\*)" in explained.fold()._repr_markdown_()
