"""SGD agrees with its formulas and with PyTorch, for parameters of any layout and groups."""

import itertools
import re

import numpy as np
import pytest
from leaves import leaf, set_grad

import minigrad as mg
from minigrad import optim
from minigrad.errors import ArgumentError, DtypeError

COMBINATIONS = [
    {
        "momentum": momentum,
        "dampening": dampening,
        "weight_decay": decay,
        "nesterov": nesterov,
        "maximize": maximize,
    }
    for momentum, dampening, decay, nesterov, maximize in itertools.product(
        [0.0, 0.9], [0.0, 0.3], [0.0, 0.1], [False, True], [False, True]
    )
    if not nesterov or (momentum and not dampening)
]


def name_of(options):
    return "-".join(f"{k}={v}" for k, v in options.items() if v) or "plain"


def naive_steps(p, gradients, lr, momentum, dampening, weight_decay, nesterov, maximize):
    """Follow the formulas of the docstring, in float64."""
    buffer = None
    for g in gradients:
        g = (-g if maximize else g) + weight_decay * p
        buffer = g if buffer is None else momentum * buffer + (1 - dampening) * g
        p = p - lr * (g + momentum * buffer if nesterov else buffer if momentum else g)
    return p


@pytest.mark.parametrize("options", COMBINATIONS, ids=name_of)
def test_steps_follow_the_formulas(options):
    random = np.random.default_rng(0)
    p0, gradients = random.normal(size=(3, 4)), random.normal(size=(12, 3, 4))
    for dtype, tolerance in [(np.float64, 1e-14), (np.float32, 2e-6)]:
        p = leaf(p0, dtype)
        sgd = optim.SGD([p], lr=0.1, **options)
        for g in gradients:
            set_grad(p, g)
            sgd.step()
        assert p.dtype == dtype
        expected = naive_steps(p0, gradients, 0.1, **options)
        np.testing.assert_allclose(p.numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", COMBINATIONS, ids=name_of)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 3e-6)])
def test_steps_are_those_of_pytorch(options, dtype, tolerance):
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(1)
    start = random.normal(size=(2, 5)).astype(dtype)
    ours = mg.tensor(start, requires_grad=True)
    theirs = torch.tensor(start, requires_grad=True)
    a, b = optim.SGD([ours], lr=0.05, **options), torch.optim.SGD([theirs], lr=0.05, **options)
    for step in range(60):
        g = random.normal(size=start.shape).astype(dtype)
        set_grad(ours, g)
        theirs.grad = torch.tensor(g)
        if step == 30:
            a.param_groups[0]["lr"] = b.param_groups[0]["lr"] = 0.01
        a.step()
        b.step()
        np.testing.assert_allclose(
            ours.numpy(), theirs.detach().numpy(), rtol=tolerance, atol=tolerance
        )


def test_defaults_are_those_of_pytorch():
    sgd = optim.SGD([leaf(1.0)])
    expected = {"lr": 1e-3, "momentum": 0, "dampening": 0, "weight_decay": 0}
    expected |= {"nesterov": False, "maximize": False}
    assert {k: v for k, v in sgd.param_groups[0].items() if k != "params"} == expected


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_any_layout_and_shape_of_parameters_and_gradients(momentum):
    random = np.random.default_rng(2)
    values, g = random.normal(size=(4, 6)), random.normal(size=(2, 4, 6))
    plain = leaf(values)
    columns = leaf(np.zeros((4, 6)))
    columns.data = np.asfortranarray(values)
    strided = leaf(np.zeros((4, 6)))
    strided.data = np.repeat(values, 2, axis=1)[:, ::2]
    memory = [columns.numpy(), strided.numpy()]
    scalar, empty = leaf(values[0, 0]), leaf(np.zeros((0, 3)))
    sgd = optim.SGD([plain, columns, strided, scalar, empty], lr=0.1, momentum=momentum)
    for step in range(2):
        set_grad(plain, g[step])
        columns.grad = mg.tensor(np.zeros((4, 6)))
        columns.grad.data = np.asfortranarray(g[step])
        strided.grad = mg.tensor(np.zeros((4, 6)))
        strided.grad.data = g[step][::-1][::-1]
        set_grad(scalar, g[step, 0, 0])
        set_grad(empty, 0.0)
        sgd.step()
    np.testing.assert_allclose(plain.numpy(), naive_steps(values, g, 0.1, momentum, 0, 0, 0, 0))
    for p in (columns, strided):
        np.testing.assert_array_equal(p.numpy(), plain.numpy())
    assert columns.numpy() is memory[0] and strided.numpy() is memory[1]  # written in place
    assert scalar.item() == plain.numpy()[0, 0] and scalar.shape == () and empty.shape == (0, 3)


def test_parameters_without_a_gradient_are_left_alone():
    p, idle = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    sgd = optim.SGD([p, idle], lr=0.1, momentum=0.9, weight_decay=0.5)
    set_grad(p, 1.0)
    sgd.step()
    assert idle.tolist() == [1, 2] and list(sgd.state) == [p]
    before = p.tolist()
    sgd.zero_grad()
    assert p.grad is None
    sgd.step()
    assert p.tolist() == before
    set_grad(p, 1.0)
    sgd.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0, 0] and idle.grad is None
    sgd.step()  # momentum and decay go on
    assert p.tolist() != before


def test_groups_have_values_of_their_own_and_defaults_for_the_rest():
    a, b, c = leaf(1.0), leaf(1.0), leaf(1.0)
    sgd = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    sgd.add_param_group({"params": iter([c]), "maximize": True, "weight_decay": 1.0})
    for p in (a, b, c):
        set_grad(p, 2.0)
    sgd.step()
    np.testing.assert_allclose([a.item(), b.item(), c.item()], [0.8, 0.0, 1.1], rtol=1e-15)
    sgd.param_groups[0]["lr"] = 1.0
    sgd.step()
    np.testing.assert_allclose([a.item(), b.item()], [-1.2, -1.0], rtol=1e-15)
    assert re.search(r"^SGD\(lr=1.0.*; lr=0.5.*; lr=0.1, .*maximize=True\)$", repr(sgd))


def test_a_closure_computes_the_loss_before_the_update():
    p = leaf(3.0)
    sgd = optim.SGD([p], lr=0.1)

    def closure():
        sgd.zero_grad()
        loss = p * p
        loss.backward()
        return loss

    assert [sgd.step(closure).item() for _ in range(2)] == pytest.approx([9.0, 2.4**2])
    assert p.item() == pytest.approx(1.92)
    assert sgd.step() is None


def test_gradients_are_not_changed_and_need_no_grad_mode():
    p = leaf([1.0])
    set_grad(p, 2.0)
    for momentum in (0.0, 0.9):
        with mg.enable_grad():
            optim.SGD([p], lr=0.1, momentum=momentum, weight_decay=0.1, maximize=True).step()
        assert p.grad.tolist() == [2.0] and p.is_leaf and p.requires_grad


def test_a_closure_is_recorded_also_within_no_grad():
    w = mg.tensor([2.0], requires_grad=True)
    sgd = optim.SGD([w], lr=0.5)

    def closure():
        sgd.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with mg.no_grad():
        assert sgd.step(closure).item() == 4.0
        assert not mg.is_grad_enabled()
    assert w.tolist() == [0.0]


@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay", "dampening"])
def test_what_float32_cannot_hold_is_refused(name):
    with pytest.raises(ArgumentError, match=f"SGD: {name} must be a number between"):
        optim.SGD([mg.tensor([1.0], requires_grad=True)], **{"lr": 0.1, name: 1e39})


def test_what_is_no_function_or_has_no_order():
    w = mg.tensor([1.0], requires_grad=True)
    with pytest.raises(DtypeError, match="closure must be a function, got int"):
        optim.SGD([w]).step(3)
    with pytest.raises(DtypeError, match="got set; pass a list, which has an order"):
        optim.SGD({w})
