"""The tape records in each mode and thread what it should."""

import asyncio
import contextlib
import contextvars
import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from leaves import leaf

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim
from minigrad.engine.tape import Record, tape
from minigrad.errors import DtypeError, GradError, MinigradError

ENGINE = sys.modules["minigrad.engine.dispatch"]
TAPE = sys.modules["minigrad.engine.tape"]


# --- modes --------------------------------------------------------------------------------------


def test_no_grad_records_nothing_and_enable_grad_does_again():
    x = leaf([1.0, 2.0])
    with mg.no_grad():
        assert not mg.is_grad_enabled()
        silent = x * x
        with mg.enable_grad():
            assert mg.is_grad_enabled()
            recorded = x * x
        assert not mg.is_grad_enabled()
        assert leaf(1.0).requires_grad  # leaves are what one says
    assert mg.is_grad_enabled()
    assert not silent.requires_grad and silent.is_leaf
    assert recorded.requires_grad and not recorded.is_leaf


def test_one_context_may_be_used_again_and_inside_itself():
    off = mg.no_grad()
    for _ in range(2):
        with off:
            with mg.enable_grad(), off, off:
                assert not mg.is_grad_enabled()
            assert not mg.is_grad_enabled()
        assert mg.is_grad_enabled()


def test_an_exception_restores_the_mode():
    for mode in (mg.no_grad, mg.enable_grad):
        for _ in range(2):
            with contextlib.suppress(ZeroDivisionError), mode():
                raise ZeroDivisionError
            assert mg.is_grad_enabled()
    with mg.no_grad():
        with contextlib.suppress(ZeroDivisionError), mg.enable_grad():
            raise ZeroDivisionError
        assert not mg.is_grad_enabled()


def test_as_a_decorator_also_of_what_calls_itself_or_raises():
    @mg.no_grad()
    def descend(n):
        """Its docstring."""
        assert not mg.is_grad_enabled()
        with mg.enable_grad():
            result = descend(n - 1) + 1 if n else 1 // (n - n + 1)
            assert mg.is_grad_enabled()
        return result

    assert (descend.__name__, descend.__doc__) == ("descend", "Its docstring.")
    assert descend(3) == 4 and mg.is_grad_enabled()

    @mg.no_grad()
    def fail():
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert mg.is_grad_enabled()


@pytest.mark.parametrize(("mode", "inside"), [(mg.no_grad, False), (mg.enable_grad, True)])
def test_a_decorator_may_go_without_parentheses(mode, inside):
    @mode
    def mode_of(x):
        """Why."""
        return x, mg.is_grad_enabled()

    assert mode_of(3) == (3, inside) and mode_of.__doc__ == "Why." and mg.is_grad_enabled()
    for wrong in (5, "text"):
        for use in (mode, lambda wrong: mode()(wrong)):
            with pytest.raises(DtypeError, match=rf"^{mode.__name__}: .*got .*`with mg\."):
                use(wrong)


def test_what_suspends_cannot_be_decorated():
    # The mode would have ended before its body runs: better an error than no effect.
    def numbers():
        yield 1

    async def answer():
        return 1

    for function in (numbers, answer):
        with pytest.raises(DtypeError, match=rf"{function.__name__} suspends.*inside it"):
            mg.no_grad()(function)


def test_a_step_inside_backward_with_create_graph_sees_the_mode_of_its_caller():
    x = leaf(2.0)
    with mg.no_grad():
        (g,) = mg.grad(recorded(x), x, create_graph=True)
        assert g.requires_grad and not mg.is_grad_enabled()
    (g,) = mg.grad(recorded(x), x)
    assert not g.requires_grad and mg.is_grad_enabled()
    with pytest.raises(GradError):
        mg.grad(recorded(x), [x, leaf(1.0)], create_graph=False)
    assert mg.is_grad_enabled()


def recorded(x):
    """Return x^2, recorded whatever the mode."""
    with mg.enable_grad():
        return x * x


def test_threads_and_tasks_do_not_see_each_others_modes():
    inside, done = threading.Event(), threading.Event()
    seen = []

    def other():
        inside.wait(10)
        seen.append(mg.is_grad_enabled())
        with mg.no_grad():
            done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with mg.no_grad():
        inside.set()
        done.wait(10)
    thread.join()
    assert seen == [True]

    async def task(mode, inside_first, inside_second):
        with mode():
            inside_first.set()
            await inside_second.wait()
            return mg.is_grad_enabled()

    async def both():
        a, b = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(task(mg.no_grad, a, b), task(mg.enable_grad, b, a))

    assert asyncio.run(both()) == [False, True]
    assert mg.is_grad_enabled()


def test_one_context_shared_by_threads_restores_each_its_own_mode():
    shared, entered, left = mg.no_grad(), threading.Event(), threading.Event()
    after = []

    def other():
        with mg.no_grad():
            with shared:
                entered.set()
                left.wait(10)
            after.append(mg.is_grad_enabled())

    def here():
        with shared:
            thread.start()
            entered.wait(10)
        return mg.is_grad_enabled()

    thread = threading.Thread(target=other)
    enabled = contextvars.copy_context().run(here)  # a wrong mode must not reach other tests
    left.set()
    thread.join()
    assert enabled and after == [False]


def train(seed):
    """Return losses and final weights of a small model, without the shared generator."""
    random = np.random.default_rng(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    with mg.no_grad():
        for p in model.parameters():
            p.copy_(random.normal(size=p.shape))
    sgd = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(30):
        x, labels = random.normal(size=(16, 6)).astype("f"), random.integers(0, 3, 16)
        sgd.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        sgd.step()
        with mg.no_grad():
            losses.append(loss.item() + model(x).sum().item())
    return losses, {k: v.tolist() for k, v in model.state_dict().items()}


def test_eight_threads_train_as_one_after_the_other_would():
    serially = [train(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(train, range(8))) == serially
    assert serially[0] != serially[1]


# --- records ------------------------------------------------------------------------------------


def test_the_tape_lists_what_was_applied_in_order():
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    a = x * y
    other = x.exp()
    loss = (a + y).sum()
    records = tape([loss])
    assert [r.primitive.name for r in records] == ["mul", "add", "sum"]
    assert records[0].inputs == (x, y) and records[0].y is a.numpy()
    assert [r.number for r in records] == sorted({r.number for r in records})
    both = tape([loss, other])
    assert [r.primitive.name for r in both] == ["mul", "exp", "add", "sum"]
    assert tape([x]) == []
    loss.backward()
    assert all(r.inputs is None and r.y is None for r in records)
    assert tape([other])[-1].inputs is not None


def test_nothing_is_recorded_of_constants_or_of_a_forward_that_failed(monkeypatch):
    made = []

    class Counted(Record):
        __slots__ = ()

        def __init__(self, *args):
            made.append(self)
            super().__init__(*args)

    monkeypatch.setattr(ENGINE, "Record", Counted)
    x = leaf(np.ones((2, 3)))
    for wrong in (
        lambda: x + np.ones(4),
        lambda: x @ x,
        lambda: x[5],
        lambda: mg.concat([x, x.detach()[:, :2]]),
        lambda: F.linear(x, np.ones((2, 2))),
        lambda: F.cross_entropy(x, np.array([0, 3])),
        lambda: x + None,
    ):
        with pytest.raises(MinigradError):
            wrong()
    mg.tensor([1.0]) * 2.0 + np.ones(1)
    assert made == [] and x.grad is None
    assert tape([x * 2.0]) == made


# --- interrupts ---------------------------------------------------------------------------------


def backward_of(x):
    (x * x).sum().backward()


def second_of(x):
    (x * x).sum().backward()
    (x * x).sum().backward()


def in_no_grad(x):
    with mg.no_grad():
        pass


def compiled(x):
    mg.compile(lambda x: x * 2)(x)


def explained(x):
    mg.explain((x * 2).sum())


MODES = {
    "grad_mode": sys.modules["minigrad.engine.tape"],
    "tracer": sys.modules["minigrad.engine.tracer"],
}

# How often each sets a mode, or sets it back.
SETTING = [
    *(("grad_mode", use, nth) for use, n in ((backward_of, 2), (second_of, 6)) for nth in range(n)),
    *(("grad_mode", use, nth) for use in (in_no_grad, explained) for nth in range(2)),
    *(("tracer", use, nth) for use in (compiled, explained) for nth in range(2)),
]


@pytest.mark.parametrize(("variable", "use", "nth"), SETTING)
def test_an_interrupt_where_a_mode_is_set_leaves_none_behind(variable, use, nth):
    """Python handles a signal when a function of C has returned."""
    watched, seen = getattr(MODES[variable], variable), []

    def profile(frame, event, function):
        if event == "c_return" and function.__name__ == "set" and function.__self__ is watched:
            seen.append(frame)
            if len(seen) == nth + 1:
                raise KeyboardInterrupt

    x = leaf([1.0, 2.0])
    sys.setprofile(profile)
    try:
        with pytest.raises(KeyboardInterrupt):
            use(x)
    finally:
        sys.setprofile(None)
    assert MODES["grad_mode"].grad_mode.get() is True and MODES["tracer"].tracer.get() is None
    x = leaf([1.0, 2.0])
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("nth", range(3))
def test_an_interrupt_where_the_tracer_is_put_back_leaves_none_behind(nth):
    """Inside the trace of a step, the engine runs primitives without the tracer."""
    seen = []

    def profile(frame, event, argument):
        if event == "call" and frame.f_code.co_name == "__exit__":
            seen.append(frame)
            if len(seen) == nth + 1:
                raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        with pytest.raises(KeyboardInterrupt):
            mg.compile(lambda x: x * 2 + 1)(leaf([1.0]))
    finally:
        sys.setprofile(None)
    seen.clear()
    gc.collect()
    assert MODES["tracer"].tracer.get() is None


def test_the_last_change_is_the_latest_whatever_thread_comes_first(monkeypatch):
    """A thread may get its time first, and note it last."""
    monkeypatch.setattr(TAPE, "clock", iter([10**12, 10**12 - 4]))
    monkeypatch.setattr(TAPE, "_last_change", [0])
    assert [TAPE.stamp_change(), TAPE.stamp_change()] == [10**12, 10**12 - 4]
    assert TAPE.last_change() == 10**12
