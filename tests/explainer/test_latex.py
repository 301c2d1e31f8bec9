"""Explanations are written as LaTeX and Markdown."""

# ruff: noqa: RUF059  explanations find the names of variables that nothing else uses

import ast
import re

import numpy as np
import pytest
from case_runs import SMOOTH, run, tensors
from cases import Case
from explained import network

import minigrad as mg
from minigrad.explainer.render.latex import Latex


def maths(text: str) -> str:
    """Return the LaTeX of an expression in Python's syntax."""
    return Latex().expression(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a - (b - c)", r"a - \left(b - c\right)"),
        ("a - b + c", "a - b + c"),
        ("(a + b) * c", r"\left(a + b\right) \odot c"),
        ("-0.5 * v5 * v5", r"-0.5 \cdot v_{5} \odot v_{5}"),
        ("-(a * b) / c", r"\frac{-a \odot b}{c}"),
        ("(a + b) ** 2", r"{\left(a + b\right)}^{2}"),
        ("1 / sqrt(var2 + 1e-05)", r"\frac{1}{\sqrt{\mathrm{var}_{2} + {10}^{-5}}}"),
        (
            "sum(g6 * v3, axis=0, keepdims=True)",
            r"\sum_{\mathrm{axis\ } 0} \left(g_{6} \odot v_{3}\right)",
        ),
        (
            "mean(x_hat2, axis=(0, 2))",
            r"\operatorname{mean}_{\mathrm{axes\ } 0, 2} \left(\hat{x}_{2}\right)",
        ),
        ("g1.T @ x", r"{g_{1}}^{T} \, x"),
        ("where(a > 0, b, 0)", r"\begin{cases} b & a > 0 \\ 0 & \text{else} \end{cases}"),
        ("abs(a)", r"\left\lvert a \right\rvert"),
        ("exp(a) + gamma", r"{e}^{a} + \gamma"),
        ("v1[:, 0:3]", r"v_{1} \mathrm{[:,\ 0:3]}"),
        ("f(a, k=3)", r"\operatorname{f} \left(a, k = 3\right)"),
        ("(a == b) | isnan(a)", r"\left(a = b\right) \lor \operatorname{isnan} \left(a\right)"),
        ("where(m, a, -inf)", r"\begin{cases} a & m \\ -\infty & \text{else} \end{cases}"),
        ("2e-07 * a", r"2 \cdot {10}^{-7} \cdot a"),
        ("reshape(a, (1, -1))", r"\operatorname{reshape}_{\left(1, -1\right)} \left(a\right)"),
        ("broadcast_to(a, (3,))", r"\operatorname{broadcast\_to}_{\left(3,\right)} \left(a\right)"),
        ("astype(a, 'float32')", r"\operatorname{astype}_{\mathrm{float32}} \left(a\right)"),
        ("softmax(a, axis=1)", r"\operatorname{softmax}_{\mathrm{axis\ } 1} \left(a\right)"),
    ],
)
def test_expressions_as_mathematics(text: str, expected: str) -> None:
    """There are fractions, roots and sums, and parentheses only where the order needs them."""
    assert maths(text) == expected


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("v7", "v_{7}"),
        ("x", "x"),
        ("g_x", "g_{x}"),
        ("g_model_0_weight", r"g_{\mathrm{model\_0\_weight}}"),
        ("g_hat2", r"\hat{g}_{2}"),
        ("t5_2", "t_{5,2}"),
        ("gamma", r"\gamma"),
        ("_", r"\mathrm{\_}"),
        ("g__", r"g_{\mathrm{\_}}"),
    ],
)
def test_names_as_mathematics(identifier: str, expected: str) -> None:
    """Numbers become subscripts, and underscores are escaped."""
    assert Latex().name(identifier) == expected


@pytest.mark.parametrize(("primitive", "case"), SMOOTH)
def test_braces_and_delimiters_match(primitive: str, case: Case) -> None:
    """This holds for every line of every primitive's derivation."""
    y = run(case, tensors(case))
    text = mg.explain(y, np.ones(y.shape), names={})._repr_markdown_()
    for line in re.findall(r"\$(.*?)\$", text):
        assert re.sub(r"\\[{}]", "", line).count("{") == re.sub(r"\\[{}]", "", line).count("}")
        assert not re.search(r"_\{[^{}]*\}_", line), "no TeX takes two indices"
        assert line.count(r"\left") - line.count(r"\leftarrow") == line.count(r"\right")


def test_markdown_has_every_line_and_folds() -> None:
    """It has as many rows as the text has lines, all of them whole."""
    model, x, loss = network(fused=False)
    explanation = mg.explain(loss)
    text = explanation._repr_markdown_()
    sums = r"\sum_{\mathrm{axis\ } 0} \left(g_{6} \odot v_{3}\right)"
    assert rf"| $g_{{5}} \mathrel{{+}}= {sums}$ | (1, 5) |" in text
    lines = sum(len(s.forward) + len(s.backward) for s in explanation.derivation.steps)
    rows = [line for line in text.splitlines() if line.startswith("| $")]
    given, gradients = len(explanation.given), len(explanation.gradients)
    assert len(rows) == lines + 1 + given + gradients
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert all(len({row.count(" | ") for row in table}) == 1 for table in tables)
    folded = explanation.fold("model.1")._repr_markdown_()
    assert r"$v_{8} \leftarrow \left(v_{1}, " in folded and "`model.1` (BatchNorm1d)" in folded
    assert "v_{3}" not in folded


def test_names_cannot_break_out_of_markdown() -> None:
    """A user's name may have backquotes, bars and line ends."""
    x = mg.tensor([1.0], requires_grad=True)
    text = mg.explain((x * 2.0).sum(), names={"a`|\nb": x})._repr_markdown_()
    assert r"input `a'\| b`" in text


def test_a_comparison_is_not_taken_for_a_second_definition() -> None:
    """The elements that attain a maximum are written tie = (v = max), not tie = v = max."""
    x = mg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    explanation = mg.explain((x * x).max(), names={"x": x})
    assert r"\mathrm{tie}_{2} = \left(v_{1} = " in explanation._repr_markdown_()
