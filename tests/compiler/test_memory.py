"""Compiled steps are right where memory is shared: views, arguments, gradients and Tensors.

Other cases are several updates in one step, and what is left after an error.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_networks import network

import minigrad as mg
from minigrad import functional as F
from minigrad import optim
from minigrad.errors import GradError, OutOfRangeError, TraceError

X = np.arange(4, dtype=np.float32).reshape(2, 2)
ROW = np.arange(3.0)


def both(make: Callable[[], Callable[..., Any]], calls: list[tuple[Any, ...]]) -> None:
    """Check that a step gives the same in each call, compiled and not.

    make: makes the step, with its own state.
    """
    eager, compiled = make(), mg.compile(make())
    for given in calls:
        expected = eager(*map(mg.tensor, given))
        found = compiled(*given)
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_booleans_that_are_added_are_booleans() -> None:
    """Their sum is a boolean, also in the loop that computes them."""

    def make() -> Callable[..., Any]:
        def step(x: Any, y: Any) -> Any:
            found = (x > 0) + (y > 0)
            one = (x > 0) * (y > 0)
            return found, found.astype("float32") * 2, found.sum(), mg.where(one, x, found)

        return step

    both(make, [(X - 1, X - 2), (X, X), (X - 3, -X)])


def test_a_tensor_may_get_part_of_itself() -> None:
    """The copy reads the part as it was, also where it has overwritten it by then."""

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
def test_an_extreme_of_what_is_computed_twice_agrees(shape: tuple[int, int], dtype: Any) -> None:
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
def test_several_updates_in_one_step_agree(dampening: float) -> None:
    """Only the very first update is not dampened."""

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
    """A step reads it as it was, though its memory gets the new one; to change it is refused."""
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


# --- what an error leaves -----------------------------------------------------------------------


def test_a_refused_call_leaves_no_gradient_and_no_other_change() -> None:
    model, _, plain = network((2, 4, 2))
    step, good, bad = mg.compile(plain), np.array([0, 1]), np.array([0, 2])
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


# --- Tensors that come to share memory ----------------------------------------------------------


@pytest.mark.usefixtures("as_python")
def test_a_detached_twin_shares_memory_until_one_is_replaced() -> None:
    """They share one array, until one of them gets another."""
    w = mg.tensor(ROW, requires_grad=True)
    twin = w.detach()
    compiled = mg.compile(lambda x: w * 2 + twin * x)
    for i in range(6):
        if i == 2:
            w.data = ROW + 10
        if i == 4:
            twin.data = ROW - 5
        expected = w.data * 2 + twin.data * ROW
        np.testing.assert_array_equal(compiled(ROW).data, expected)


@pytest.mark.usefixtures("as_python")
def test_tensors_that_come_to_share_memory_are_noticed() -> None:
    """A change in place of one is then a change of the other, which the program does not know.

    For one array there is a new trace, and two that overlap are refused.
    """
    a, b = mg.tensor(ROW), mg.tensor(ROW)

    def step(x):
        before = b * 1.0
        a.copy_(a + x)
        return before, b * 1.0

    compiled = mg.compile(step)
    for i in range(6):
        if i == 3:
            b.data = a.data
        kept = a.data.copy(), b.data.copy()
        expected = [y.data for y in step(mg.tensor(ROW))]
        a.data[...], b.data[...] = kept[0], kept[1] if i < 3 else kept[0]
        for found, wanted in zip(compiled(ROW), expected, strict=True):
            np.testing.assert_array_equal(found.data, wanted)
    both = np.zeros(5)
    a.data, b.data = both[:3], both[1:4]
    with pytest.raises(TraceError, match="a and b share memory, and the step changes one"):
        compiled(ROW)
    np.testing.assert_array_equal(both, 0)
