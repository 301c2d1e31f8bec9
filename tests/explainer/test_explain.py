"""Explanations say what the engine does: their text, read back and computed, gives its results."""

# ruff: noqa: RUF059  explanations find the names of variables that nothing else uses

import threading
from typing import Any

import numpy as np
import pytest
from case_runs import CONSTANT, SMOOTH, run, tensors
from cases import Case
from explained import close, network

import minigrad as mg
import minigrad.explainer
from minigrad import functional as F
from minigrad import nn, ops
from minigrad.engine.tensor import Tensor
from minigrad.errors import ArgumentError, DtypeError, GradError, ShapeError, TraceError
from minigrad.explainer import evaluate
from minigrad.explainer.derive.expressions import text_of
from minigrad.explainer.derive.identifiers import Identifiers
from minigrad.explainer.derive.symbolic import SymbolicTracer
from minigrad.ops.primitive import Primitive, primitive


@pytest.mark.parametrize(("name", "case"), SMOOTH)
def test_the_text_of_each_primitive_computes_its_value_and_gradients(name: str, case: Case) -> None:
    """The printed formula and rules are those that run."""
    inputs = tensors(case)
    y = run(case, inputs)
    g = np.random.default_rng(1).normal(size=y.shape)
    wanted = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    names = {f"p{i}": x for i, x in enumerate(wanted)}
    explanation = mg.explain(y, g, names=names)
    text = str(explanation)
    values = evaluate(text, explanation.given)
    loss = explanation.derivation.loss
    close(values[loss.name], y.data)
    expected = mg.grad(y, wanted, Tensor(g), allow_unused=True)
    for k, gx in zip(names, expected, strict=True):
        if gx is not None:
            close(values[f"g_{k}"], gx.data)
            close(explanation.gradients[k], gx.data)
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(("name", "case"), CONSTANT)
def test_the_formula_of_each_constant_computes_it(name: str, case: Case) -> None:
    """Primitives without a rule stand in other primitives' rules."""
    if name == "keep_mask":
        pytest.skip("drawn at random: not to be computed again")
    y = run(case, tensors(case))
    names = [f"a{i}" for i in range(len(case.inputs))]
    unknown = lambda thing: pytest.fail(f"{thing} without a name")  # noqa: E731
    writing = SymbolicTracer(unknown, lambda primitive: primitive.name, Identifiers(()))
    given = {k: np.asarray(x) for k, x in zip(names, case.inputs, strict=True)}
    for k, x in given.items():
        writing.name(x, k)
    attributes = dict(case.attributes)
    if name in ("argmax", "argmin"):
        attributes = {"axis": attributes["axis"]}
    parts, (node,) = writing.formula(ops.TABLE[name], list(given.values()), attributes, 1)
    lines = [*(f"{k} = {text_of(part)}" for k, part in parts), f"y = {text_of(node)}"]
    np.testing.assert_array_equal(evaluate("\n".join(lines), given)["y"], y.data)


@pytest.mark.parametrize("fused", [False, True])
def test_the_text_of_batch_norm_equals_finite_differences(fused: bool) -> None:
    """They agree to 1e-9 in float64, for a network with a random cotangent behind BatchNorm."""
    model, x, _ = network(fused)
    loss = (mg.tanh(model[1](model[0](x))) * mg.tensor(np.linspace(-1.0, 1.0, 5))).sum()  # no kinks
    explanation = mg.explain(loss)
    lines, given = str(explanation), explanation.given
    values = evaluate(lines, given)
    eps = 1e-4  # of a difference of the fourth order
    for name in ("x", "model_1_weight", "model_1_bias", "model_0_weight"):
        numeric = np.zeros_like(given[name])
        for i in np.ndindex(*numeric.shape):
            ends = []
            for k in (-2, -1, 1, 2):
                moved = given[name].copy()
                moved[i] += k * eps
                ends.append(evaluate(lines, given | {name: moved})["loss"])
            a, b, c, d = map(float, ends)
            numeric[i] = (a - 8 * b + 8 * c - d) / (12 * eps)
        assert np.abs(values[f"g_{name}"] - numeric).max() < 1e-9


@pytest.mark.parametrize("fused", [False, True])
def test_lines_follow_the_users_names_and_the_backward_pass(fused: bool) -> None:
    """Parameters have their qualified names, and sums that undo broadcasting are shown."""
    model, x, loss = network(fused)
    lines = [" ".join(line.split()) for line in str(mg.explain(loss)).splitlines()]
    assert "x (8, 6) float64 input" in lines
    assert "model_1_weight (5,) float64 parameter model.1.weight" in lines
    assert "v1 = x @ model_0_weight.T + model_0_bias (8, 5) model.0" in lines
    assert "g_model_0_bias += sum(g1, axis=0) (5,) from linear, w.r.t. b" in lines
    if not fused:
        assert "v2 = mean(v1, axis=0, keepdims=True) (1, 5) model.1" in lines
        assert "g_model_1_weight += sum(g7 * v6, axis=0) (5,) from mul, w.r.t. b" in lines
        assert "g1 += g2 / 8 (1, 5) from mean, w.r.t. a" in lines


def test_explaining_changes_nothing() -> None:
    """Gradients, tape and results stay, and a later backward gives what was explained."""
    model, x, loss = network(fused=False)
    before = {k: v.copy() for k, v in model.state_dict().items()}
    explanation = mg.explain(loss)
    str(explanation), explanation.paths("x")
    assert x.grad is None and all(p.grad is None for p in model.parameters())
    loss.backward()
    np.testing.assert_array_equal(x.grad.data, explanation.gradients["x"])
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[k])


def test_a_cotangent_for_a_result_that_is_no_scalar() -> None:
    """The cotangent is a name like any other, and must fit."""
    a = mg.tensor([[1.0, 2.0]], requires_grad=True)
    y = a * 3.0
    text = str(mg.explain(y, np.float32([[1.0, 10.0]]), names={"a": a}))
    assert "= gradient" in text
    np.testing.assert_array_equal(
        mg.explain(y, np.float32([[1.0, 10.0]]), names={"a": a}).gradients["a"], [[3.0, 30.0]]
    )
    with pytest.raises(GradError, match=r"explain: only a single element needs no gradient"):
        mg.explain(y)
    with pytest.raises(ShapeError, match=r"explain: the gradient has shape"):
        mg.explain(y, np.ones(3))


def test_what_cannot_be_explained_says_what_to_do() -> None:
    """Errors cover a freed tape, a leaf, no_grad, a changed input, no Tensor, and a trace."""
    model, x, loss = network(fused=True)
    loss.backward()
    with pytest.raises(GradError, match=r"explain: the tape was freed by backward .*retain_graph"):
        mg.explain(loss)
    with pytest.raises(GradError, match=r"explain: this Tensor is a leaf"):
        mg.explain(mg.tensor(1.0, requires_grad=True))
    with mg.no_grad():
        y = x.sum()
    with pytest.raises(GradError, match=r"explain: .*computed in no_grad.*; compute it outside"):
        mg.explain(y)
    with pytest.raises(DtypeError, match=r"explain: expected a Tensor, got float"):
        mg.explain(1.0)
    z = (x * x).sum()
    with mg.no_grad():
        x.copy_(0.0)
    with pytest.raises(GradError, match=r"explain: input 0 of 'mul'.*changed in place"):
        mg.explain(z)
    with pytest.raises(TraceError, match=r"mg.explain"):
        mg.compile(lambda: mg.explain((x * 2.0).sum()))()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y = a + b", "name 'b' is not defined in 'a \\+ b'; give it a value"),
        ("y = a @ a.T.T @ a", "'a @ a.T.T @ a' cannot be computed"),
        ("y = __import__('os')", "__import__.*cannot be computed|not defined"),
    ],
)
def test_text_that_cannot_be_computed(text: str, expected: str) -> None:
    """Errors show the line's expression, and text that is no line is passed over."""
    with pytest.raises(ArgumentError, match=expected):
        evaluate(f"forward: one record\n  {text}   (2, 3)", {"a": np.ones((2, 3))})


def test_threads_explain_side_by_side_while_others_train() -> None:
    """A trace belongs to its thread, so an explanation has no operations of another thread."""
    model, _, loss = network(fused=False)
    expected = str(mg.explain(loss, names={}))
    found, failed = [], []

    def explains() -> None:
        found.extend(str(mg.explain(loss, names={})) for _ in range(5))

    def trains() -> None:
        try:
            for _ in range(20):
                network(fused=False)[2].backward()
        except Exception as error:  # pragma: no cover
            failed.append(error)

    threads = [threading.Thread(target=t) for t in (explains, trains, explains, trains)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == [expected] * 10 and not failed


def all_forms(explanation: mg.explainer.Explanation) -> list[str]:
    """Return the explanation in every form that needs no file."""
    forms = [str(explanation), str(explanation.fold()), explanation._repr_html_()]
    return [*forms, explanation._repr_markdown_(), explanation.to_dot(), explanation.to_svg()]


def test_an_explanation_outlives_backward_and_update() -> None:
    """It holds copies, so a training step that follows changes nothing in it."""
    model, x, loss = network(fused=False)
    explanation = mg.explain(loss)
    before, values = all_forms(explanation), evaluate(str(explanation), explanation.given)
    paths = [path.contribution.copy() for path in explanation.paths("x")]
    loss.backward()
    with mg.no_grad():
        for p in (x, *model.parameters()):
            p.copy_(p * 0.0 + 7.0)
    assert all_forms(explanation) == before
    after = evaluate(str(explanation), explanation.given)
    assert all(np.array_equal(after[k], v) for k, v in values.items())
    for path, contribution in zip(explanation.paths("x"), paths, strict=True):
        np.testing.assert_array_equal(path.contribution, contribution)


def test_a_module_that_is_called_twice() -> None:
    """The module reads Tensors from outside, and both calls share its parameters."""

    class Block(nn.Module):
        def __init__(self) -> None:
            self.linear = nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x) + x

    class Twice(nn.Module):
        def __init__(self) -> None:
            self.block = Block()

        def forward(self, x: Tensor) -> Tensor:
            return self.block(self.block(x))

    net, x = Twice(), mg.tensor(np.ones((4, 5)), requires_grad=True)
    explanation = mg.explain(net(x).sum())
    forms = [all_forms(e) for e in (explanation, explanation.fold("net.block"))]
    assert forms[0][-1].count("Block</text>") == 2
    assert max(len(line) for form in forms for line in form[0].splitlines()) <= 100


def test_primitives_of_ones_own_explain_themselves() -> None:
    """They may be declared anywhere, without a formula, under any name, or be used twice in a rule.

    Names are passed with the arrays.
    """
    tripled = Primitive("x", lambda a: 3 * a, (lambda g, _y, _a: tripled(g),), "")

    def cubed_rule(g: Any, y: Any, a: Any) -> Any:
        t = tripled(a * a + 0.0 * y[0])  # longer than what is written out twice
        return g * t + 0.0 * t

    cubed = Primitive("cube!", lambda a: (a**3, None), (cubed_rule,), "", residuals=("a",))
    x = mg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    loss = cubed(tripled(x))[0].sum()
    explanation = mg.explain(loss)
    values = evaluate(str(explanation), explanation.given)
    close(values["loss"], 27.0 * 9.0)
    close(values["g_x"], 81.0 * x.data**2)
    assert "cube_(v1)" in str(explanation)


def test_formulas_call_primitives_that_were_declared_later() -> None:
    late = primitive("late", lambda a: 2 * a, (lambda g, _y, _a: late(g),))
    later = primitive("later", lambda a: 2 * a + 1, (lambda g, _y, _a: late(g),),
                      formula="late(a) + 1")  # fmt: skip
    try:
        x = mg.tensor([3.0], requires_grad=True)
        explanation = mg.explain(later(x).sum())
        assert "v1 = late(x) + 1" in str(explanation)
        assert evaluate(str(explanation), explanation.given)["g_x"] == 2.0
    finally:
        del ops.TABLE["late"], ops.TABLE["later"]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_text_computes_in_the_dtypes_of_the_engine(dtype: Any, fused: bool, training: bool) -> None:
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, fused=fused), nn.ReLU()).to(dtype)
    x = mg.tensor(rng.normal(size=(8, 6)).astype(dtype), requires_grad=True)
    y = model.train(training)(x)
    for loss in (F.cross_entropy(y, rng.integers(0, 5, 8)), (y * y).sum(), y[0, :1], y.max()):
        explanation = mg.explain(loss)
        values, expected = evaluate(str(explanation), explanation.given), explanation.derivation
        assert {k: v.dtype for k, v in values.items()} == {
            k: v.dtype for k, v in expected.values.items()
        }


def test_fused_evaluation_is_told_by_the_running_statistics() -> None:
    """No line shows what the kernel has kept of the statistics."""
    model, x, _ = network(fused=True)
    explanation = mg.explain(model.eval()(x).sum())
    lines = [" ".join(line.split()) for line in str(explanation).splitlines()]
    given = [v.label for v in explanation.derivation.variables if v.kind == "constant"]
    assert given == ["model.1.running_mean", "model.1.running_var"]
    std = "sqrt(model_1_running_var + 1e-05)"
    assert f"x_hat2 = (v1 - model_1_running_mean) / {std} (8, 5) model.1" in lines
    assert any("* x_hat2, axis=0) (5,) from batch_norm, w.r.t. gamma" in line for line in lines)


def test_what_was_changed_behind_a_line_is_no_longer_explained() -> None:
    """This holds even if no rule reads the value, as backward accepts: the line would be false."""
    model, x, _ = network(fused=True)
    loss = model.eval()(x).sum()
    model.train()(x)  # moves the running statistics
    with pytest.raises(GradError, match=r"explain: input 3 of 'batch_norm'.* was changed in place"):
        mg.explain(loss)
    loss.backward()
    w = mg.tensor([1.0], requires_grad=True)
    y = w * 2.0
    with mg.no_grad():
        w.copy_(5.0)
    with pytest.raises(GradError, match=r"explain: input 0 of 'mul'.* changed in place"):
        mg.explain(y)
    y = w * 2.0
    y.mark_changed()
    with pytest.raises(GradError, match=r"explain: the result of 'mul' was changed in place"):
        mg.explain(y)


def test_scalars_add_up_in_float64() -> None:
    """NumPy sums two arrays of shape () to a number, and numbers are weak.

    Such sums would become float32.
    """
    scale = mg.tensor(np.array(0.3), requires_grad=True)
    x = mg.tensor(np.arange(3.0) / 7, requires_grad=True)
    doubled = scale * 2
    loss = (doubled * x + doubled / 3 * x).sum() + doubled * doubled
    explanation = mg.explain(loss)
    expected = mg.grad(loss, [scale, x])
    values = evaluate(str(explanation), explanation.given)
    assert "astype" not in str(explanation)
    for name, gx in zip(("scale", "x"), expected, strict=True):
        for found in (explanation.gradients[name], values[f"g_{name}"]):
            assert isinstance(found, np.ndarray) and found.dtype == np.float64
            np.testing.assert_allclose(found, gx.data, rtol=1e-15)
        paths = sum(path.contribution for path in explanation.paths(name))
        np.testing.assert_allclose(paths, gx.data, rtol=1e-15)


@pytest.mark.parametrize("n", [20, 60])
def test_more_tensors_in_one_operation_than_a_line_or_the_alphabet_has_room_for(n: int) -> None:
    """The states of a recurrent network, stacked, take several lines, which are read back."""
    x = mg.tensor(np.linspace(-1.0, 1.0, 3), requires_grad=True)
    parts = [x * float(i) for i in range(n)]
    loss = (mg.stack(parts) * mg.tensor(np.arange(3.0 * n).reshape(n, 3))).sum()
    explanation = mg.explain(loss)
    text = str(explanation)
    assert max(map(len, text.splitlines())) <= 100
    assert f"w.r.t. {'t' if n == 20 else 'h2'}\n" in text  # of the last
    values = evaluate(text, explanation.given)
    (gx,) = mg.grad(loss, [x])
    close(values["loss"], loss.data)
    close(values["g_x"], gx.data)


@pytest.mark.parametrize("ignored", [-100, -1, 0, 7])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_that_are_ignored_stand_in_the_formula(
    ignored: int, reduction: str, dtype: Any
) -> None:
    """A factor leaves their rows out, whether the label is a class or not."""
    logits = mg.tensor(
        np.random.default_rng(0).normal(size=(4, 3)).astype(dtype), requires_grad=True
    )
    for labels in ([0, ignored, 2, ignored], [ignored] * 4):
        loss = F.cross_entropy(logits, labels, ignore_index=ignored, reduction=reduction)
        explanation = mg.explain(loss)
        text = str(explanation)
        assert f"kept1 = reshape(labels != {ignored}, (-1, 1))" in text
        assert "labels   (4,) int64   constant\n" in text
        assert list(explanation.given) == ["logits", "labels"]
        values = evaluate(text, explanation.given)
        (gx,) = mg.grad(loss, [logits])
        tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"atol": 1e-15}
        for found, expected in ((values["loss"], loss), (values["g_logits"], gx)):
            assert found.dtype == dtype
            np.testing.assert_allclose(found, expected.data, **tolerance)
