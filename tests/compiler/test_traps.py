"""Compiled steps avoid old mistakes about views, changes in place, dtypes and outside values.

Generated functions run as Python.
"""

import dataclasses
import itertools
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim
from minigrad.compiler.runtime.trace_cache import MOST_ALIKE
from minigrad.errors import TraceError

pytestmark = pytest.mark.usefixtures("as_python")


def square(seed):
    return np.random.default_rng(seed).standard_normal((4, 4))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * 2) + (x * 2).T,
        lambda x: mg.exp(x) - mg.exp(x)[1],
        lambda x: mg.tanh(x)[0] * 2 + mg.tanh(x).reshape(-1)[:4],
        lambda x: mg.exp(x[1])[2] * 2.0,
        lambda x: (x < 0.5) & (x.astype("int64") < 0.5) | mg.equal(x.astype("float32"), 1),
        lambda x: (x.astype("int32") + 1).astype("float64") * x,
        lambda x: mg.tensor(x) * 2 + mg.tensor(x, dtype="float32"),
        lambda x: x + [1.0, 2.0, 3.0, 4.0],
        lambda x: (1.0 / (x * 0.0), 1.0 / (x * -0.0)),
        lambda range: range * 2,
        lambda float: float * 0.5 + 1,
    ],
    ids=range(11),
)
@pytest.mark.filterwarnings("ignore:compile. .* cannot be compiled", "ignore:divide by zero")
def test_functions(function):
    compiled = mg.compile(function)
    compiled(square(0))
    for seed in (1, 2):
        got, expected = compiled(square(seed)), function(mg.tensor(square(seed)))
        for a, b in zip(*[y if isinstance(y, tuple) else (y,) for y in (got, expected)],
                        strict=True):  # fmt: skip
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a.data, b.data, rtol=1e-12)


def test_a_view_that_is_read_before_and_after_a_change():
    def make():
        p = mg.tensor(np.zeros((2, 2)))

        def step(x):
            v = p.reshape(-1)
            a = v * 2
            p.copy_(x)
            return a, v * 2, p.T * 2

        return step

    one, two = make(), mg.compile(make())
    for seed in range(3):
        x = square(seed)[:2, :2]
        for a, b in zip(one(mg.tensor(x)), two(x), strict=True):
            np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize(
    "change",
    [
        lambda p, x: p.T.copy_(x),
        lambda p, x: p[1:3].copy_(x[1:3]),
        lambda p, x: p.reshape(-1).copy_(x.reshape(-1)),
        lambda p, x: x.copy_(p),
    ],
)
def test_changes_of_views_and_arguments_are_refused(change):
    """Everything is taken back."""
    p = mg.tensor(np.zeros((4, 4)))

    def step(x):
        p.copy_(p + 1)
        change(p, x)
        return p * 1.0

    x = square(0)
    before = x.copy()
    with pytest.raises(TraceError, match="would change"):
        mg.compile(step)(x)
    assert not p.data.any()
    np.testing.assert_array_equal(x, before)


def test_sums_are_not_taken_apart_where_parts_have_changed():
    def make():
        q = mg.tensor(np.ones(4))

        def step(x):
            p = mg.tensor(np.ones((1, 4)), requires_grad=True)
            y = q + x
            z = x + p
            q.copy_(x[0] * 5)
            return mg.grad(z, [p], y)

        return step

    one, two = make(), mg.compile(make())
    for seed in range(3):
        (a,), (b,) = one(mg.tensor(square(seed))), two(square(seed))
        np.testing.assert_allclose(a.data, b.data, rtol=1e-12)


def test_zero_grad_to_zeros():
    def make():
        p = nn.Parameter(np.ones(3))
        q = nn.Parameter(np.ones(3))
        opt = optim.SGD([p, q], lr=0.1, momentum=0.9)

        def step(x):
            opt.zero_grad(set_to_none=False)
            (p * x).sum().backward()
            opt.step()

        return p, q, step

    (p1, q1, one), (p2, q2, step) = make(), make()
    two = mg.compile(step)
    for i in range(6):
        x = np.full(3, float(i), np.float32)
        if i == 2:
            for q in (q1, q2):
                (q * 2).sum().backward()
        one(mg.tensor(x))
        two(x)
        assert (q1.grad is None) == (q2.grad is None)
        np.testing.assert_array_equal(p1.data, p2.data)
        np.testing.assert_array_equal(q1.data, q2.data)


@pytest.mark.filterwarnings("ignore:compile. .* cannot be compiled")
def test_state_that_only_numpy_reads():
    """Each call reads it like other state."""
    table = mg.tensor(square(0), requires_grad=True)
    rows = mg.compile(lambda x: (table[[0, 2, 2]] * x, table))
    for seed in range(4):
        table.data = square(seed)
        table.requires_grad = seed % 2 == 0
        found, whole = rows(np.ones((3, 4)))
        np.testing.assert_array_equal(found.data, table.data[[0, 2, 2]])
        np.testing.assert_array_equal(whole.data, table.data)


class Holder:
    def __init__(self, model):
        self.inner = {"all": [model]}

    def run(self, x):
        return self.inner["all"][0](x)


@pytest.mark.parametrize("way", ["argument", "helper", "object", "nested", "list", "method"])
def test_modes_of_modules_wherever_they_are_found(way):
    mg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    def helper(x):
        return model(x)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = [model]

        def forward(self, x):
            return self.parts[0](x)

    holder, outer = Holder(model), Outer()
    inner = mg.compile(helper)
    run = {
        "argument": lambda f: lambda x: f(model, x),
        "helper": lambda f: f,
        "object": lambda f: f,
        "nested": lambda f: f,
        "list": lambda f: f,
        "method": lambda f: f,
    }[way](
        mg.compile(
            {
                "argument": lambda m, x: m(x),
                "helper": lambda x: helper(x),
                "object": lambda x: holder.run(x),
                "nested": lambda x: inner(x),
                "list": lambda x: outer(x),
                "method": holder.run,
            }[way]
        )
    )
    for i in range(8):
        model.train(i % 4 < 2)
        before = model.state_dict()
        got = run(square(i).astype(np.float32))
        model.load_state_dict(before)
        expected = model(mg.tensor(square(i).astype(np.float32)))
        np.testing.assert_allclose(got.data, expected.data, rtol=1e-6, atol=1e-7)


def test_a_method_compiled_in_its_class():
    class Scale:
        def __init__(self, factor):
            self.factor = mg.tensor(factor)

        @mg.compile
        def __call__(self, x):
            return x * self.factor

    one, two = Scale(2.0), Scale(3.0)
    for x in (np.ones(2, np.float32), np.zeros(2, np.float32)):
        np.testing.assert_array_equal(one(x).data, x * 2)
        np.testing.assert_array_equal(two(x).data, x * 3)


def test_static_arguments_are_told_apart():
    f = mg.compile(lambda x, n: x * (n[0] if isinstance(n, tuple) else n))
    x = np.arange(3)
    for n in (2, 2.0, (2,), (2.0,), 0.0, -0.0, True):
        got, expected = f(x, n), mg.tensor(x) * (n[0] if isinstance(n, tuple) else n)
        assert got.dtype == expected.dtype
        assert got.data.tobytes() == expected.data.tobytes()


@pytest.mark.filterwarnings("ignore:compile. .* cannot be compiled")
def test_results_are_copies_from_the_first_call_on():
    p = mg.tensor(np.ones(3))
    a = np.ones((2, 3))
    for function in (lambda x: x, lambda x: x.T, lambda x: p, lambda x: (x * 2)[0]):
        r = mg.compile(function)(a)
        r.data[...] = 7
        assert (a == 1).all() and (p.data == 1).all()


@dataclasses.dataclass
class Result:
    loss: object


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: Result(x * 2), "returns a Result"),
        (lambda x: (x * x).sum().backward(), "backward reaches an argument"),
        (lambda x: (x > 0).astype("int64") + (2**53 + 1), "has no float64"),
    ],
)
def test_what_cannot_be_followed_is_refused(function, message):
    x = mg.tensor(np.ones(3), requires_grad=True)
    with pytest.raises(TraceError, match=message):
        mg.compile(function)(x)
    assert x.grad is None


def test_endless_traces_are_told_of():
    class Counting(nn.Module):
        calls = 0

        def forward(self, x):
            return x * self.scale[0]

    module = Counting()
    module.scale = (0,)
    g = mg.compile(lambda x: module(x))
    with pytest.warns(RuntimeWarning, match=f"traced more than {MOST_ALIKE} times") as caught:
        for n in range(MOST_ALIKE + 24):
            module.scale = (n,)
            np.testing.assert_array_equal(g(np.ones(2)).data, n)
    assert len(caught) == 1
    assert g.traces == MOST_ALIKE


def test_traces_in_several_threads_leave_no_trace():
    """Calls of primitives and modules are as they were, however traces overlap."""
    before = mg.ops.Primitive.__call__, nn.Module.__call__
    start = threading.Barrier(4)

    def work(seed):
        start.wait(10)
        for i in range(20):
            model = nn.Linear(3, 3)
            f = mg.compile(lambda x, model=model: F.relu(model(x)))
            f(np.ones((2, 3), np.float32) * i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (mg.ops.Primitive.__call__, nn.Module.__call__) == before


@pytest.mark.parametrize(
    "make", [lambda: iter([1.0, 2.0]), itertools.count, lambda: (i for i in range(3))]
)
def test_iterators_outside_are_refused(make):
    """They would advance in the trace alone; none has advanced when the error is raised."""
    items = make()
    step = mg.compile(lambda x: x * next(items))
    with pytest.raises(TraceError, match=r"items, a .*, would advance in the first call alone"):
        step(np.ones(2))
    assert next(items) == next(make())


def test_batches_inside_a_step_are_refused():
    loader = mg.data.DataLoader(np.arange(6.0), batch_size=2)
    step = mg.compile(lambda x: x * next(iter(loader)))
    with pytest.raises(TraceError, match=r"a batch of a DataLoader, in .*test_traps.py"):
        step(np.ones(2))
    assert loader.state_dict()["epoch"] == loader.state_dict()["batches_yielded"] == 0
    count = mg.compile(lambda x: x / len(loader))
    np.testing.assert_array_equal(count(np.ones(2)).data, np.ones(2) / 3)


def test_what_python_reads_of_a_tensor_that_is_no_operand():
    w = mg.tensor([1.0], requires_grad=True)
    step = mg.compile(lambda x: x * (2.0 if w.requires_grad else 1.0) * w.dtype.itemsize)
    for change in (lambda: None, lambda: w.requires_grad_(False), lambda: w.convert_("float64")):
        change()
        expected = (2.0 if w.requires_grad else 1.0) * w.dtype.itemsize
        for _ in range(2):
            np.testing.assert_array_equal(step(np.ones(2)).data, np.ones(2) * expected)
    assert step.traces == 3
