"""Compiled steps are right where memory is shared: views, arguments, gradients, replaced arrays.

Other cases are several updates in one step, and what is left after an error.
"""

import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim
from minigrad.compiler.runtime import backend
from minigrad.compiler.runtime.buffers import Memory
from minigrad.compiler.runtime.trace_cache import MOST_EXECUTABLES
from minigrad.errors import GradError, OutOfRangeError, TraceError

X = np.arange(4, dtype=np.float32).reshape(2, 2)


def both(make: Callable[[], Callable[..., Any]], calls: list[tuple[Any, ...]]) -> None:
    """A step gives the same in each call, compiled and not; make: makes it, with its own state."""
    eager, compiled = make(), mg.compile(make())
    for given in calls:
        expected = eager(*map(mg.tensor, given))
        found = compiled(*given)
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_booleans_that_are_added() -> None:
    """Are a boolean, also in the loop that makes them."""

    def make() -> Callable[..., Any]:
        def step(x: Any, y: Any) -> Any:
            found = (x > 0) + (y > 0)
            one = (x > 0) * (y > 0)
            return found, found.astype("float32") * 2, found.sum(), mg.where(one, x, found)

        return step

    both(make, [(X - 1, X - 2), (X, X), (X - 3, -X)])


def test_a_tensor_gets_part_of_itself() -> None:
    """As it was before, also what the copy has overwritten by then."""

    def make() -> Callable[..., Any]:
        w = mg.tensor(np.arange(9.0).reshape(3, 3))

        def step(x: Any) -> Any:
            w.copy_(w + x)
            w.copy_(w[1].reshape(3, 1))
            before = w * 1
            w.copy_(w[0] + w.reshape(-1)[4] * x)
            w.copy_(w.T)
            return before, w * 1

        return step

    both(make, [(np.arange(9.0).reshape(3, 3) * i,) for i in range(3)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3), (8, 64), (64, 10)])
def test_an_extreme_of_what_is_computed_twice(shape: tuple[int, int], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    s = mg.tensor(rng.normal(size=shape[1]).astype(dtype), requires_grad=True)

    def gradient(x: Any) -> Any:
        a = x * s
        return mg.grad((a + s).max(axis=1).sum() + mg.tanh(a).sum(), s)[0]

    compiled, x = mg.compile(gradient), rng.normal(size=shape).astype(dtype)
    compiled(x)
    tolerance = 8 * np.finfo(dtype).eps * shape[0]
    np.testing.assert_allclose(compiled(x).data, gradient(mg.tensor(x)).data, atol=tolerance)


VIEWS: dict[str, Callable[[Any], Any]] = {
    "rows": lambda w: w[0:1],
    "a row": lambda w: w[1],
    "a column": lambda w: w[:, 0:1],
    "reversed": lambda w: w[::-1],
    "transposed": lambda w: w.T,
    "a view of a view": lambda w: w[0:1].T,
    "reshaped": lambda w: w.reshape(4),
    "detached": lambda w: w.detach(),
    "a copy": lambda w: w.T.reshape(4),
}
USES: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda b: b,
    "in a loop": lambda b: b * 2.0,
    "by a kernel": lambda b: mg.concat([b, b]),
    "summed": lambda b: b.sum(axis=0),
}


@pytest.mark.sampled(9)
@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_views_show_what_the_memory_has_become(view: Any, use: Any) -> None:
    def make() -> Any:
        w = mg.tensor(np.zeros((2, 2), np.float32))

        def step(x: Any) -> Any:
            b = view(w)
            before = use(b)
            w.copy_(x)
            return before * 1.0, use(b), b

        return step

    both(make, [(X + k,) for k in range(4)])


def test_a_conversion_to_its_own_dtype_keeps_what_was_there() -> None:
    def make() -> Any:
        w = mg.tensor(X)

        def step(x: Any) -> Any:
            old = w.astype(w.dtype)
            w.copy_(x)
            return (old - w,)

        return step

    both(make, [(X + k,) for k in range(4)])


@pytest.mark.parametrize("dampening", [0.0, 0.5])
def test_several_updates_in_one_step(dampening: float) -> None:
    """Of which only the very first is not dampened."""

    def make() -> Any:
        w = mg.tensor([1.0, 2.0], requires_grad=True)
        opt = optim.SGD([w], lr=0.1, momentum=0.9, dampening=dampening)

        def step(x: Any) -> Any:
            for _ in range(2):
                opt.zero_grad()
                (w * w * x).sum().backward()
                opt.step()
            return (w * 1.0,)

        return step

    both(make, [(X[0] + k,) for k in range(4)])


def test_random_numbers_that_nobody_reads_are_drawn() -> None:
    def step(x: Any) -> Any:
        return (F.dropout(x, 0.5), x * 2)[1], F.dropout(x, 0.5)

    mg.manual_seed(3)
    expected = [step(mg.tensor(X))[1].data for _ in range(3)]
    mg.manual_seed(3)
    compiled = mg.compile(step)
    for mask in expected:
        np.testing.assert_array_equal(compiled(X)[1].data, mask)


# --- arguments and gradients that share memory --------------------------------------------------


def test_an_argument_that_is_memory_of_what_the_step_changes_is_refused() -> None:
    w = mg.tensor(np.zeros((2, 2), np.float32))

    @mg.compile
    def step(x: Any) -> Any:
        w.copy_(w + 1)
        return x * 1.0

    step(X)
    for argument in (w, w.data, w.data[:1]):
        with pytest.raises(TraceError, match="is memory of w, which the step changes"):
            step(argument)
    assert w.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    w.data = np.zeros((2, 2), np.float32)
    step(X)
    with pytest.raises(TraceError, match="is memory of w"):
        step(w.data)


def test_beside_it_in_one_array_is_no_harm() -> None:
    whole = np.zeros((4, 2), np.float32)
    w = mg.Tensor(whole[:2])
    step = mg.compile(lambda x: (w.copy_(w + x), x * 2.0)[1])
    for _ in range(3):
        assert step(whole[2:]).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("n", [4, 1 << 16])
def test_the_gradient_of_the_call_before_may_be_an_argument(n: int) -> None:
    w = mg.tensor(np.ones(n, np.float32), requires_grad=True)

    @mg.compile
    def step(x: Any, g: Any) -> Any:
        w.grad = None
        (w * x * x).sum().backward()
        return g * 1.0

    ones = np.ones(n, np.float32)
    step(ones, ones)
    step(ones, ones)
    assert set(step(2 * ones, w.grad).tolist()) == {1.0}
    assert w.grad is not None and set(w.grad.tolist()) == {4.0}


def test_the_gradient_of_the_call_before_may_be_outside() -> None:
    """It is read as it was, though its memory gets the new one; what would change it is refused."""
    w = mg.tensor(np.ones(4, np.float32), requires_grad=True)
    before = [mg.tensor(np.zeros(4, np.float32))]

    @mg.compile
    def step(x: Any) -> Any:
        w.grad = None
        (w * w * x).sum().backward()
        return before[0] * 1.0

    @mg.compile
    def changing(x: Any) -> None:
        w.grad = None
        (w * x).sum().backward()
        before[0].copy_(x)

    for i in range(1, 5):
        assert set(step(np.full(4, i, np.float32)).tolist()) == {2.0 * (i - 1)}
        assert w.grad is not None and set(w.grad.tolist()) == {2.0 * i}
        before[0] = w.grad
    before[0] = mg.tensor(np.zeros(4, np.float32))
    changing(np.ones(4, np.float32))
    before[0] = w.grad
    with pytest.raises(TraceError, match="share memory"):
        changing(np.ones(4, np.float32))


def test_arrays_that_overlap_are_named() -> None:
    whole = np.zeros((3, 2), np.float32)
    p, q = mg.Tensor(whole[:2]), mg.Tensor(whole[1:])
    with pytest.raises(TraceError, match=r"^compile: (p and q|q and p) share memory, and the step"):
        mg.compile(lambda x: (p.copy_(x), q * 1.0)[1])(X)


# --- what others replace ------------------------------------------------------------------------


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
def test_parameters_of_another_dtype_or_order(change: Any) -> None:
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


def test_a_compiled_call_counts_as_a_change_in_place() -> None:
    """For one step, and for an epoch, whose first batch is a call and the others are not."""
    model, _, step = trained()
    compiled = mg.compile(step)
    compiled.epoch(X, batch_size=1)
    for run in (lambda: compiled(X), lambda: compiled.epoch(X, batch_size=1)):
        run()
        loss = (model(mg.tensor(X, requires_grad=True)) ** 2).sum()
        run()
        with pytest.raises(GradError, match="was changed in place"):
            loss.backward()
    executable = compiled._last
    assert executable is not None
    loss = (model(mg.tensor(X, requires_grad=True)) ** 2).sum()
    if executable.emitted.epoch:
        executable.run_rows([X], np.array([[0], [1]]))
        with pytest.raises(GradError, match="was changed in place"):
            loss.backward()


@pytest.mark.parametrize("when", [0, 1])
def test_an_epoch_with_parameters_in_another_order(when: int) -> None:
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


def test_an_epoch_that_accumulates_gradients() -> None:
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


# --- what an error leaves -----------------------------------------------------------------------


def test_a_refused_call_leaves_no_gradient_and_no_other_change() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @mg.compile
    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    good, bad = np.array([0, 1]), np.array([0, 2])
    step(X, good)
    step(X, good)
    before = {k: v.copy() for k, v in model.state_dict().items()}
    with pytest.raises(OutOfRangeError, match="got 2 at position 1"):
        step(X, bad)
    assert [p.grad for p in model.parameters()] == [None] * 6
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[k])
    own = [mg.tensor(np.ones_like(p.data)) for p in model.parameters()]
    for p, g in zip(model.parameters(), own, strict=True):
        p.grad = g
    with pytest.raises(OutOfRangeError):
        step(X, bad)
    assert all(p.grad is g for p, g in zip(model.parameters(), own, strict=True))


def test_an_error_in_the_second_update_leaves_the_first_as_without_compile() -> None:
    def make() -> tuple[Any, Any]:
        w = mg.tensor(X, requires_grad=True)
        opt = optim.SGD([w], lr=0.1)

        def step(x: Any, y: Any, z: Any) -> Any:
            for labels in (y, z):
                opt.zero_grad()
                F.cross_entropy(x @ w, labels).backward()
                opt.step()

        return w, step

    (w, eager), (w2, step) = make(), make()
    compiled, good, bad = mg.compile(step), np.array([0, 1]), np.array([0, 2])
    for _ in range(2):
        compiled(X, good, good)
        eager(mg.tensor(X), good, good)
    for run, x in ((compiled, X), (eager, mg.tensor(X))):
        loss = (w2 * w2).sum()
        with pytest.raises(OutOfRangeError):
            run(x, good, bad)
        if run is compiled:
            with pytest.raises(GradError, match="was changed in place"):
                loss.backward()
    np.testing.assert_allclose(w.data, w2.data, rtol=1e-6)


def test_large_results_are_computed_where_the_caller_has_them() -> None:
    """Each in an array of its own, which no later call writes; so do views and twice the same."""

    def several(x: Any) -> Any:
        y = x * 2.0
        return y, y, y.T, y.sum(), mg.exp(y)

    compiled = mg.compile(several)
    first, second = (np.full((200, 300), value) for value in (1.0, 2.0))
    compiled(first)
    assert (buffers := compiled._last.buffer_bytes) < first.nbytes, buffers
    calls = [(x, compiled(x)) for x in (first, second, first)]
    for x, found in calls:
        for a, b in zip(found, several(mg.tensor(x)), strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    assert calls[-1][1][0].data.ctypes.data in compiled._last.memory.places  # nothing was copied
    arrays = [y.data for _, found in calls for y in found]
    for i, a in enumerate(arrays):
        assert not any(np.shares_memory(a, b) for b in arrays[:i])
    again = compiled(compiled(second)[0])  # as an argument, it is not copied, nor written
    np.testing.assert_array_equal(again[0].data, 8.0)


def test_large_results_that_something_else_has_are_copied() -> None:
    """Of gradients, arguments and parameters; random ones are others in each call."""
    w = mg.tensor(np.ones((200, 300)), requires_grad=True)

    @mg.compile
    def step(x: Any) -> Any:
        w.grad = None
        loss = (w * x).sum()
        loss.backward()
        return w.grad, F.dropout(x, 0.5), x, w

    x = np.full((200, 300), 3.0)
    step(x)
    one, two = step(x), step(x * 2)
    for a, b in zip(one, two, strict=True):
        assert not np.shares_memory(a.data, b.data)
    for a, b in zip((two[0].data, one[2].data, one[3].data), (w.grad.data, x, w.data), strict=True):
        assert not np.shares_memory(a, b)
    np.testing.assert_array_equal(one[0].data, x)
    np.testing.assert_array_equal(w.grad.data, x * 2)
    assert (one[1].data != two[1].data).any()


def test_a_large_result_of_a_refused_call_is_let_go() -> None:
    @mg.compile
    def chosen(x: Any, i: Any) -> Any:
        return x * 2.0, x[0].sum() + F.embedding(i, x).sum()

    x = np.ones((200, 300))
    chosen(x, np.array([1, 2]))
    with pytest.raises(OutOfRangeError):
        chosen(x, np.array([1, 200]))
    assert chosen._last.memory._arrays.keys().isdisjoint(chosen._last.memory._handed)
    np.testing.assert_array_equal(chosen(x, np.array([1, 2]))[0].data, 2.0)


def test_a_refused_call_leaves_no_large_gradient() -> None:
    """Also where the step returns it: it is that of the call before."""
    w = mg.tensor(np.ones((256, 160), np.float32), requires_grad=True)

    @mg.compile
    def step(x: Any, labels: Any) -> Any:
        w.grad = None
        F.cross_entropy(x * w, labels).backward()
        return w.grad

    x, labels = np.ones((256, 160), np.float32), np.arange(256) % 160
    first, second = step(x, labels), step(x, labels)
    np.testing.assert_array_equal(first.data, second.data)
    labels[0] = 160
    with pytest.raises(OutOfRangeError):
        step(x, labels)
    assert w.grad is None
    np.testing.assert_array_equal(first.data, second.data)


# --- many shapes ---------------------------------------------------------------------------------


def test_plans_of_many_shapes_share_one_block() -> None:
    """It is as large as the largest needs, and the oldest executables go."""
    w = mg.tensor(np.ones((3, 4), np.float32), requires_grad=True)

    @mg.compile
    def step(x: Any) -> Any:
        w.grad = None
        loss = ((x @ w).tanh() ** 2).sum()
        loss.backward()
        return loss, w.grad

    lengths = [*range(1, 200), 3000, *range(200, 150, -1)]
    gradients = set()
    for n in lengths:
        x = np.full((n, 3), 0.1, np.float32)
        loss, g = step(x)
        y = np.tanh(x @ w.data)
        np.testing.assert_allclose(loss.data, (y * y).sum(), rtol=1e-5)
        np.testing.assert_allclose(g.data, x.T @ (2 * y * (1 - y * y)), rtol=1e-4)
        gradients.add(id(w.grad.data))  # type: ignore[union-attr]
    executables = [executable for kept in step._executables.values() for executable in kept]
    assert len(executables) == MOST_EXECUTABLES
    assert len(gradients) == 1
    sizes = [executable.buffer_bytes for executable in executables]
    assert max(sizes) <= step._workspace.block.size < 2 * max(sizes)


def test_a_gradient_outlives_a_call_that_makes_another_thing() -> None:
    """Plans of one function share memory, but not that of gradients."""
    w = mg.tensor(np.ones(50, np.float32), requires_grad=True)

    @mg.compile
    def step(x: Any, what: str) -> Any:
        if what == "gradient":
            w.grad = None
            (w * x).sum().backward()
            return None
        y = ((x * 3.0).exp() + x).tanh().sum()
        return y * w.grad if what == "use" else y

    for k in range(3):
        x = np.full(50, 0.1 * k, np.float32)
        step(x, "gradient")
        step(np.full(70, 5.0, np.float32), "other")
        np.testing.assert_array_equal(w.grad.data, x)  # type: ignore[union-attr]
        expected = np.tanh(np.exp(x * 3) + x).sum() * x
        np.testing.assert_allclose(step(x, "use").data, expected, rtol=1e-5)


def test_modules_are_let_go() -> None:
    """With the executables and functions that used them."""
    compiled = mg.compile(lambda x: (x + 12.25).exp().sum(0) * 7.5 - x)
    compiled(X)
    gone = weakref.ref(compiled), weakref.ref(compiled._last.module)
    name = compiled._last.module.__name__
    del compiled
    gc.collect()
    assert [made() for made in gone] == [None, None]
    assert name not in backend._built and name not in sys.modules


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
