"""Values that a traced function finds outside itself may change between calls.

They are numbers in attributes, items, helpers and modules. Generated functions run as Python.
"""

import array
import functools
import types
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import TraceError

pytestmark = pytest.mark.usefixtures("as_python")


RATE = 2.0
X = np.arange(3.0)


def helper(x):
    return x * RATE


def scaled_by(config, x):
    return x * config.rate


class Base:
    __slots__ = ("rate", "unset")


class Slotted(Base):
    """A Slotted has no `__dict__`."""

    __slots__ = ("h", "model")

    def __init__(self):
        self.rate = 2.0

    def method(self, x):
        return x * self.rate


class Half(Slotted):
    """A Half has slots and a `__dict__`."""


class Config:
    shared = 2.0

    def __init__(self):
        self.rate = 2.0
        self.inner = types.SimpleNamespace(rate=2.0)
        self.slotted, self.half = Slotted(), Half()
        self.items = {"rate": 2.0, "list": [1.0, 2.0]}

    @property
    def doubled(self):
        return self.rate * 2

    def method(self, x):
        return self.deeper(x)

    def deeper(self, x):
        return x * self.rate


class Called(Config):
    def __call__(self, x):
        return x * self.rate


class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.inner = nn.Sequential(nn.ReLU())

    def forward(self, x):
        return self.inner(self.helper(x)) * RATE

    def helper(self, x):
        return x * self.config.rate


class Given(nn.Module):
    """A Given reaches the object only through its arguments."""

    def forward(self, c, x):
        return scaled_by(c, x) * c.items["rate"]


def by(config):
    """Return a decorator that multiplies by the rate."""

    def decorator(function):
        @functools.wraps(function)
        def wrapper(x):
            return function(x) * config.rate

        return wrapper

    return decorator


def set_global(config, value):
    globals()["RATE"] = value


def set_rate(config, value):
    config.rate = value


def set_inner(config, value):
    config.inner.rate = value


def set_slot(config, value):
    config.slotted.rate = config.half.rate = config.half.free = value


def set_class(config, value):
    Config.shared = value


def set_own(config, value):
    """Leave the value to the class at first, then set it on the object."""
    if value != Config.shared or "shared" in vars(config):
        config.shared = value


def set_subclass(config, value):
    kind = type(config)
    if value != Config.shared or "shared" in vars(kind):
        kind.shared = value


def set_item(config, value):
    config.items["rate"] = value


def set_in_list(config, value):
    config.items["list"][1] = value


CASES = {
    "helper": (lambda c: lambda x: helper(x), set_global),
    "comprehension": (lambda c: lambda x: sum([x * RATE for _ in range(2)]), set_global),
    "partial": (lambda c: functools.partial(lambda c, x: x * c.rate, c), set_rate),
    "default": (lambda c: lambda x, c=c: x * c.rate, set_rate),
    "decorator": (lambda c: by(c)(lambda x: x), set_rate),
    "decorated": (lambda c: by(Config())(lambda x: x * c.rate), set_rate),
    "attribute": (lambda c: lambda x: x * c.rate, set_rate),
    "chain": (lambda c: lambda x: x * c.inner.rate, set_inner),
    "getattr": (lambda c: lambda x: x * getattr(c, "rate"), set_rate),  # noqa: B009
    "slot": (lambda c: lambda x: x * c.slotted.rate, set_slot),
    "slot of an object without others": (lambda c: c.slotted.method, set_slot),
    "slot beside a dict": (lambda c: lambda x: x * c.half.rate, set_slot),
    "dict beside slots": (lambda c: lambda x: x * c.half.free, set_slot),
    "property": (lambda c: lambda x: x * c.doubled, set_rate),
    "method": (lambda c: c.method, set_rate),
    "method of another": (lambda c: lambda x: c.method(x), set_rate),
    "object that is called": (lambda c: lambda x: c(x), set_rate),
    "compiled object": (lambda c: c, set_rate),
    "class": (lambda c: lambda x: x * Config.shared, set_class),
    "class of an object": (lambda c: lambda x: x * c.shared, set_class),
    "class, then the object itself": (lambda c: lambda x: x * c.shared, set_own),
    "object of a subclass": (lambda c: lambda x: x * c.shared, set_subclass),
    "handed on": (lambda c: lambda x: scaled_by(c, x), set_rate),
    "item": (lambda c: lambda x: x * c.items["rate"], set_item),
    "item of an item": (lambda c: lambda x: x * c.items["list"][1], set_in_list),
    "tuple": (lambda c: (lambda t: lambda x: x * t[1][0].rate)((1, (c,))), set_rate),
    "forward": (lambda c: (lambda net: lambda x: net(x))(Net(c)), set_global),
    "method of a module": (lambda c: (lambda net: lambda x: net(x))(Net(c)), set_rate),
    "another that is compiled": (
        lambda c: (lambda f: lambda x: f(x))(mg.compile(lambda x: x * c.rate)),
        set_rate,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_numbers_outside_are_guarded(name, monkeypatch):
    """A new value counts from the next call on; an equal one causes no new trace.

    The second trace reads the number in each call, unless the number belongs to a class.
    """
    make, change = CASES[name]
    monkeypatch.setattr(Config, "shared", 2.0)
    monkeypatch.setitem(globals(), "RATE", 2.0)
    kind = Called if "object" in name and not name.startswith(("class", "slot")) else Config
    config = type("Own", (kind,), {})()
    function = make(config)
    compiled = mg.compile(function)
    for value in (2.0, float("2.0"), 3.0, 0.5, 2.0):
        change(config, value)
        for _ in range(2):
            np.testing.assert_array_equal(compiled(X).data, function(mg.tensor(X)).data)
    traces = {"class": 3, "class of an object": 3, "object of a subclass": 4}
    traces["class, then the object itself"] = 3  # another place
    assert compiled.traces == traces.get(name, 2)


@pytest.mark.parametrize("way", ["positional", "keyword", "in a tuple", "to a module"])
def test_objects_among_the_arguments_are_guarded(way):
    """They may change between calls, like objects outside the step."""
    config = Config()
    function = {
        "positional": lambda c, x: scaled_by(c, x) * c.items["rate"],
        "keyword": lambda x, *, c: scaled_by(c, x) * c.items["rate"],
        "in a tuple": lambda x, t: scaled_by(t[0], x) * t[0].items["rate"],
        "to a module": Given(),
    }[way]
    compiled = mg.compile(function)
    for value in (2.0, 2.0, 3.0, 0.5, 2.0):
        for change in (set_rate, set_item):
            change(config, value)
            x = mg.tensor(X)
            given = {"in a tuple": (x, (config,)), "keyword": (x,)}.get(way, (config, x))
            named = {"c": config} if way == "keyword" else {}
            expected = function(*given, **named)
            np.testing.assert_array_equal(compiled(*given, **named).data, expected.data)
    assert compiled.traces == 3  # the second reads one number in each call, the third reads both


def test_modules_among_the_arguments_are_guarded():
    """The modes of modules that are not called, or deep inside objects, count as well."""
    net, holder = Net(Config()), Config()
    holder.model = nn.ReLU()
    direct = mg.compile(lambda m, x: x * 1.0 if m.training else x * 0.0)
    inside = mg.compile(lambda h, x: x * 1.0 if h.model.training else x * 0.0)
    for training in (True, True, False, True, False):
        net.train(training)
        holder.model.train(training)
        np.testing.assert_array_equal(direct(net, X).data, X * training)
        np.testing.assert_array_equal(inside(holder, X).data, X * training)


def test_attributes_of_modules_are_told_apart():
    """Values differ if a step would compute something else; one that has gone is not mixed up."""
    net = Net(Config())
    compiled = mg.compile(lambda x: (net(x), 1.0 / (x * net.zero), x * net.one)[1:])
    net.zero, net.one = 0.0, 1
    ones = np.ones(3)
    with np.errstate(divide="ignore"):
        for net.zero, net.one in ((0.0, 1), (-0.0, 1), (0.0, True), (0.0, 1.0)):
            inverse, product = compiled(ones)
            np.testing.assert_array_equal(inverse.data, 1 / (ones * net.zero))
            assert product.dtype == (mg.tensor(ones) * net.one).dtype
    assert compiled.traces == 4
    gone = weakref.ref(net.config)
    net.config = Config()
    assert gone() is not None


def test_a_deleted_attribute_uncovers_that_of_the_class(monkeypatch):
    """The attribute of its class counts again."""
    monkeypatch.setattr(Net, "shared", 2.0, raising=False)
    net = Net(Config())
    compiled = mg.compile(lambda x: net(x) * net.shared)
    for _ in range(2):
        for net.shared in (5.0, 2.0):
            np.testing.assert_array_equal(compiled(X).data, net(mg.tensor(X)).data * net.shared)
        net.shared = 5.0
        compiled(X)
        del net.shared
        np.testing.assert_array_equal(compiled(X).data, net(mg.tensor(X)).data * 2)


def test_zeros_outside_are_told_apart():
    config = Config()
    compiled = mg.compile(lambda x: 1.0 / (x * config.rate))
    with np.errstate(divide="ignore"):
        for config.rate in (0.0, -0.0, 0.0, -0.0):
            np.testing.assert_array_equal(compiled(X + 1).data, 1 / ((X + 1) * config.rate))


def test_items_that_come_and_go_are_noticed():
    parts = {"a": lambda x: x + 1}
    compiled = mg.compile(lambda x: sum(part(x) for part in parts.values()))
    np.testing.assert_array_equal(compiled(X).data, X + 1)
    parts["b"] = lambda x: x * 2
    np.testing.assert_array_equal(compiled(X).data, 3 * X + 1)
    del parts["a"]
    np.testing.assert_array_equal(compiled(X).data, 2 * X)
    del parts["b"]
    assert compiled(X) == 0


def test_modules_of_the_user_are_guarded(monkeypatch):
    settings = types.ModuleType("settings")
    settings.rate = 2.0
    monkeypatch.setitem(globals(), "settings", settings)
    compiled = mg.compile(lambda x: x * settings.rate)
    for value in (2.0, 4.0):
        settings.rate = value
        np.testing.assert_array_equal(compiled(X).data, X * value)


def test_containers_of_any_size_are_guarded():
    """All items count, even the last of thousands, and what objects among them hold."""
    many = {i: float(i) for i in range(2000)}
    deep = [types.SimpleNamespace(rate=float(i)) for i in range(1000)]
    compiled = mg.compile(lambda x: x * many[1999] + x * deep[999].rate)
    for many[1999], deep[999].rate in ((1.0, 2.0), (1.0, 2.0), (3.0, 2.0), (3.0, 5.0)):
        for _ in range(2):
            np.testing.assert_array_equal(compiled(X).data, X * many[1999] + X * deep[999].rate)
    assert compiled.traces == 3


@pytest.mark.parametrize("owner", [types.SimpleNamespace(), nn.Module()], ids=["object", "module"])
def test_counters_and_first_calls_count(owner):
    """What the step itself changes outside is as it would be without compile."""
    owner.calls, owner.first = 0, True

    @mg.compile
    def step(x):
        if owner.first:
            owner.first = False
            return x
        return x * 2

    @mg.compile
    def count(x):
        owner.calls += 1
        return x * owner.calls

    one = np.ones(2)
    assert [step(one).data[0] for _ in range(3)] == [1, 2, 2]
    assert [count(one).data[0] for _ in range(3)] == [1, 2, 3] and owner.calls == 3
    assert step.traces == 2  # the last of them holds


def test_slots_that_are_set_and_deleted_are_noticed():
    """The user may set them; a step that puts a Tensor there is refused, and takes it back."""
    owner = Slotted()

    @mg.compile
    def step(x):
        return x * getattr(owner, "unset", 1.0) * owner.rate

    owner.unset = 2.0
    assert step(X).data[1] == step(X).data[1] == 4.0
    del owner.unset
    assert step(X).data[1] == step(X).data[1] == 2.0
    owner.model = nn.ReLU()

    @mg.compile
    def leaving(x):
        owner.h = owner.model(x) if owner.model.training else x
        return x * 2.0

    for _ in range(2):
        with pytest.raises(TraceError, match=r"owner\.h"):
            leaving(X)
        assert not hasattr(owner, "h")
    bound = mg.compile(owner.method)
    assert bound(X).data[1] == bound(X).data[1] == 2.0


@pytest.mark.parametrize("buffer", [bytearray([2, 3]), array.array("d", [2, 3])], ids=str)
def test_buffers_that_are_no_arrays_are_guarded(buffer):
    compiled = mg.compile(lambda x: x * buffer[1])
    for value in (3, 3, 5, 3):
        buffer[1] = value
        np.testing.assert_array_equal(compiled(X).data, X * value)
