"""Epochs of a compiled step run batches at once, with the results and errors of single calls."""

import threading

import numpy as np
import pytest
from calls import call_in_progress
from small_networks import batches, network, same, state

import minigrad as mg
from minigrad.compiler.runtime import epoch
from minigrad.compiler.runtime.executable import Executable
from minigrad.errors import ArgumentError, OutOfRangeError

X = np.arange(1.0, 4.0)


@pytest.mark.parametrize("drop_last", [False, True])
def test_an_epoch_is_a_loop_of_calls(drop_last):
    """An epoch gives the bits of a loop of calls: losses, state, and the loader's place."""
    (m1, o1, one), (m2, o2, two) = network(), network()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((203, 6)).astype(np.float32), rng.integers(0, 4, 203)
    loaders = [
        mg.data.DataLoader(x, y, batch_size=8, shuffle=True, seed=5, drop_last=drop_last)
        for _ in range(2)
    ]
    step, whole = mg.compile(one), mg.compile(two)
    for _ in range(3):
        expected = [step(*batch).item() for batch in loaders[0]]
        losses = whole.epoch(loaders[1])
        np.testing.assert_array_equal(losses.data, np.float32(expected))
        assert loaders[0].state_dict() == loaders[1].state_dict()
        for p, q in zip(m1.parameters(), m2.parameters(), strict=True):
            np.testing.assert_array_equal(p.grad.data, q.grad.data)
    same(state(m1, o1), state(m2, o2))
    again = whole.epoch(x, y, batch_size=50, shuffle=True, seed=1)
    assert again.shape == (5,)
    assert whole.epoch(x[:0], y[:0], batch_size=4).shape == (0,)


def test_an_epoch_fails_before_the_bad_batch():
    """A label out of range ends an epoch before its batch, and the error names the label."""
    model, opt, plain = network()
    compiled = mg.compile(plain)
    ((x, y),) = batches(1, 400)
    compiled.epoch(x, y, batch_size=8)
    (m1, o1, eager) = network()
    eager_again = mg.compile(eager)
    eager_again.epoch(x, y, batch_size=8)
    y = y.copy()
    y[8 * 40 + 2] = 9
    with pytest.raises(OutOfRangeError, match="got 9 at position 2"):
        compiled.epoch(x, y, batch_size=8)
    for i in range(40):
        eager_again(x[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8])
    same(state(model, opt), state(m1, o1))
    with pytest.raises(ArgumentError, match="expected <lambda> to return one number"):
        mg.compile(lambda x: x * 2).epoch(x, batch_size=3)


def test_an_epoch_of_several_functions_is_a_loop_of_calls():
    (m1, o1, one), (m2, o2, two) = network(dropout=0.5), network(dropout=0.5)
    ((x, y),) = batches(1, 60)
    step, whole = mg.compile(one), mg.compile(two)
    loader = mg.data.DataLoader(x, y, batch_size=10)
    mg.manual_seed(0)
    expected = [step(*batch).item() for batch in loader]
    mg.manual_seed(0)
    np.testing.assert_array_equal(whole.epoch(x, y, batch_size=10).data, np.float32(expected))
    same(state(m1, o1), state(m2, o2))


@pytest.mark.usefixtures("as_python")
@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((mg.data.DataLoader(X),), {"batch_size": 3}, "neither options .* got batch_size"),
        ((mg.data.DataLoader(X), X), {}, "nor arrays besides, got 1 more"),
        ((X,), {"bs": 3, "batch_size": 1}, "named bs; there are batch_size, shuffle, drop_last, s"),
    ],
)
def test_wrong_options_of_epochs_are_named(data, options, message):
    with pytest.raises(ArgumentError, match=f"epoch: .*{message}"):
        mg.compile(lambda x: x.sum()).epoch(*data, **options)


@pytest.mark.usefixtures("as_python")
@pytest.mark.parametrize("called", [False, True], ids=["traced", "run"])
@pytest.mark.parametrize(
    ("wrap", "got"),
    [
        (lambda y: (y.sum(), y.max()), "tuple"),
        (lambda y: [y.sum()], "list"),
        (lambda y: y, r"\(2,\)"),
        (lambda y: None, "NoneType"),
    ],
)
def test_a_step_without_a_number_is_refused_before_it_changes_anything(wrap, got, called):
    total = mg.tensor(np.zeros(2))

    def step(x):
        total.copy_(total + x)
        return wrap(total * 2)

    compiled = mg.compile(step)
    for _ in range(2 * called):
        compiled(np.ones(2))
    before = total.data.copy()
    with pytest.raises(ArgumentError, match=f"expected step to return one number.* got {got}"):
        compiled.epoch(np.ones((4, 2)).reshape(-1), batch_size=2)
    np.testing.assert_array_equal(total.data, before)


@pytest.mark.usefixtures("as_python")
def test_batches_run_at_once_for_up_to_patience(monkeypatch):
    """The first batch runs alone, then as many run at once as take up to PATIENCE."""
    assert [epoch.at_once(s) for s in (0.0, 1.0, 0.0099, 1e-9)] == [1, 1, 5, epoch.AT_ONCE]
    whole, sizes = Executable.run_rows, []

    def run_rows(executable, arrays, rows):
        sizes.append(len(rows))
        return whole(executable, arrays, rows)

    monkeypatch.setattr(Executable, "run_rows", run_rows)
    double = mg.compile(lambda x: (x * 2).sum())
    x = np.arange(300.0)
    monkeypatch.setattr(epoch, "PATIENCE", 1e9)
    np.testing.assert_array_equal(double.epoch(x).data, x * 2)
    assert sizes == [epoch.AT_ONCE - 1, 300 - 1 - epoch.AT_ONCE - 1]
    monkeypatch.setattr(epoch, "PATIENCE", 0.0)
    np.testing.assert_array_equal(double.epoch(x).data, x * 2)
    assert len(sizes) == 2


@pytest.mark.usefixtures("as_python")
def test_an_epoch_waits_for_a_call_in_another_thread():
    double = mg.compile(lambda x: (x * 2).sum())
    double(X[:1])
    done = []
    thread = threading.Thread(target=lambda: done.append(double.epoch(X)))
    with call_in_progress(double, X[:1]):
        thread.start()
        thread.join(0.3)
        assert not done and thread.is_alive()
    thread.join(30)
    np.testing.assert_array_equal(done[0].data, X * 2)
