"""Rules work as the backward pass uses them: to second order, and for any subset of the inputs.

A rule reads elements by primitives and operators alone, so it runs on arrays, on Tensors, and in
compiled steps. It returns None where there is no derivative.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, ops
from minigrad.compiler import compile
from minigrad.engine.backward import outputs_of
from minigrad.engine.tensor import Tensor
from minigrad.errors import GradError
from minigrad.ops.primitive import Primitive
from tests.compiler.test_table import (
    as_python,  # noqa: F401  a fixture, for all tests here
    split,
)

SMOOTH = [
    pytest.param(n, c, id=f"{n}-{i}")
    for n, cases in CASES.items()
    for i, c in enumerate(cases)
    if ops.TABLE[n].differentiable
]
SEVERAL = [p for p in SMOOTH if ops.TABLE[p.values[0]].vjp or len(p.values[1].inputs) > 1]


def subsets(items: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All that are not empty."""
    return [s for n in range(len(items)) for s in itertools.combinations(items, n + 1)]


def leaves(arrays: Sequence[np.ndarray]) -> list[Tensor]:
    """Tensors of copies."""
    return [Tensor(a.copy()).requires_grad_() for a in arrays]


def weighted(y: Tensor) -> Tensor:
    """A scalar that is not linear in y."""
    weights = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)
    return (y * y * y * weights).sum()


@pytest.mark.sampled(15, by="name")
@pytest.mark.parametrize(("name", "case"), SMOOTH)
@pytest.mark.filterwarnings("ignore:compile. .* cannot be compiled")
def test_second_derivatives_compiled(name: str, case: Case) -> None:
    """The gradient of the gradient's square equals eager, on other data than were traced."""
    call, first, other = split(case, np.float64)

    def step(*inputs: Any) -> Any:
        found = mg.grad(weighted(call(*inputs)), inputs, create_graph=True, allow_unused=True)
        total = sum([(g * g).sum() for g in found if g is not None])
        return found, mg.grad(total, inputs, allow_unused=True)

    compiled = compile(step)
    compiled(*leaves(first))
    got, expected = compiled(*leaves(other)), step(*leaves(other))
    for order in (0, 1):
        scale = max([np.abs(b.data).max(initial=1) for b in expected[order] if b is not None])
        for a, b in zip(got[order], expected[order], strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a.data, b.data, rtol=1e-12, atol=1e-13 * scale)


def pulled(
    primitive: Primitive, g: Any, y: Any, operands: Any, wrt: Any, attributes: Any
) -> dict[int, Any]:
    """What the rules return for the inputs at positions `wrt`."""
    if primitive.vjp is not None:
        found = primitive.vjp(g, y, *operands, wrt=wrt, **attributes)
        return {i: found[i] for i in wrt}
    return {i: primitive.rules[i](g, y, *operands, **attributes) for i in wrt}


@pytest.mark.parametrize(("name", "case"), SMOOTH)
def test_rules_for_every_subset(name: str, case: Case) -> None:
    """Of inputs asked for and of outputs with a cotangent: an array, a Tensor or None where the
    others have it, the same as when all are asked for."""
    call, first, _ = split(case, np.float64)
    y = call(*leaves(first))
    record = y._record
    primitive, attributes = record.primitive, record.attributes
    n = primitive.outputs
    shapes = [a.shape for a in record.y if a is not None] if n > 1 else [y.shape]
    for given in subsets(range(n)):
        parts = [
            np.random.default_rng(i).standard_normal(shapes[i]) if i in given else None
            for i in range(n)
        ]
        tensors = [None if a is None else Tensor(a) for a in parts]
        g, lifted = (parts[0], tensors[0]) if n == 1 else (tuple(parts), tuple(tensors))
        whole = pulled(primitive, g, record.y, record.arrays, record.wrt, attributes)
        for wrt in subsets(record.wrt):
            told = primitive, g, record.y, record.arrays, wrt, attributes
            for i, gx in pulled(*told).items():
                assert gx is None or isinstance(gx, (np.ndarray, np.generic))
                assert (gx is None) == (whole[i] is None)
                if gx is not None:
                    np.testing.assert_array_equal(gx, whole[i])
            told = primitive, lifted, outputs_of(record), record.inputs, wrt, attributes
            for i, gx in pulled(*told).items():
                assert gx is None or isinstance(gx, Tensor)
                assert (gx is None) == (whole[i] is None)
                if gx is not None:
                    np.testing.assert_allclose(gx.data, whole[i], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("name", "case"), SEVERAL)
def test_gradients_for_every_subset(name: str, case: Case) -> None:
    """By mg.grad, recorded or not, and by mg.explain where one rule serves all inputs."""
    call, first, _ = split(case, np.float64)
    inputs = leaves(first)
    expected = mg.grad(weighted(call(*inputs)), inputs, allow_unused=True)
    for chosen in subsets(range(len(first))):
        inputs = [Tensor(a).requires_grad_(i in chosen) for i, a in enumerate(first)]
        wanted = [inputs[i] for i in chosen]
        for create_graph in (False, True):
            y = weighted(call(*inputs))
            if y.requires_grad:
                found = mg.grad(y, wanted, create_graph=create_graph, allow_unused=True)
                same(found, [expected[i] for i in chosen])
        if ops.TABLE[name].vjp is not None and first[0].size:
            names = {f"leaf_{i}": x for i, x in enumerate(inputs)}
            explained = mg.explain(weighted(call(*inputs)), names=names).gradients
            same([explained.get(f"leaf_{i}") for i in chosen], [expected[i] for i in chosen])


def same(found: Sequence[Any], expected: Sequence[Any]) -> None:
    """Gradients, or None."""
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(np.asarray(a), b.data, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2, 2)])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("chosen", subsets(range(3)))
def test_penalties_on_gradients_of_batch_norm_are_explained(
    training: bool, shape: Any, relu: bool, chosen: Any
) -> None:
    """On those with respect to any of x, weight and bias, to the values of mg.grad."""
    norm = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3)
    model = nn.Sequential(norm, nn.ReLU()) if relu else norm
    model.train(training)
    x = mg.tensor(np.random.default_rng(0).standard_normal(shape), requires_grad=True)
    inputs = [x, norm.weight, norm.bias]
    loss = (model(x.astype("float32")) ** 2).sum()
    found = mg.grad(loss, [inputs[i] for i in chosen], create_graph=True)
    penalty = sum([(g * g).sum() for g in found])
    expected = mg.grad(penalty, inputs, retain_graph=True, allow_unused=True)
    names = dict(zip(("x", "weight", "bias"), inputs, strict=True))
    explained = mg.explain(penalty, names=names).gradients
    for name, g in zip(names, expected, strict=True):
        assert (name in explained) == (g is not None)
        if g is not None:
            np.testing.assert_allclose(explained[name], g.data, rtol=1e-4, atol=1e-5)


def test_an_input_without_a_derivative_is_unused() -> None:
    """A fused rule finds so only in the backward pass; composed of matmul, the tape shows it."""
    x = mg.tensor(np.ones((4, 3)), requires_grad=True)
    w = mg.tensor(np.ones((2, 3)), requires_grad=True)
    for y in (F.linear(x, w), x @ w.T):
        (dx,) = mg.grad(y.sum(), x, create_graph=True)
        assert mg.grad(dx.sum(), [x], retain_graph=True, allow_unused=True) == (None,)
        with pytest.raises(GradError, match="outputs do not depend on input 1"):
            mg.grad(dx.sum(), [w, x])


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_rule_may_return_constants(create_graph: bool) -> None:
    """An array becomes a Tensor where Tensors are walked, also in explanations."""
    slope = Primitive("slope", lambda a: a * 3.0, (lambda g, _y, _a: np.full(2, 3.0),), "3 * a")
    x = mg.tensor(np.ones(2), requires_grad=True)
    (first,) = mg.grad(slope(x).sum(), x, create_graph=create_graph)
    assert first.tolist() == [3.0, 3.0]
    assert mg.explain(slope(x).sum(), names={"x": x}).gradients["x"].tolist() == [3.0, 3.0]
