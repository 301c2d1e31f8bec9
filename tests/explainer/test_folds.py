"""Explanations show paths of gradients, and fold modules to a line."""

# ruff: noqa: RUF059  explanations find the names of variables that nothing else uses

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explained import close, network

import minigrad as mg
from minigrad import nn
from minigrad.engine.tensor import Tensor
from minigrad.errors import ArgumentError
from minigrad.explainer import evaluate
from minigrad.explainer.analysis.folding import Dataflow, folded_variables, sections_of
from minigrad.explainer.analysis.paths import distinct_paths


def test_a_gradient_is_the_sum_over_its_paths() -> None:
    """Composed BatchNorm has four paths; the one from the mean through the variance is zero."""
    model, x, loss = network(fused=False)
    explanation = mg.explain(loss)
    paths = explanation.paths("x")
    assert len(paths) == 4
    total = explanation.gradients["x"]
    close(sum(path.contribution for path in paths), total)
    last = [v.name for v in paths[-1].variables]
    assert {"v2", "v4", "v5"} <= set(last)  # mean, var, 1 / std
    assert np.abs(paths[-1].contribution).max() < 1e-15 * np.abs(total).max()
    assert all(p.variables[0].name == "loss" and p.variables[-1].name == "x" for p in paths)
    assert "  g_x: 4 paths" in str(explanation)


def test_paths_of_a_tensor_that_is_used_twice_and_too_many_of_them() -> None:
    """x * x has two paths, and each of seven squarings doubles them: 128 are too many to read."""
    x = mg.tensor([1.5], requires_grad=True)
    y = x * x
    assert [p.contribution.item() for p in mg.explain(y).paths("x")] == [1.5, 1.5]
    for _ in range(6):
        y = y * y
    explanation = mg.explain(y, names={"x": x})
    assert "g_x: 128 paths" in str(explanation)
    with pytest.raises(ArgumentError, match=r"128 paths lead to 'x', more than 64"):
        explanation.paths("x")


def test_modules_fold_into_one_line_and_unfold() -> None:
    """They fold by name, by class, or all; an inner module folds within its outer one."""
    model, x, loss = network(fused=False)
    explanation = mg.explain(loss)
    assert explanation.modules() == ["model", "model.0", "model.1", "model.2", "model.3"]
    folded = explanation.fold("model.1")
    lines = [" ".join(line.split()) for line in str(folded).splitlines()]
    call = "v8 <- model.1(v1, model_1_weight, model_1_bias) (8, 5) BatchNorm1d, 7 records"
    assert call in lines
    back = "g1, g_model_1_weight, g_model_1_bias <- model.1(g8) BatchNorm1d, 11 rules"
    assert back in lines
    assert not any(line.startswith("v3 =") for line in lines)
    assert str(explanation.fold("BatchNorm1d")) == str(folded)
    assert str(folded.unfold("model.1")) == str(folded.unfold()) == str(explanation)
    assert len(str(explanation.fold()).splitlines()) < len(str(folded).splitlines())
    assert "model(x, model_0_weight" in str(explanation.fold("model"))
    with pytest.raises(ArgumentError, match=r"no module 'model.9' on this tape; there are model, "):
        explanation.fold("model.9")


def test_text_of_folded_modules_says_how_to_compute_it() -> None:
    model, _, loss = network(fused=False)
    explanation = mg.explain(loss).fold("model.1")
    with pytest.raises(ArgumentError, match=r"name 'v\d+' is not defined.* unfold\(\)"):
        evaluate(str(explanation), explanation.given)
    evaluate(str(explanation.unfold()), explanation.given)


def test_a_tape_of_two_thousand_records() -> None:
    """Nothing recurses, and both its paths are found."""
    x = mg.tensor([0.5], requires_grad=True)
    y = x
    for _ in range(1000):
        y = y * 0.999 + 0.1
    explanation = mg.explain((y * x).sum(), names={"x": x})
    assert "g_x: 2 paths" in str(explanation)
    assert len(explanation.paths("x")) == 2


def test_paths_through_a_folded_module_name_its_line() -> None:
    """Lines have no variables that the fold hides, and paths that differ only inside are one."""
    model, x, loss = network(fused=False)
    loss = loss + (x * x).sum()
    explanation = mg.explain(loss)
    folded = explanation.fold("model.1")
    lines = str(folded).splitlines()
    gradients = "\n".join(lines[lines.index("gradients: totals, each the sum over its paths") :])
    assert "g_x: 6 paths" in gradients
    assert ": 4 paths inside model.1" in gradients
    hidden = {v.name for s in explanation.derivation.steps if s.scopes for v in s.outputs
              if s.scopes[-1].label == "model.1"} - {"v8"}  # fmt: skip
    assert hidden and not hidden & set(re.findall(r"\w+", gradients))
    sections = sections_of(explanation.derivation.steps, lambda scope: scope.label == "model.1")
    hidden_variables = folded_variables(sections, Dataflow(explanation.derivation))
    found = distinct_paths(explanation.paths("x"), hidden_variables)
    assert len(found) == 3
    close(sum(way.contribution for way in found), explanation.gradients["x"])
    assert "model.1" in str(explanation.fold("model.1").fold("model.0"))
    assert "g_x: 6 paths" in str(explanation.fold())


def test_a_folded_module_shows_all_that_it_gives() -> None:
    """It shows its result, and also what it has kept and others use."""

    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.kept = x * 2.0
            return self.kept.exp()

    two, x = Two(), mg.tensor([1.0, 2.0], requires_grad=True)
    b = two(x)
    a = two.kept
    loss = (a * b).sum()
    explanation = mg.explain(loss).fold()
    text = str(explanation)
    assert "a, b <- two(x)" in text and "g_x <- two(g_a, g_b)" in text
    assert "a, b = two(...)" in explanation.to_svg()
    assert r"$a, b \leftarrow \left(x\right)$" in explanation._repr_markdown_()


@pytest.fixture
def writes_few_digits() -> Iterator[None]:
    """Let Python write out numbers of at most 640 digits, the smallest limit that it takes."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    yield
    sys.set_int_max_str_digits(before)


@pytest.mark.usefixtures("writes_few_digits")
def test_more_paths_than_anybody_counts() -> None:
    """The number of paths has more digits than Python writes out."""
    y = x = mg.tensor([1.0], requires_grad=True)
    for _ in range(2_200):
        y = y - y
    explanation = mg.explain(y, names={"x": x})
    assert "g_x: over 1,000,000,000 paths" in str(explanation)
    assert "over 1,000,000,000" in explanation._repr_html_()
    with pytest.raises(ArgumentError, match=r"over 1,000,000,000 paths lead to 'x'"):
        explanation.paths("x")


def test_a_module_may_return_several_results() -> None:
    """Results may be nested in tuples, lists and dicts; one call has all those that are used."""

    class Cell(nn.Module):
        def __init__(self) -> None:
            self.linear = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Any:
            a = self.linear(x)
            b = a.tanh()
            return {"a": (a, None), "rest": [b, a, 7, (b * x,)]}

    cell, x = Cell().double(), mg.tensor(np.ones((2, 3)), requires_grad=True)
    found = cell(x)
    a, b, product = found["a"][0], found["rest"][0], found["rest"][3][0]
    loss = (a * b).sum() + product.sum()
    lines = [" ".join(line.split()) for line in str(mg.explain(loss)).splitlines()]
    assert "a = x @ cell_linear_weight.T + cell_linear_bias (2, 3) cell.linear" in lines
    assert "b = tanh(a) (2, 3) cell" in lines
    assert "product = b * x (2, 3) cell" in lines
    assert str(mg.explain(loss).fold("Cell")).count("Cell, 3 records") == 1
    assert "Cell, 2 records" in str(mg.explain((a * b).sum()).fold("Cell"))  # all that is used
    assert "Cell, 1 record\n" in str(mg.explain(a.sum()).fold("Cell"))
    steps = mg.explain(loss).derivation.steps
    assert [[s.label for s in step.scopes] for step in steps[:3]] == [
        ["cell", "cell.linear"], ["cell"], ["cell"]
    ]  # fmt: skip


def test_a_result_that_was_given_belongs_to_no_call() -> None:
    """A module that hands on its input has computed nothing of it."""

    class Both(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x, x * 2.0

    x = mg.tensor([1.0, 2.0], requires_grad=True)
    first = x.exp()
    both = Both()
    same, twice = both(first)
    assert same is first
    steps = mg.explain((same * twice).sum()).derivation.steps
    assert [[s.kind for s in step.scopes] for step in steps] == [[], ["Both"], [], []]


def test_what_is_not_finite_is_shown_without_a_warning(tmp_path: Path) -> None:
    """The engine has warned already; sums of cotangents and of paths overflow silently."""

    class Twice(nn.Module):
        def forward(self, x: mg.Tensor) -> mg.Tensor:
            return x * 2e38 + x * 2e38

    module, x = Twice(), mg.tensor(np.array([1.0, 0.5], np.float32), requires_grad=True)
    with np.errstate(all="ignore"):
        loss = (module(x) * 1.0 + x).sum()
    with np.errstate(all="raise"):
        explanation = mg.explain(loss)
        assert explanation.gradients["x"].tolist() == [np.inf, np.inf]
        for shown in (explanation, explanation.fold("module")):
            assert "inf" in str(shown) and "inf" in shown._repr_html_()
            shown.save_html(tmp_path / "page.html")
