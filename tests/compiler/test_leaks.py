"""A trace refuses Tensors that a step leaves outside itself, and restores what was there.

It also refuses what a step would do only at its first call. Generated functions run as Python.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import ArgumentError, TraceError

pytestmark = pytest.mark.usefixtures("as_python")


X = np.arange(6.0, dtype=np.float32).reshape(2, 3)


class Kept(nn.Module):
    """A Kept has everything that a step might change, and such steps."""

    last = None

    def __init__(self):
        super().__init__()
        self.h = mg.tensor(np.ones(3, np.float32))
        self.pair = (mg.tensor(1.0), mg.tensor(2.0))
        self.absent, self.mask = None, None
        self.list, self.dict = [mg.tensor(0.0)], {"a": mg.tensor(0.0)}
        self.inner = type("Inner", (), {"h": None})()

    def state(self, x):
        self.h = self.h * 0.5 + x.mean(0)
        return self.h.sum()

    def parts(self, x):
        self.pair = self.pair[0], x.sum()
        return x

    def none(self, x):
        self.absent = x * 2
        return x

    def new(self, x):
        self.newcomer = x * 2
        return x

    def argument(self, x):
        self.absent = x
        return x * 2

    def of_class(self, x):
        type(self).last = x * 2
        return x

    def of_another(self, x):
        self.inner.h = x * 2
        return x

    def item(self, x):
        self.list[0] = x * 2
        return x

    def appended(self, x):
        self.list.append(x * 2)
        self.list.append(x * 3)
        return x

    def key(self, x):
        self.dict["a"] = x * 2
        return x

    def new_key(self, x):
        self.dict["b"] = x * 2
        return x

    def drawn(self, x):
        self.absent = mg.functional.dropout(mg.tensor(np.ones(3)), 0.5)
        return x

    def constant(self, x):
        if self.mask is None:
            self.mask = mg.tensor(np.array([1.0, 0, 1], np.float32)) * 2
        return x * self.mask

    def overwritten(self, x):
        with mg.no_grad():
            self.h.copy_(self.h * 0.5 + x.mean(0))
        return self.h.sum()

    def held(self):
        """Return everything outside the step, by identity and in order."""
        of_class = vars(type(self))["last"]
        return [*vars(self).items(), *self.list, *self.dict.items(), self.inner.h, of_class]


REFUSED = {
    "state": "self.h",
    "parts": "self.pair[1]",
    "none": "self.absent",
    "new": "self.newcomer",
    "argument": "self.absent",
    "of_another": "self.inner.h",
    "item": "self.list[0]",
    "appended": "self.list[1], self.list[2]",
    "key": "self.dict['a']",
    "new_key": "self.dict['b']",
    "drawn": "self.absent",
}


def same(a, b):
    """Return whether two nested tuples hold the same objects."""
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    return a is b or (isinstance(a, str) and a == b)


@pytest.mark.parametrize("way", REFUSED)
def test_what_is_left_outside(way):
    kept = Kept()
    step = mg.compile(getattr(kept, way))
    for _ in range(2):
        before = kept.held()
        with pytest.raises(TraceError) as error:
            step(X)
        assert f" into {REFUSED[way]}, where compiled calls" in str(error.value)
        assert same(tuple(before), tuple(kept.held()))


def test_classes():
    """Attributes that a step sets on classes are not put back."""
    try:
        with pytest.raises(TraceError, match=r"into self\.last"):
            mg.compile(Kept().of_class)(X)
    finally:
        Kept.last = None


total = mg.tensor(0.0)


def test_globals_and_closures():
    outer, losses = mg.tensor(0.0), []

    def by_global(x):
        global total
        total = total + x.sum()
        return total

    def by_closure(x):
        nonlocal outer
        outer = outer + x.sum()
        losses.append(outer)
        return outer

    before = total, outer
    for step, name in ((by_global, "total"), (by_closure, r"outer, losses\[0\]")):
        with pytest.raises(TraceError, match=f"into {name}, where"):
            mg.compile(step)(X)
    assert same(before, (total, outer))
    assert losses == []


def test_what_is_the_same_in_each_call_may_stay():
    kept = Kept()
    step = mg.compile(kept.constant)
    for _ in range(3):
        np.testing.assert_array_equal(step(X).data, X * np.array([2, 0, 2], np.float32))


def test_what_was_there_before_may_be_given_as_well():
    kept = Kept()
    step = mg.compile(lambda x: x * kept.h)
    for _ in range(2):
        np.testing.assert_array_equal(step(kept.h).data, np.ones(3))


def test_what_is_overwritten_in_place_is_state():
    one, two = Kept(), Kept()
    step = mg.compile(two.overwritten)
    for i in range(4):
        x = X + i
        np.testing.assert_array_equal(one.overwritten(mg.tensor(x)).data, step(x).data)
    np.testing.assert_array_equal(one.h.data, two.h.data)


w = mg.tensor(np.ones(3), requires_grad=True)
opt = optim.SGD([w], lr=0.1, momentum=0.9)
layer = nn.Linear(3, 3)


@pytest.mark.parametrize(
    ("once", "message"),
    [
        (lambda x: nn.Linear(3, 3)(x), "a new Parameter, in .*; build modules outside"),
        (lambda x: optim.SGD([w], lr=0.1), "a new SGD, in .*; build it outside"),
        (lambda x: opt.state_dict(), "SGD.state_dict, in .* looks at a value"),
        (lambda x: opt.param_groups[0].__setitem__("lr", 1.0), "setting 'lr' .*; set it outside"),
        (lambda x: opt.param_groups[0].update(lr=1.0), "setting 'lr' .*; set it outside"),
        (lambda x: opt.param_groups[0].__ior__({"lr": 1.0}), "setting 'lr' .*; set it outside"),
        (lambda x: opt.load_state_dict({}), "SGD.load_state_dict, in .*; load outside"),
        (lambda x: layer.load_state_dict({}), "Linear.load_state_dict, in .*; load outside"),
    ],
)
def test_what_would_be_done_once(once, message):
    with pytest.raises(TraceError, match=f"compile: {message}"):
        mg.compile(once)(X)


@pytest.mark.filterwarnings("ignore:compile. .* cannot be compiled")
def test_errors_of_what_numpy_does_are_those_of_eager_calls():
    """The values alone tell, after the trace, that there is no such power."""

    def power(x):
        return x**x

    step = mg.compile(power)
    step(np.array([2, 3]))
    with pytest.raises(ArgumentError) as expected:
        power(mg.tensor(np.array([2, -1])))
    with pytest.raises(ArgumentError) as found:
        step(np.array([2, -1]))
    assert str(found.value) == str(expected.value)
