"""Names in explanations are the user's own, distinct, and can be read back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explained import close, network

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.errors import DtypeError
from minigrad.explainer import evaluate, ladder
from minigrad.ops.primitive import Primitive


def test_names_of_the_caller_and_names_given() -> None:
    """Names may be a function's variables, a dict of them, none at all, or those of functions."""
    a = mg.tensor([1.0, 2.0], requires_grad=True)
    total = (a * a).sum()
    assert "total = sum(v1, axis=0)" in str(mg.explain(total))
    assert "v3 = sum(v2, axis=0)" in str(mg.explain(total, names={}))
    given = str(mg.explain(total, names={"sum": a, "my total": total}))
    assert "v1 = sum_ * sum_" in given and "my_total = sum(v1, axis=0)" in given
    with pytest.raises(DtypeError, match="given to Tensors, arrays and Modules, got int for"):
        mg.explain(total, names={"n": 3})


def test_a_users_name_is_never_that_of_a_part() -> None:
    """x_hat1 is also what the fused form would call a part of v1."""
    x = mg.tensor(np.random.default_rng(0).normal(size=(6, 3)), requires_grad=True)
    x_hat1, mean1 = x * 2.0 + 1.0, mg.tensor(np.ones((6, 3)), requires_grad=True)
    loss = (F.batch_norm(x, training=True) * x_hat1 * mean1).sum()
    explanation = mg.explain(loss)
    values = evaluate(str(explanation), explanation.given)
    (expected,) = mg.grad(loss, [x])
    close(values["g_x"], expected.data)


@pytest.mark.parametrize(
    "label",
    # ruff: noqa: RUF001  letters that look alike are what this is about
    ["x²", "①", "µ", "ﬁ", "𝐱", "ſum", "__debug__", "__builtins__", "lambda", "", "1", "g_w", "v1",
     "q\ng_x = 1000.0", "a" * 200, "sum", "<b>", "t1", "None", "हिन्दी", "e\u0301\u0302"],
)  # fmt: skip
def test_any_name_can_be_read_back(label: str) -> None:
    """A line is a line and a name is a name, whatever the user calls a Tensor or a module."""
    x = mg.tensor(np.random.default_rng(0).normal(size=(4, 3)), requires_grad=True)
    w = mg.tensor(np.ones((4, 3)), requires_grad=True)
    loss = (F.batch_norm(x, training=True) * w * w).sum()
    explanation = mg.explain(loss, names={"w": w, label: x})
    text = str(explanation)
    values = evaluate(text, explanation.given)
    (expected,) = mg.grad(loss, [x])
    close(next(values[v.cotangent] for v in explanation.derivation.variables if v.kind == "input"
               and np.array_equal(v.value, x.data)), expected.data)  # fmt: skip
    assert max(map(len, text.splitlines())) <= 100


def test_long_names_of_modules_leave_lines_short() -> None:
    """The comment of a line is cut where the line ends."""
    model, x, loss = network(fused=False)
    explanation = mg.explain(loss, names={"m" * 150: model, "x" * 150: x})
    for text in (str(explanation), str(explanation.fold())):
        assert max(map(len, text.splitlines())) <= 100


def given_names(explanation: mg.explainer.Explanation) -> dict[str, str | None]:
    """Return the names and labels of what was given."""
    return {v.name: v.label for v in explanation.derivation.variables if v.kind != "result"}


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_labels_keep_their_name_though_losses_copy_them(dtype: Any) -> None:
    x = mg.tensor(np.ones((3, 4)), requires_grad=True)
    labels = np.array([0, 1, 3], dtype)
    loss = F.cross_entropy(x, labels)
    assert given_names(mg.explain(loss)) == {"x": "x", "labels": "labels"}
    assert "one_hot(labels, 4)" in str(mg.explain(loss))
    assert "labels" in given_names(mg.explain(F.nll_loss(x, mg.tensor(labels))))
    labels[0] = 2  # the copy has the elements of nothing that has a name
    assert set(given_names(mg.explain(loss))) == {"x", "v1"}


def test_an_array_given_twice_is_one_constant_and_views_say_of_what() -> None:
    x, a = mg.tensor(np.ones((3, 3)), requires_grad=True), np.ones((3, 3))
    terms = [x * a, x * a, x * a[0], x * a.T, x * x.detach(), x * x.data[:1], x.reshape(9) * 2.0]
    total = sum((term.sum() for term in terms[1:]), start=terms[0].sum())
    explanation = mg.explain(total, names={"x": x, "a": a})
    assert given_names(explanation) == {
        "x": "x",
        "a": "a",
        "a_view": "a view",
        "a_view_2": "a view",
        "x_detached": "x detached",
        "x_view": "x view",
    }
    values = evaluate(str(explanation), explanation.given)
    close(values["g_x"], mg.grad(total, [x])[0].data)


def test_modules_and_variables_are_named_by_text() -> None:
    """The error shows what came, and how to write it."""
    model, x, loss = network(fused=False)
    explanation = mg.explain(loss)
    for fold in (explanation.fold, explanation.unfold):
        with pytest.raises(
            DtypeError, match=r"got \['model'\]; write fold\('model.0'\), or fold\(\*"
        ):
            fold(["model"])
        with pytest.raises(DtypeError, match="a module's name is text, got Sequential"):
            fold("model.1", model)
    for wrong in (x, 0, None, b"x"):
        with pytest.raises(
            DtypeError, match=rf"is text, got {type(wrong).__name__}; .*paths\('x'\)"
        ):
            explanation.paths(wrong)
    with pytest.raises(DtypeError, match=r"evaluate: expected a dict of values by name, got list"):
        evaluate("y = x   ", [1.0])


def test_no_name_breaks_a_line_or_a_file(tmp_path: Path) -> None:
    """Names have neither line ends nor half a surrogate pair, which UTF-8 cannot write."""
    bad = "a\ud800\nb = 1"
    net, x = nn.Sequential(nn.ReLU()), mg.tensor([1.0], requires_grad=True)
    doubled = Primitive(bad, lambda a: 2 * a, (lambda g, _y, _a: doubled(g),), "")
    explanation = mg.explain(doubled(net(x)), names={bad: x, f"{bad}net": net})
    explanation.save_html(tmp_path / "page.html")
    text = f"{explanation}{explanation.fold()}{explanation._repr_html_()}{explanation.to_dot()}"
    assert "a b = 1net" in (tmp_path / "page.html").read_text(encoding="utf-8") and text.encode()
    values = evaluate(str(explanation), explanation.given)
    close(values[next(v.cotangent for v in explanation.derivation.variables)], [2.0])


def test_what_is_detached_says_of_what() -> None:
    """A result without a name says so, too; rules that read the result itself still name it."""
    x = mg.tensor(np.array([[1.0, 2.0], [3.0, 5.0]]), requires_grad=True)
    loss = ladder.what_if(x, detach=("mean",)).sum()
    text = str(mg.explain(loss))
    assert "v1_detached   (1, 2) float64   constant v1 detached" in text
    assert "x - v1_detached" in text
    y = x.exp()
    explanation = mg.explain((y * y.detach()).sum(), names={"x": x})
    assert "g_x += g1 * v1 " in str(explanation) and "g1 += g2 * v1_detached" in str(explanation)


def test_constants_that_only_an_operation_knows_go_by_its_name_for_them() -> None:
    """Such constants are a cross-entropy's weighted targets, or detached and not on the tape."""
    logits = mg.tensor(np.ones((2, 3)), requires_grad=True)
    text = str(mg.explain(F.cross_entropy(logits, [0, 2], label_smoothing=0.1)))
    assert "q        (2, 3) float64   constant\n" in text
    assert "-sum(q * log_softmax(logits, axis=1))" in text
    q = mg.tensor([1.0])  # something else of the user's
    text = str(mg.explain(F.cross_entropy(logits, [0, 2], label_smoothing=0.1), names={"q": q}))
    assert "-sum(v1 * log_softmax(v2, axis=1))" in text or "-sum(v2 * log_softmax(v1" in text

    x = mg.tensor(np.array([[1.0, 2.0], [3.0, 5.0]]), requires_grad=True)
    loss = ladder.what_if(x, detach=("mean", "var")).sum()
    text = str(mg.explain(loss))
    assert "mean_detached      (1, 2) float64   constant mean detached" in text
    assert "v1 = x - mean_detached" in text and "v2 = v1 * inv_std_detached" in text
    part = mg.explain((x * x.exp().detach()[0]).sum(), names={"x": x})
    assert "x * exp_view" in str(part)


def test_what_stands_in_the_users_lists_and_dicts_goes_by_its_place() -> None:
    """Tensors and modules are named by their place, unless they have a name of their own."""
    xs = [mg.tensor([1.0, float(i)], requires_grad=True) for i in range(3)]
    layers = {"first": nn.Linear(2, 2), 2: nn.ReLU()}
    last = xs[2]
    loss = (layers[2](layers["first"](xs[0]) * xs[1]) * last).sum()
    explanation = mg.explain(loss)
    assert set(explanation.gradients) == {
        "xs_0", "xs_1", "last", "layers_first_weight", "layers_first_bias"
    }  # fmt: skip
    text = str(explanation)
    assert "parameter layers['first'].weight" in text and "input xs[0]" in text
    assert "(2,)   layers[2]\n" in text
    values = evaluate(text, explanation.given)
    close(values["g_xs_0"], explanation.gradients["xs_0"])
    assert "xs" not in str(mg.explain(loss, names={}))


def test_what_is_not_finite_goes_by_its_name() -> None:
    """Python would write the -inf of a mask as -1e309."""
    x = mg.tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    inf = mg.tensor(np.array(2.0), requires_grad=True)
    scores = mg.where(np.array([True, True, False]), x, -np.inf)
    loss = (F.softmax(scores, axis=0) * mg.minimum(x, np.inf)).sum() * inf
    explanation = mg.explain(loss)
    text = str(explanation)
    assert ", x, -inf)" in text and " = minimum(x, inf)" in text and " * inf_" in text
    values = evaluate(text, explanation.given)
    gx, g_inf = mg.grad(loss, [x, inf])
    np.testing.assert_array_equal(values["g_x"], gx.data)
    np.testing.assert_array_equal(values["g_inf_"], g_inf.data)
    assert r"-\infty" in explanation._repr_markdown_()


def test_what_is_handed_out_may_be_changed() -> None:
    """Finite differences change it, so an explanation holds arrays of its own."""
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    explanation = mg.explain((x * x).sum())
    for found in (explanation.given, explanation.gradients):
        found["x"] += 1.0
    assert explanation.given["x"].tolist() == [1.0, 2.0]
    assert explanation.gradients["x"].tolist() == [2.0, 4.0]


def test_attributes_of_objects_go_by_their_place() -> None:
    """A trainer may explain its own step; its model is found, while Python's modules are not."""

    class Trainer:
        def __init__(self) -> None:
            self.model = nn.Sequential(nn.Linear(3, 2))
            self._hidden = mg.tensor(np.ones(2, np.float32))

        def loss(self, x: mg.Tensor) -> mg.Tensor:
            return (self.model(x) * self._hidden).sum()

        def explained(self, x: mg.Tensor) -> Any:
            return mg.explain(self.loss(x))

    trainer, x = Trainer(), mg.tensor(np.ones((4, 3), np.float32))
    found = trainer.explained(x)
    assert {"self_model_0_weight", "self_model_0_bias", "x"} < set(found.given)
    assert "parameter self.model.0.weight\n" in str(found) and "self._hidden" not in str(found)
    assert found.modules() == ["self.model", "self.model.0"]
    values = evaluate(str(found), found.given)
    close(values["g_self_model_0_weight"], found.gradients["self_model_0_weight"])
    assert "trainer_model_0_weight" in mg.explain(trainer.loss(x)).given
