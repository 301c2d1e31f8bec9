"""A number from outside a step that changes becomes an input of the program: no more traces.

Generated functions run as Python, except where a test says otherwise.
"""

import builtins
import json
import math
import threading
import types
import warnings
from collections import deque

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim
from minigrad.compiler.ir import live_numbers
from minigrad.compiler.ir.live_numbers import LiveNumber
from minigrad.compiler.runtime.executable import Executable
from minigrad.compiler.tracing.numbers import MANY
from minigrad.errors import ShapeError

X = np.linspace(-2.0, 2.0, 12).reshape(3, 4)
RATE = 1.0
DTYPES = ["float32", "float64"]
EXTREMES = [math.nan, math.inf, -0.0, 0.0, 5e-324, 1e300, -1.5]
VALUES = {
    "floats": [*EXTREMES, *(0.37 * i for i in range(33))],
    "ints": [*range(-5, 35)],
    "float32": [np.float32(0.37 * i) for i in range(40)],
    "float64": [np.float64(0.37 * i) for i in range(40)],
    "int64": [np.int64(i) for i in range(40)],
}


@pytest.fixture
def python(as_python):
    """Generated functions run as Python; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def bits(result):
    """Return the elements of Tensors, and the classes and texts of numbers, as a list."""
    if isinstance(result, mg.Tensor):
        return [(str(result.dtype), result.shape, result.data.tobytes())]
    if isinstance(result, dict):
        result = [*result.items()]
    if isinstance(result, (tuple, list)):
        return [part for x in result for part in bits(x)]
    assert type(result) is not LiveNumber
    return [(type(result), repr(result))]


class Own:
    """An Own has a number under several names."""

    def __init__(self):
        self.n = 1.0
        self.inner = types.SimpleNamespace(n=1.0)
        self.items = {"n": 1.0, "list": [2.0, 1.0, 3.0], 7: 1.0}

    def scaled(self, x):
        return x * self.n

    @property
    def half(self):
        return self.n / 2


class Slotted:
    __slots__ = ("n",)


class Net(nn.Module):
    def __init__(self):
        self.n = 1.0

    def forward(self, x):
        return x * self.n


def attribute():
    own = Own()
    return lambda x: own.n * x + own.n, lambda n: setattr(own, "n", n)


def method():
    own = Own()
    return own.scaled, lambda n: setattr(own, "n", n)


def attribute_twice():
    """The dict of attributes is named, too."""
    own = Own()
    return lambda x: x * own.n + vars(own)["n"], lambda n: setattr(own, "n", n)


def prop():
    own = Own()
    return lambda x: x * own.half, lambda n: setattr(own, "n", n)


def namespace():
    own = Own()
    return lambda x: x * own.inner.n, lambda n: setattr(own.inner, "n", n)


def slot():
    own = Slotted()
    return lambda x: x * own.n, lambda n: setattr(own, "n", n)


def of_a_module():
    net = Net()
    return lambda x: net(x), lambda n: setattr(net, "n", n)


def of_a_module_behind():
    net = Net()
    return lambda x: net(x), lambda n: vars(net).update(n=n)


def a_global():
    return lambda x: x * RATE, lambda n: globals().update(RATE=n)


def a_builtin():
    return lambda x: x * BUILTIN_RATE, lambda n: setattr(builtins, "BUILTIN_RATE", n)  # noqa: F821


def cell():
    n = 1.0

    def change(value):
        nonlocal n
        n = value

    return lambda x: x * n, change


def item():
    own = Own()
    return lambda x: x * own.items["n"], lambda n: own.items.update(n=n)


def item_with_another_key():
    own = Own()
    return lambda x: x * own.items[7], lambda n: own.items.update({7: n})


def in_a_list():
    own = Own()
    numbers = own.items["list"]
    return lambda x: x * own.items["list"][1] + numbers[0], lambda n: numbers.__setitem__(1, n)


def in_a_helper():
    own = Own()

    def helper(x, rate):
        return x * rate

    return lambda x: helper(x, own.n), lambda n: setattr(own, "n", n)


PLACES = [
    attribute,
    method,
    attribute_twice,
    prop,
    namespace,
    slot,
    of_a_module,
    of_a_module_behind,
    a_global,
    a_builtin,
    cell,
    item,
    item_with_another_key,
    in_a_list,
    in_a_helper,
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("place", PLACES)
def test_a_number_that_changes_becomes_an_input(place, values, dtype, python, monkeypatch):
    """Two traces serve 40 values, with the bits of eager calls; the place keeps its number."""
    monkeypatch.setitem(globals(), "RATE", 1.0)
    monkeypatch.setattr(builtins, "BUILTIN_RATE", 1.0, raising=False)
    function, change = place()
    step, x = mg.compile(function), X.astype(dtype)
    for n in VALUES[values]:
        change(n)
        with np.errstate(all="ignore"):
            assert bits(step(x)) == bits(function(mg.tensor(x)))
    assert step.traces == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("way", ["positional", "keyword", "default"])
def test_an_argument_that_changes_becomes_an_input(way, values, dtype, python):
    def function(x, first=2, *, n=None):
        return x * first if n is None else x * n

    step, x = mg.compile(function), X.astype(dtype)
    for n in VALUES[values]:
        args, kwargs = ((n,), {}) if way == "positional" else ((), {"n": n})
        if way == "default" and n == VALUES[values][3]:
            kwargs = {}  # the same function without the argument
        with np.errstate(all="ignore"):
            assert bits(step(x, *args, **kwargs)) == bits(function(mg.tensor(x), *args, **kwargs))
    assert step.traces == 3 if way == "default" else 2


own = Own()  # what the following functions use
LABELS = np.array([0, 1, 2])
GIVEN = mg.tensor(np.arange(12).reshape(3, 4))


def grad(function):
    def gradient(x):
        w = x * 1.0
        return mg.grad(function(w).sum(), w)[0]

    return gradient


def encoded(x):
    try:
        json.dumps(own.n)
    except TypeError:  # some classes of numbers, and live ones
        return x
    return x * own.n


# Two traces are enough for these.
LIVE = {
    "operators": lambda x: (own.n - x) / 3.0 + x / own.n - own.n + -own.n + abs(own.n),
    "in place of an array": lambda x: mg.where(x > own.n, own.n, mg.maximum(x, own.n)),
    "schedule": lambda x: x * (0.1 * 0.5 ** (own.n / 10) + own.n % 3 + own.n // 2),
    "NumPy's functions": lambda x: x * np.exp(-own.n * own.n) + np.cos(own.n),
    "rounded": lambda x: x * round(own.n, 1) if own.n == own.n else x,
    "gradient": grad(lambda x: x * own.n * x),
    "power": lambda x: x * 2.0**own.n,
    "leaky_relu": lambda x: F.leaky_relu(x, own.n),
    "dropout": lambda x: F.dropout(x, abs(own.n) / 64),
    "result": lambda x: (x, own.n, [own.n * 2, {"n": own.n + 1}]),
    "loss": lambda x: F.cross_entropy(x, LABELS) * own.n,
    "mean": lambda x: (x * own.n).mean(0) / own.n,
    "isinstance": lambda x: x * own.n if isinstance(own.n, (int, float, np.number)) else x,
}
# These look at the number: each trace is for what they have seen.
SEEN = {
    "branch": lambda x: x * own.n if own.n < 3 else x - own.n,
    "truth": lambda x: x * own.n if own.n else x,
    "division": lambda x: x * (1 / own.n) if own.n else x,
    "in a list": lambda x: x * own.n if own.n in (2.0, 3.0) else x,
    "largest": lambda x: x * max(own.n, 0.5),
    "int": lambda x: x[: abs(int(own.n)) % 3 + 1],
    "float": lambda x: x * math.exp(-abs(float(own.n))),
    "text": lambda x: (x * own.n, f"{own.n:.2f}", str(own.n), repr([own.n])),
    "key": lambda x: x * {own.n: 2.0}[own.n],
    "json": lambda x: (x * own.n, json.dumps({"n": float(own.n)})),
    "NumPy's array": lambda x: x * np.full(4, own.n, np.float32) + np.ones(4) * own.n,
    "Tensor": lambda x: x * mg.tensor(own.n) + mg.tensor([own.n, 1.0, own.n, 2.0]),
    "exponent": lambda x: abs(x) ** own.n,
    "gradient of a power": grad(lambda x: abs(x) ** own.n),
    "type": lambda x: x * own.n if type(own.n) is float else x - own.n,
    "attribute of a number": lambda x: x * own.n if own.n.imag == 0 else x,
    "eps": lambda x: F.batch_norm(x, training=True, eps=abs(own.n) + 0.1),
    "integers": lambda x: (GIVEN * own.n, mg.greater(GIVEN, own.n)),
    "only numbers": lambda x: x * mg.exp(own.n),
    "axis": lambda x: x.sum(axis=math.floor(own.n) % 2),
    "shape": lambda x: x.reshape(math.floor(own.n) % 2 + 1, -1),
    "index": lambda x: x[math.floor(own.n) % 3],
    "slice": lambda x: x[math.floor(own.n) % 3 :],
    "range": lambda x: sum([x for _ in range(math.floor(own.n) % 3)], x),
    "complex": lambda x: x * abs(1j * own.n),
    "power of a NumPy scalar": lambda x: x * np.float32(2.0) ** own.n,
    "exception": lambda x: encoded(x),
}
USED = [3.5, 3.0, 0.5, 2.0, 3.0, 0.5, -0.0, 0.0, 60.5, 0.6]


@pytest.mark.sampled(7)
@pytest.mark.filterwarnings("ignore:compile. .* was traced:RuntimeWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [float, int, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("name", [*LIVE, *SEEN])
def test_live_numbers_compute_as_numbers(name, kind, dtype, as_python, monkeypatch):
    """Each call has the bits of a function that is compiled for this number only."""
    function = {**LIVE, **SEEN}[name]
    x = mg.tensor(X.astype(dtype), requires_grad="gradient" in name)
    step = mg.compile(function)
    expected = {}
    with np.errstate(all="ignore"):
        for n in map(kind, USED):
            monkeypatch.setattr(own, "n", n)
            if str(n) not in expected:
                mg.manual_seed(0)
                expected[str(n)] = bits(mg.compile(lambda x: function(x))(x))
            mg.manual_seed(0)
            assert bits(step(x)) == expected[str(n)]
            assert own.n is n
    assert name in SEEN or step.traces <= 3


def test_numbers_in_an_eager_loop_are_followed(python):
    """Momentum of statistics, the p of a dropout and a rule of one's own, over 40 updates."""

    def trained(compiled):
        mg.manual_seed(0)
        rate = Own()
        model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.Linear(5, 3))

        def step(x):
            loss = F.cross_entropy(model(x), LABELS)
            gradients = mg.grad(loss, [*model.parameters()])
            with mg.no_grad():
                for p, g in zip(model.parameters(), gradients, strict=True):
                    p.copy_(p - rate.n * 0.5 * g)
            return loss

        run, losses = mg.compile(step) if compiled else step, []
        for i in range(40):
            rate.n = 0.1 / (1 + i)
            model[1].momentum = 0.5 / (1 + i)
            model[2].p = 0.5 - i / 100
            losses.append(run(mg.tensor(X.astype("float32"))).item())
        return losses, model.state_dict(), run

    (losses, state, _), (ours, own_state, run) = trained(False), trained(True)
    np.testing.assert_allclose(ours, losses, rtol=1e-5)
    for name, array in state.items():
        np.testing.assert_allclose(own_state[name], array, rtol=1e-4, atol=1e-6)
    assert run.traces == 2


def test_compiled_code_reads_numbers(executables):
    """Numba compiles once for the first number, and once for all others, whatever they are."""
    own = Own()
    step = mg.compile(lambda x, n: (x * own.n - n) * own.n)
    for i in range(40):
        own.n = 0.1 * i
        result = step(X.astype("float32"), i / 3)
        wanted = (mg.tensor(X.astype("float32")) * own.n - i / 3) * own.n
        assert bits(result) == bits(wanted)
    assert len(executables) == 2
    again = mg.compile(lambda x, n: (x * own.n - n) * own.n)
    for own.n in (7.0, 8.0):
        again(X.astype("float32"), own.n)
    assert again.source == step.source  # so another process finds the code on disk
    assert "mul(%x, %own.n)" in step.program
    assert "numbers read in each call: the argument n, own.n" in step.report()


@pytest.mark.parametrize("other", ["text", None, True, mg.tensor(2.0), np.ones(())])
def test_another_kind_of_value_causes_a_trace(other, python):
    own = Own()
    step = mg.compile(lambda x: x * (own.n if isinstance(own.n, (float, mg.Tensor)) else 2.0))
    for n in (1.0, 2.0, other, 3.0, other, 4.0):
        own.n = n
        result = X * (n if isinstance(n, float) or n is np.ones(()) else 2.0)
        np.testing.assert_array_equal(step(X).data, result)
    assert step.traces == 3


def test_traces_are_used_again(python):
    """A number that comes back to the value of the first trace causes no trace, and no warning."""
    own = Own()
    step = mg.compile(lambda x: x * own.n if own.n < 2 else x + own.n)
    for i in range(60):
        own.n = 1.0 + 2 * (i % 2)
        wanted = X * own.n if own.n < 2 else X + own.n
        np.testing.assert_array_equal(step(X).data, wanted)
    assert step.traces == 2


def test_errors_of_numbers_are_pythons(python):
    own = Own()
    step = mg.compile(lambda x: x * (1 / own.n))
    for own.n in (1.0, 2.0, 4.0):
        step(X)
    own.n = 0.0
    with pytest.raises(ZeroDivisionError):
        step(X)
    assert type(own.n) is float
    own.n = 5.0
    np.testing.assert_array_equal(step(X).data, X * 0.2)
    assert step.traces == 2


def test_a_step_that_fails_leaves_the_number(python):
    own = Own()
    step = mg.compile(lambda x: x * own.n)
    for own.n in (1.0, 2.0):
        step(X)

    wrong = mg.compile(lambda x, y: x * own.n @ y)
    for own.n in (1.0, 2.0, 3.0):
        with pytest.raises(ShapeError):
            wrong(X, X)
    assert type(own.n) is float


def test_what_a_step_stores_is_a_number(python):
    """It may be of another step, an item or in a tuple; the step is traced when it would differ."""
    own = Own()
    own.last, own.all, own.pair = 0.0, [], None

    def function(x):
        own.last = own.n * 2
        own.all.append(own.n)
        own.pair = own.n, own.last
        return x * own.n

    step = mg.compile(function)
    with pytest.warns(RuntimeWarning, match="own.n|own.last"):
        for i in range(12):
            own.n = float(i)
            np.testing.assert_array_equal(step(X).data, X * i)
            assert (own.last, own.pair) == (2.0 * i, (i, 2.0 * i))
            assert {*map(type, (own.n, own.last, *own.all, *own.pair))} == {float}


@pytest.mark.filterwarnings("ignore:compile. .* was traced:RuntimeWarning")
def test_what_a_step_puts_into_a_deque_is_a_number(as_python):
    own = Own()
    own.latest = deque(maxlen=3)
    step = mg.compile(lambda x: own.latest.append(own.n * 2) or x * own.n)
    for i in range(12):
        own.n = float(i)
        np.testing.assert_array_equal(step(X).data, X * i)
        assert [*own.latest] == [2.0 * j for j in range(max(0, i - 2), i + 1)]
        assert {*map(type, own.latest)} == {float}


def test_a_step_on_the_tape_counts_once(as_python):
    """It runs once in each call, since the trace before had results on the tape."""
    own, w = Own(), mg.tensor(X, requires_grad=True)
    own.seen = []

    def function(x):
        own.n += 1
        own.seen.append(own.n)
        return x * w * own.n

    step = mg.compile(function)
    for i in range(5):
        np.testing.assert_array_equal(step(np.ones_like(X)).data, X * (i + 2))
        assert own.seen == [j + 2.0 for j in range(i + 1)] and type(own.n) is float


def test_a_trace_that_fails_counts_once(as_python):
    """No live number can be in a set, so the second call runs the step twice."""
    own = Own()
    own.seen = set()

    def function(x):
        own.n += 1
        own.seen.add(own.n)
        return x * own.n

    step = mg.compile(function)
    for i in range(5):
        np.testing.assert_array_equal(step(X).data, X * (i + 2))
        assert own.n == i + 2.0 and type(own.n) is float


@pytest.mark.filterwarnings("ignore:compile. .* was traced:RuntimeWarning")
def test_threads_of_a_step_get_numbers(as_python):
    """Each trace is for the number that the other thread has seen."""
    own = Own()

    def function(x):
        found = []
        thread = threading.Thread(target=lambda: found.append(own.n * 2))
        thread.start()
        thread.join()
        return x * own.n + found[0]

    step = mg.compile(function)
    for own.n in (1.0, 2.0, 3.0, 4.0):
        np.testing.assert_array_equal(step(X).data, X * own.n + own.n * 2)


def test_a_sum_that_python_corrects_is_of_numbers(as_python, monkeypatch):
    """From Python 3.12 on, `sum` corrects the rounding of floats, though not of other classes."""
    monkeypatch.setattr(live_numbers, "CORRECTS_SUMS", True)
    own = Own()
    summed = mg.compile(lambda x: x * sum([0.1, own.n, 0.3]))
    added = mg.compile(lambda x: x * (0.1 + own.n + 0.3))
    for own.n in (0.1, 0.2, 0.4, 0.5):
        np.testing.assert_array_equal(summed(X).data, X * sum([0.1, own.n, 0.3]))
        np.testing.assert_array_equal(added(X).data, X * (0.1 + own.n + 0.3))
    assert (summed.traces, added.traces) == (4, 2)


def test_a_tensor_that_a_step_stores_follows_the_number(python):
    """The step may store one that is the same in each call, so a trace is for one number."""
    own = Own()

    def function(x):
        own.kept = mg.tensor(X) * own.n
        return x * own.n

    step = mg.compile(function)
    for own.n in (1.0, 2.0, 3.0, 4.0):
        np.testing.assert_array_equal(step(X).data, X * own.n)
        np.testing.assert_array_equal(own.kept.data, X * own.n)


def test_a_step_that_counts_is_told_of(python):
    """The step runs in each call, as before; the warning names the counter."""
    own = Own()

    def function(x):
        own.n += 1
        return x * own.n

    step = mg.compile(function)
    with pytest.warns(RuntimeWarning, match=f"function was traced {MANY} times .* own.n") as caught:
        for i in range(20):
            np.testing.assert_array_equal(step(X).data, X * (i + 2))
    assert len(caught) == 1 and own.n == 21.0 and type(own.n) is float


@pytest.mark.parametrize(
    ("name", "function", "change"),
    [
        ("own.n", lambda x: x * math.cos(own.n), lambda n: setattr(own, "n", n)),
        ("RATE", lambda x: x * math.cos(RATE), lambda n: globals().update(RATE=n)),
        ("own.items\\['n'\\]", lambda x: x ** own.items["n"], lambda n: own.items.update(n=n)),
    ],
)
def test_numbers_that_decide_something_are_named(name, function, change, as_python):
    """One warning comes after several traces, and names the place."""
    step = mg.compile(function)
    with pytest.warns(RuntimeWarning, match=f"traced {MANY} times because {name} was") as caught:
        for i in range(40):
            change(0.1 * i)
            np.testing.assert_allclose(step(X**2).data, function(mg.tensor(X**2)).data)
    assert len(caught) == 1


def test_an_argument_that_decides_something_is_named(as_python):
    step = mg.compile(lambda x, n: x * math.cos(n))
    with pytest.warns(RuntimeWarning, match="the argument n was another number") as caught:
        for i in range(40):
            np.testing.assert_array_equal(step(X, i / 4).data, X * math.cos(i / 4))
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore:compile. .* was traced:RuntimeWarning")
def test_a_backward_pass_has_the_numbers_of_its_call(as_python):
    """A change between a call and the backward pass of its result does not count."""
    net = Net()
    step, x = mg.compile(lambda x: net(x).sum()), mg.tensor(X, requires_grad=True)
    for i in range(12):
        net.n = float(i)
        result = step(x)
        net.n = 100.0 + i
        np.testing.assert_array_equal(mg.grad(result, x)[0].data, np.full_like(X, i))


def test_checked_calls_follow_numbers(python):
    own = Own()
    step = mg.compile(lambda x, n: (x * own.n + n, own.n * 2), check=1)
    for i in range(8):
        own.n = 0.1 * i
        result, number = step(X, i / 3)
        np.testing.assert_array_equal(result.data, X * own.n + i / 3)
        assert number == own.n * 2
    assert step.traces == 2


def test_an_epoch_follows_numbers(python):
    own = Own()
    step = mg.compile(lambda x: (x * own.n).sum())
    for i in range(5):
        own.n = 0.5 * i
        found = step.epoch(X, batch_size=1, shuffle=False)
        np.testing.assert_allclose(found.data, X.sum(1) * own.n)
    assert step.traces == 2


def test_an_operation_in_numpy_gets_numbers(as_python):
    """A primitive of the user's may do anything with a number, so each number has its trace."""
    own = Own()
    repeated = mg.primitive("repeated", lambda a, n: np.repeat(a, int(n), 0), None)
    with pytest.warns(RuntimeWarning, match="repeated cannot be compiled"):
        step = mg.compile(lambda x: repeated(x * own.n, own.n))
        for own.n in (1.0, 2.0, 3.0, 2.0):
            np.testing.assert_array_equal(step(X).data, np.repeat(X * own.n, int(own.n), 0))


def test_large_integers_are_exact(python):
    own = Own()
    step = mg.compile(lambda x: x * own.n)
    for own.n in (1, 2, 2**53, 3):
        np.testing.assert_array_equal(step(X).data, X * own.n)
    own.n = 2**53 + 1
    with pytest.raises(mg.errors.TraceError, match="has no float64"):
        step(X)


def test_programs_without_live_numbers_renew_nothing(python, monkeypatch):
    """A live number is looked at in each call, and computed again only if it is another."""
    own, renewed = Own(), []
    original = Executable._renew_numbers
    monkeypatch.setattr(
        Executable, "_renew_numbers", lambda self: renewed.append(self) or original(self)
    )
    step, plain = mg.compile(lambda x: x * own.n), mg.compile(lambda x: x * 2.0)
    for own.n in (1.0, 2.0):
        step(X), plain(X)
    renewed.clear()
    own.n = 3.0
    for _ in range(3):
        step(X), plain(X)
    assert len(renewed) == 1


def test_a_group_of_an_optimizer_stays_an_input(python):
    """The rate of a group is an input from the first trace on, and remains a plain number."""
    w = mg.tensor(X, requires_grad=True)
    opt = optim.SGD([w], lr=0.5)

    def function():
        opt.zero_grad()
        (w * w).sum().backward()
        opt.step()
        return w.sum()

    step = mg.compile(function)
    for i in range(40):
        opt.param_groups[0]["lr"] = 0.01 * i
        step()
        assert type(opt.param_groups[0]["lr"]) is float
    assert step.traces == 1


def _update(count, scale=lambda: 1.0):
    """Return parameters, an optimizer with a group for each, and a step that scales the loss."""
    parameters = [mg.tensor(np.ones(4), requires_grad=True) for _ in range(count)]
    opt = optim.SGD([{"params": [p]} for p in parameters], lr=0.5, momentum=0.5)

    def function(x):
        opt.zero_grad()
        for p in parameters:
            ((p * x).sum() * scale()).backward()
        opt.step()

    return parameters, opt, function


HALVES = np.array([0.5, 1.0, -0.5, 2.0])  # no rounding


def test_an_old_trace_has_the_present_rate(python):
    """A trace that a call has passed over, since a branch needs another one, has no old rate."""
    own = Own()
    scale = lambda: own.n if own.n < 2 else own.n * 3  # noqa: E731
    (ours, opt, function), (theirs, other, eager) = _update(1, scale), _update(1, scale)
    step = mg.compile(function)
    for own.n, rate in [(1.0, 0.5), (1.25, 0.5), (1.5, 0.5), (4.0, 2.0), (1.5, 0.5), (1.5, 0.5)]:
        opt.param_groups[0]["lr"] = other.param_groups[0]["lr"] = rate
        step(HALVES), eager(mg.tensor(HALVES))
        np.testing.assert_array_equal(ours[0].data, theirs[0].data)


@pytest.mark.parametrize("first", [0, 1])
def test_an_old_trace_has_the_present_rate_of_each_group(first, python):
    """One group needs another rule, while the other one has only another rate."""
    (ours, opt, function), (theirs, other, eager) = _update(2), _update(2)
    step = mg.compile(function)
    for rate, momentum in [(0.5, 0.5), (0.5, 0.5), (2.0, 0.0), (0.5, 0.5), (0.5, 0.5)]:
        for groups in (opt.param_groups, other.param_groups):
            groups[first]["lr"] = rate
            groups[1 - first]["momentum"] = momentum
        step(HALVES), eager(mg.tensor(HALVES))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.data, b.data)
