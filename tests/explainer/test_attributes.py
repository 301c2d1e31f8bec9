"""Explanations show attributes, above all indices: the rule of x[...] adds where that reads."""

import re
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.explainer import evaluate
from minigrad.ops.primitive import Primitive

ROWS = np.array([0, 0, 1])
MASK = np.arange(6).reshape(2, 3) % 2 == 0


@pytest.mark.parametrize(
    ("index", "shown"),
    [
        (np.s_[:, :, 0:4, 2:6], "[:, :, 0:4, 2:6]"),
        (np.s_[0, ..., None, -4:, ::-1], "[0, ..., None, -4:, ::-1]"),
        (np.s_[ROWS, 1:3], "[rows, 1:3]"),
        (np.s_[MASK], "[mask]"),
        (np.s_[1], "[1]"),
        (np.s_[()], "[()]"),
    ],
)
@pytest.mark.parametrize("name", ["x", "a_name_that_fills_a_line_up"])
def test_a_rule_adds_where_the_forward_reads(index: Any, shown: str, name: str) -> None:
    """No part of an index gets a name, however long the line is."""
    x = mg.tensor(np.random.default_rng(0).normal(size=(2, 3, 6, 6)), requires_grad=True)
    y = x[index]
    loss = (y * y).sum()
    names = {name: x, "y": y, "rows": ROWS, "mask": MASK}
    explanation = mg.explain(loss, names=names)
    text = str(explanation)
    called = next(v.name for v in explanation.derivation.variables if v.kind == "input")
    assert f" = {called}{shown}" in text
    assert f"scatter(g_y, s_{shown}, (2, 3, 6, 6))" in text
    assert not re.search(r"^  t\d", text, re.MULTILINE)
    (gx,) = mg.grad(loss, [x])
    np.testing.assert_array_equal(evaluate(text, explanation.given)[f"g_{called}"], gx.data)


def test_an_index_is_mathematics_by_itself() -> None:
    x = mg.tensor(np.ones((4, 3)), requires_grad=True)
    markdown = mg.explain(x[1:3].sum())._repr_markdown_()
    assert r"\operatorname{scatter}_{\mathrm{[1:3]}} \left(g_{1}\right)" in markdown


def test_slices_among_the_attributes_of_ones_own_primitives() -> None:
    first = Primitive(
        "first", lambda a, where: a[where], (lambda g, _y, _a, where: g + 0.0 * _a,), ""
    )
    x = mg.tensor([2.0], requires_grad=True)
    loss = first(x, where=slice(0, 1)) * 1.0
    explanation = mg.explain(loss)
    assert "first(x, where=s_[0:1])" in str(explanation)
    assert evaluate(str(explanation), explanation.given)["loss"] == 2.0


def test_any_attribute_of_ones_own_primitives() -> None:
    """An attribute may be a dict, which cannot be hashed; it is read back."""
    scaled = Primitive(
        "scaled",
        lambda a, options: a * options["by"],
        (lambda g, _y, _a, options: scaled(g, options=options),),
        "",
    )
    x = mg.tensor([2.0], requires_grad=True)
    explanation = mg.explain(scaled(x, options={"by": 3.0}))
    assert "scaled(x, options={'by': 3.0})" in str(explanation)
    assert evaluate(str(explanation), explanation.given)["g_x"] == 3.0
