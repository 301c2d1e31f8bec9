"""A compiled step follows the state of optimizers, and what Tensors are bound to.

Generated functions run as Python.
"""

import numpy as np
import pytest
from guarded import X, agree

import minigrad as mg
from minigrad import optim

pytestmark = pytest.mark.usefixtures("as_python")


def regroup(o):
    o.param_groups = [type(o.param_groups[0])(o.param_groups[0], lr=0.25)]


def rebuffer(o):
    for state in o.state.values():
        state["momentum_buffer"] = state["momentum_buffer"] * 0.5


OPTIMIZERS = {
    "item": lambda o: o.param_groups[0].__setitem__("lr", 0.25),
    "behind": lambda o: dict.__setitem__(o.param_groups[0], "lr", 0.25),
    "momentum behind": lambda o: dict.__setitem__(o.param_groups[0], "momentum", 0.0),
    "parameters": lambda o: o.param_groups[0]["params"].pop(),
    "groups": regroup,
    "weight_decay": lambda o: dict.update(o.param_groups[0], weight_decay=0.5),
    "maximize": lambda o: dict.__setitem__(o.param_groups[0], "maximize", True),
    "state cleared": lambda o: o.state.clear(),
    "another state": lambda o: setattr(o, "state", {}),
    "another buffer": rebuffer,
    "a buffer less": lambda o: o.state.pop(o.param_groups[0]["params"][0]),
}


@pytest.mark.parametrize("way", OPTIMIZERS)
def test_what_an_optimizer_holds_is_followed(way):
    def made():
        w, b = (mg.tensor(X * k, requires_grad=True) for k in (1.0, 2.0))
        opt = optim.SGD([w, b], lr=0.5, momentum=0.5)

        def step(x):
            opt.zero_grad()
            loss = ((w * x + b) ** 2).sum()
            loss.backward()
            opt.step()
            return loss

        return step, opt, (w, b)

    (eager, first, expected), (step, second, found) = made(), made()
    compiled = mg.compile(step)
    for i in range(8):
        if i == 4:
            OPTIMIZERS[way](first)
            OPTIMIZERS[way](second)
        x = X * 0.1 * i
        np.testing.assert_allclose(compiled(x).item(), eager(mg.tensor(x)).item(), rtol=1e-12)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a.data, b.data, rtol=1e-12)


def test_a_hyper_parameter_that_a_step_reads_is_guarded():
    opt = optim.SGD([mg.tensor(X, requires_grad=True)], lr=0.5)
    function = lambda x: x * opt.param_groups[0]["lr"]  # noqa: E731
    compiled = mg.compile(function)
    for lr in (0.5, 0.25):
        opt.param_groups[0]["lr"] = lr
        agree(compiled, function)
    dict.__setitem__(opt.param_groups[0], "lr", 2.0)
    agree(compiled, function)


REBOUND = {
    "data": lambda w: setattr(w, "data", w.data * 3.0),
    "dtype": lambda w: w.convert_(np.float32),
    "requires_grad": lambda w: setattr(w, "requires_grad", False),
}


@pytest.mark.parametrize("way", REBOUND)
def test_what_a_tensor_is_bound_to_is_followed(way):
    w = mg.tensor(X, requires_grad=True)

    def step(x):
        loss = (w * x).sum()
        if w.requires_grad:
            loss.backward()
        return loss * 2.0

    compiled, x = mg.compile(step), X.astype(np.float32)
    for i in range(4):
        w.grad = None
        if i == 2:
            REBOUND[way](w)
        found, grad = compiled(x), w.grad
        w.grad = None
        expected = step(mg.tensor(x))
        assert found.dtype == expected.dtype and found.item() == expected.item()
        assert (grad is None) == (w.grad is None)
    assert compiled.traces == (1 if way == "data" else 2)
