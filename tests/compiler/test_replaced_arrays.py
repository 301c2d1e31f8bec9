"""Compiled steps follow parameters whose array, dtype or order somebody replaces."""

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.compiler.runtime.buffers import Memory
from minigrad.errors import GradError

X = np.arange(4, dtype=np.float32).reshape(2, 2)


def trained() -> tuple[nn.Linear, Any, Any]:
    model = nn.Linear(2, 2)
    opt = optim.SGD(model.parameters(), lr=0.1)

    def step(x: Any) -> Any:
        opt.zero_grad()
        loss = (model(x) ** 2).sum()
        loss.backward()
        opt.step()
        return loss

    return model, opt, step


def test_a_frozen_tensor_gets_no_gradient() -> None:
    w, v = mg.tensor(X, requires_grad=True), mg.tensor(X, requires_grad=True)

    @mg.compile
    def step(x: Any) -> Any:
        w.grad = v.grad = None
        (w * v * x).sum().backward()

    step(X)
    step(X)
    w.requires_grad = False
    step(X)
    assert w.grad is None and v.grad is not None


def in_fortran_order(module: nn.Module) -> None:
    for p in module.parameters():
        p.data = np.asfortranarray(p.data)


@pytest.mark.filterwarnings("ignore:compile. linear_grad cannot be compiled")  # of two dtypes
@pytest.mark.parametrize("change", [nn.Module.double, in_fortran_order])
def test_parameters_of_another_dtype_or_order_are_followed(change: Any) -> None:
    (model, _, plain), (m2, _, step) = trained(), trained()
    m2.load_state_dict(model.state_dict())
    compiled = mg.compile(step)
    compiled(X), compiled(X), plain(mg.tensor(X)), plain(mg.tensor(X))
    for m in (model, m2):
        change(m)
        m.zero_grad()
    for _ in range(2):
        np.testing.assert_allclose(compiled(X).data, plain(mg.tensor(X)).data, rtol=1e-6)
    np.testing.assert_allclose(model.weight.data, m2.weight.data, rtol=1e-6)


def test_a_compiled_call_counts_as_a_change_in_place(executables: Any) -> None:
    """This holds for one step, and for an epoch, whose first batch alone is a call."""
    model, _, step = trained()
    compiled = mg.compile(step)
    compiled.epoch(X, batch_size=1)
    for run in (lambda: compiled(X), lambda: compiled.epoch(X, batch_size=1)):
        run()
        loss = (model(mg.tensor(X, requires_grad=True)) ** 2).sum()
        run()
        with pytest.raises(GradError, match="was changed in place"):
            loss.backward()
    executable = executables[0]  # for one row
    loss = (model(mg.tensor(X, requires_grad=True)) ** 2).sum()
    if executable.emitted.epoch:
        executable.run_rows([X], np.array([[0], [1]]))
        with pytest.raises(GradError, match="was changed in place"):
            loss.backward()


@pytest.mark.parametrize("when", [0, 1])
def test_an_epoch_takes_parameters_in_another_order(when: int) -> None:
    (model, _, plain), (m2, _, step) = trained(), trained()
    m2.load_state_dict(model.state_dict())
    for m in (model, m2):
        m.double()
    compiled = mg.compile(step)
    rows = np.arange(8, dtype=np.float64).reshape(4, 2) / 8
    for turn in range(3):
        if turn == when:
            for p in (model.weight, m2.weight):
                p.data = np.asfortranarray(p.data)
        expected = [plain(mg.tensor(row)).item() for row in rows[:, None]]
        found = compiled.epoch(rows, batch_size=1, shuffle=False)
        np.testing.assert_allclose(found.data, expected, rtol=1e-12)
    np.testing.assert_allclose(m2.weight.data, model.weight.data, rtol=1e-12)


def test_an_epoch_may_accumulate_gradients() -> None:
    def make() -> tuple[Any, Any]:
        w = mg.tensor(np.ones(2, np.float32), requires_grad=True)
        opt = optim.SGD([w], lr=0.125)

        def step(x: Any) -> Any:
            loss = ((x * w) ** 2).sum()
            loss.backward()
            opt.step()
            return loss

        return w, step

    (w, plain), (v, step) = make(), make()
    compiled = mg.compile(step)
    rows = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
    for _ in range(2):
        expected = [plain(mg.tensor(row)).item() for row in rows[:, None]]
        found = compiled.epoch(rows, batch_size=1, shuffle=False)
        np.testing.assert_allclose(found.data, expected, rtol=1e-6)
    np.testing.assert_allclose(v.data, w.data, rtol=1e-6)
    assert v.grad is not None and w.grad is not None
    np.testing.assert_allclose(v.grad.data, w.grad.data, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "dampening": 0.5}], ids=str)
def test_a_new_lr_is_written_into_the_array_that_is_there(options, monkeypatch):
    """No state moves, since a schedule may change the lr before each call."""
    found = []
    for way in ("eager", "compiled"):
        w = mg.tensor(np.ones(3), requires_grad=True)
        opt = optim.SGD([w], lr=0.1, **options)

        def step(x, w=w, opt=opt):
            opt.zero_grad()
            (w * w * x).sum().backward()
            opt.step()

        run = mg.compile(step) if way == "compiled" else step
        for i in range(8):
            if i == 2:  # the first step has given the momentum to the optimizer
                monkeypatch.setattr(Memory, "replace", None)
            opt.param_groups[0]["lr"] = 0.1 / (i + 1)
            run(mg.tensor(np.full(3, i + 1.0)))
        monkeypatch.undo()
        found.append(w.tolist())
    assert found[0] == found[1] and run.traces == 1
