"""A compiled step notices every change that Python can make to what it names.

Among these are objects that run code when they are looked at, and state by thread and context;
libraries are frozen. Generated functions run as Python.
"""

import builtins
import collections
import contextlib
import contextvars
import cProfile
import functools
import importlib
import operator
import sys
import threading
import time
import types
import unittest.mock
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.compiler.tracing.guards import same

from .test_table import as_python  # noqa: F401

X = np.arange(1.0, 4.0)


def traces(compiled):
    return compiled.traces


def agree(compiled, function, x=X, calls=3):
    """Compiled calls return what the function does."""
    for _ in range(calls):
        np.testing.assert_array_equal(compiled(x).data, function(mg.tensor(x)).data)


class Scaled(nn.Module):
    scale = 1.5  # of the class

    def __init__(self):
        self.scale = 2.0

    def forward(self, x):
        return x * self.scale


class Twice(Scaled):
    def forward(self, x):
        return x * self.scale * 2


class Slotted(nn.Module):
    __slots__ = ("slot",)

    def __init__(self):
        self.slot = 2.0

    def forward(self, x):
        return x * getattr(self, "slot", 7.0)


def delete_behind(m):
    object.__delattr__(m, "scale")


def replace_dict(m):
    m.__dict__ = {"scale": 5.0}


def rename_behind(m):
    vars(m)["scales"] = vars(m).pop("scale")


CHANGES = {
    "object.__setattr__": lambda m: object.__setattr__(m, "scale", 5.0),
    "another type of number": lambda m: object.__setattr__(m, "scale", 2),
    "object.__delattr__": delete_behind,
    "vars": lambda m: vars(m).__setitem__("scale", 5.0),
    "__dict__.update": lambda m: m.__dict__.update(scale=5.0),
    "__dict__.pop": lambda m: m.__dict__.pop("scale"),
    "__dict__.clear": lambda m: m.__dict__.clear(),
    "another __dict__": replace_dict,
    "renamed": rename_behind,
    "__class__": lambda m: setattr(m, "__class__", Twice),
    "__class__ behind": lambda m: object.__setattr__(m, "__class__", Twice),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside"])
def test_what_a_module_holds(name, inside):
    """Also what changes behind `__setattr__`."""
    model = Scaled()
    net = nn.Sequential(nn.ReLU(), model) if inside else model
    function = lambda x: net(x) * 1.0  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    CHANGES[name](model)
    agree(compiled, function)
    vars(model)["scale"] = 3.0
    agree(compiled, function)
    assert traces(compiled) == 3


LAYER_CHANGES = {
    "a number": lambda net: setattr(net[1], "eps", 0.5),
    "a weight": lambda net: setattr(net[0], "weight", nn.Parameter(net[0].weight.data * 2)),
    "a bias less": lambda net: setattr(net[0], "bias", None),
    "the mode": lambda net: net.train(),
    "another layer": lambda net: setattr(net, "2", nn.Sigmoid()),
    "one more layer": lambda net: setattr(net, "3", nn.Sigmoid()),
    "another class": lambda net: setattr(net[2], "__class__", nn.Sigmoid),
    "another __dict__": lambda net: setattr(net[1], "__dict__", vars(nn.BatchNorm1d(3, eps=0.5))),
}


@pytest.mark.parametrize("name", LAYER_CHANGES)
def test_assignments_to_the_layers_of_minigrad(name):
    """A compiled function is traced again after an assignment to a layer that it calls."""
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU()).eval()
    function = lambda x: net(x) * 1.0  # noqa: E731
    compiled = mg.compile(function)
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    for _ in range(2):
        np.testing.assert_allclose(compiled(x).data, function(x).data, rtol=1e-6, atol=1e-6)
    LAYER_CHANGES[name](net)
    np.testing.assert_allclose(compiled(x).data, function(x).data, rtol=1e-6, atol=1e-6)
    assert compiled.traces == 2


def test_a_buffer_that_was_deleted():
    """A compiled function raises the same error as the function."""
    layer = nn.BatchNorm1d(3).eval()
    compiled = mg.compile(lambda x: layer(x))
    compiled(np.ones((4, 3), np.float32))
    del layer.running_mean
    with pytest.raises(AttributeError, match="running_mean"):
        compiled(np.ones((4, 3), np.float32))


def test_names_that_are_swapped():
    """All values of a Module are the same, in the same order."""
    model = Scaled()
    model.other = 2.0
    function = lambda x: model(x) * getattr(model, "late", 3.0)  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    vars(model)["late"] = vars(model).pop("other")
    agree(compiled, function)
    assert traces(compiled) == 2


class InTurn(nn.Module):
    """Calls its children in the order of the attributes."""

    def __init__(self):
        self.scaled, self.shifted = Scaled(), Shifted()

    def forward(self, x):
        for child in self.children():
            x = child(x)
        return x


class Shifted(nn.Module):
    def forward(self, x):
        return x + 1.0


def test_attributes_of_a_module_in_another_order():
    """With the same values under the same names."""
    net = InTurn()
    function = lambda x: net(x) * 1.0  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    child = net.scaled
    del net.scaled
    net.scaled = child
    agree(compiled, function)
    assert traces(compiled) == 2


def test_slots_of_a_module():
    model = Slotted()
    function = lambda x: model(x) * 1.0  # noqa: E731
    compiled = mg.compile(function)
    member = Slotted.__dict__["slot"]
    agree(compiled, function)
    for value in (3.0, 4.0):
        object.__setattr__(model, "slot", value)
        agree(compiled, function)
    member.__delete__(model)
    agree(compiled, function)
    assert traces(compiled) == 4


def test_classes_of_modules(monkeypatch):
    """Their attributes, methods and bases."""
    model = Twice()
    del model.scale
    function = lambda x: model(x) * 1.0  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    monkeypatch.setattr(Scaled, "scale", 4.0)
    agree(compiled, function)
    monkeypatch.setattr(Twice, "scale", 5.0, raising=False)
    agree(compiled, function)
    monkeypatch.setattr(Twice, "forward", lambda self, x: x + self.scale)
    agree(compiled, function)
    bases = Twice.__bases__
    try:
        Twice.__bases__ = (type("Base", (nn.Module,), {"scale": 6.0}),)
        del Twice.scale
        agree(compiled, function)
    finally:
        Twice.__bases__ = bases
        Twice.scale = 5.0  # which monkeypatch takes away
    assert traces(compiled) == 5


class Meta(type):
    rate = 2.0

    @property
    def doubled(cls):
        return cls.own * cls.rate


class Made(metaclass=Meta):
    own = 1.5


class Descriptor:
    def __init__(self, rate):
        self.rate = rate

    def __get__(self, owner, kind=None):
        return self.rate


class Config:
    described = Descriptor(2.0)

    def __init__(self):
        self.rate, self.mode, self.table = 2.0, "first", {"rate": 2.0}
        self.allowed, self.frozen = {"first"}, frozenset(["first"])
        self.deque = collections.deque([1.0, 2.0])
        self.ordered = collections.OrderedDict(rate=2.0)
        self.default = collections.defaultdict(lambda: 9.0, rate=2.0)
        self.counts = collections.Counter(rate=2)
        self.pair = collections.namedtuple("Pair", "rate other")(2.0, 1.0)
        self.own_list = type("Own", (list,), {"rate": 2.0})([2.0])

    def scaled(self, x, by):
        return x * self.rate * by

    third = functools.partialmethod(scaled, by=1.5)

    @functools.cached_property
    def cached(self):
        return self.rate * 2

    @classmethod
    def of_class(cls, x):
        return x * cls.described

    @staticmethod
    def static(x):
        return x * RATE

    @functools.singledispatchmethod
    def single(self, x):
        return x * self.rate

    def _first_step(self, x):
        return x * self.rate

    def computed(self, x):
        return getattr(self, f"_{self.mode}_step")(x)


RATE, ROWS = 2.0, (1.0, [2.0, 3.0])
get_rate, get_item = operator.attrgetter("table", "rate"), operator.itemgetter("rate")
get_deep = operator.attrgetter("inner.rate")
call = operator.methodcaller("scaled", X, by=2.0)


def set_global(c, value):
    globals()["RATE"] = value


def uncache(c, value):
    c.rate = value
    vars(c).pop("cached", None)


def set_keyword(c, value):
    Config.__dict__["third"].keywords["by"] = value


def with_default(x, rate=2.0, *, by=1.0):
    return x * rate * by


def set_defaults(c, value):
    with_default.__defaults__ = (value,)


def set_keyword_default(c, value):
    with_default.__kwdefaults__["by"] = value


def first_code(x):
    return x * 2.0


def set_code(c, value):
    first_code.__code__ = (lambda x: x * 5.0).__code__ if value == 3.0 else (lambda x: x).__code__


@functools.lru_cache
def cached_rate(by):
    return RATE * by


def decorated(function):
    @functools.wraps(function)
    def inner(by):
        return function(by)

    return inner


@functools.lru_cache
@decorated
def decorated_rate(by):
    return RATE * by


def clear_caches(c, value):
    set_global(c, value)
    cached_rate.cache_clear()
    decorated_rate.cache_clear()


def cached_closure(c):
    """A step whose function is in its cache, and reads a closure, a default and an attribute."""

    @functools.cache
    @functools.wraps(cached_rate)
    def rate(by, more=(1.0,)):
        return c.rate * by + more[0]

    c.cached_closure = rate
    rate(1.0)
    return lambda x: x * rate(1.0)


def change_closure(c, value):
    c.rate = value
    c.cached_closure.cache_clear()


def by_rate(x):
    return x * RATE


elsewhere = types.FunctionType(by_rate.__code__, {"RATE": 2.0})


def by_late(x):
    try:
        return x * LATE_RATE
    except NameError:
        return x


def set_in(name):
    return lambda c, value: getattr(c, name).__setitem__(0 if name == "own_list" else "rate", value)


class Inner:
    rate = 2.0


WAYS = {
    "partialmethod": (lambda c: lambda x: c.third(x), set_keyword),
    "partialmethod's method": (lambda c: lambda x: c.third(x), lambda c, v: setattr(c, "rate", v)),
    "metaclass property": (
        lambda c: lambda x: x * Made.doubled, lambda c, v: setattr(Meta, "rate", v),
    ),
    "metaclass property's class": (
        lambda c: lambda x: x * Made.doubled, lambda c, v: setattr(Made, "own", v),
    ),
    "descriptor": (
        lambda c: lambda x: x * c.described,
        lambda c, v: setattr(Config.__dict__["described"], "rate", v),
    ),
    "classmethod": (
        lambda c: c.of_class, lambda c, v: setattr(Config.__dict__["described"], "rate", v),
    ),
    "staticmethod": (lambda c: lambda x: c.static(x), set_global),
    "cached_property": (lambda c: lambda x: x * c.cached, uncache),
    "singledispatchmethod": (lambda c: lambda x: c.single(x), lambda c, v: setattr(c, "rate", v)),
    "computed method": (lambda c: c.computed, lambda c, v: setattr(c, "rate", v)),
    "set": (
        lambda c: lambda x: x * (2.0 if c.mode in c.allowed else 1.0),
        lambda c, v: (c.allowed.clear(), c.allowed.add("first" if v == 5.0 else v)),
    ),
    "set that loses": (
        lambda c: lambda x: x * (2.0 if c.mode in c.allowed else 1.0),
        lambda c, v: c.allowed.clear() if v == 3.0 else c.allowed.update(["first", v]),
    ),
    "frozenset": (
        lambda c: lambda x: x * (2.0 if c.mode in c.frozen else 1.0),
        lambda c, v: setattr(c, "frozen", frozenset([v] if v == 3.0 else ["first"])),
    ),
    "dict keys": (
        lambda c: (lambda keys: lambda x: x * (2.0 if "late" in keys else 1.0))(c.table.keys()),
        lambda c, v: c.table.__setitem__("late" if v == 3.0 else "later", 2.0),
    ),
    "attrgetter": (lambda c: lambda x: x * get_rate(c)[1], lambda c, v: setattr(c, "rate", v)),
    "deep attrgetter": (
        lambda c: (lambda s: lambda x: x * get_deep(s))(types.SimpleNamespace(inner=Inner)),
        lambda c, v: setattr(Inner, "rate", v),
    ),
    "itemgetter": (lambda c: lambda x: x * get_item(c.table), set_in("table")),
    "methodcaller": (lambda c: lambda x: x * call(c), lambda c, v: setattr(c, "rate", v)),
    "globals": (lambda c: lambda x: x * globals()["RATE"], set_global),
    "vars": (lambda c: lambda x: x * vars(c)["rate"], lambda c, v: setattr(c, "rate", v)),
    "__dict__": (lambda c: lambda x: x * c.__dict__["rate"], lambda c, v: setattr(c, "rate", v)),
    "__getattribute__": (
        lambda c: lambda x: x * object.__getattribute__(c, "rate"),
        lambda c, v: setattr(c, "rate", v),
    ),
    "deque": (
        lambda c: lambda x: x * c.deque[1], lambda c, v: c.deque.append(c.deque.popleft() + v),
    ),
    "OrderedDict": (lambda c: lambda x: x * c.ordered["rate"], set_in("ordered")),
    "defaultdict": (lambda c: lambda x: x * c.default["rate"], set_in("default")),
    "Counter": (lambda c: lambda x: x * c.counts["rate"], set_in("counts")),
    "namedtuple": (
        lambda c: lambda x: x * c.pair.rate,
        lambda c, v: setattr(c, "pair", c.pair._replace(rate=v)),
    ),
    "class of the user's list": (lambda c: lambda x: x * c.own_list[0], set_in("own_list")),
    "attribute of the user's list": (
        lambda c: lambda x: x * c.own_list.rate, lambda c, v: setattr(c.own_list, "rate", v),
    ),
    "weak reference": (
        lambda c: (lambda ref: lambda x: x * ref().rate)(weakref.ref(c)),
        lambda c, v: setattr(c, "rate", v),
    ),
    "tuple outside": (lambda c: lambda x: x * ROWS[1][0], lambda c, v: ROWS[1].__setitem__(0, v)),
    "defaults": (lambda c: lambda x: with_default(x), set_defaults),
    "keyword defaults": (lambda c: lambda x: with_default(x), set_keyword_default),
    "code": (lambda c: lambda x: first_code(x), set_code),
    "callback": (
        lambda c: lambda x: functools.reduce(lambda y, k: y * c.rate, range(2), x),
        lambda c, v: setattr(c, "rate", v),
    ),
    "generator": (
        lambda c: lambda x: sum(y for y in (x * c.rate for _ in range(2))),
        lambda c, v: setattr(c, "rate", v),
    ),
    "builtin that is shadowed": (
        lambda c: lambda x: x * abs(2.0), lambda c, v: globals().__setitem__("abs", lambda y: v),
    ),
    "builtin that is put there": (
        lambda c: lambda x: x * OWN_RATE,  # noqa: F821
        lambda c, v: setattr(builtins, "OWN_RATE", v),
    ),
    "builtin that is put there later": (
        lambda c: lambda x: by_late(x), lambda c, v: setattr(builtins, "LATE_RATE", v),
    ),
    "lru_cache": (lambda c: (cached_rate(2.0), lambda x: x * cached_rate(2.0))[1], clear_caches),
    "lru_cache of a decorated function": (
        lambda c: (decorated_rate(2.0), lambda x: x * decorated_rate(2.0))[1], clear_caches,
    ),
    "cache's closure": (cached_closure, change_closure),
    "code with two sets of globals": (
        lambda c: lambda x: by_rate(x) + elsewhere(x),
        lambda c, v: elsewhere.__globals__.__setitem__("RATE", v),
    ),
    "bound method of a list": (
        lambda c: (lambda get: lambda x: x * get(0))(c.own_list.__getitem__), set_in("own_list"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_what_a_step_names(way, monkeypatch):
    make, change = WAYS[way]
    monkeypatch.setitem(globals(), "RATE", 2.0)
    monkeypatch.setitem(globals(), "ROWS", (1.0, [2.0, 3.0]))
    monkeypatch.setattr(Meta, "rate", 2.0)
    monkeypatch.setattr(Made, "own", 1.5)
    monkeypatch.setattr(Inner, "rate", 2.0)
    monkeypatch.setattr(Config.__dict__["described"], "rate", 2.0)
    monkeypatch.setitem(Config.__dict__["third"].keywords, "by", 1.5)
    monkeypatch.setattr(with_default, "__defaults__", (2.0,))
    monkeypatch.setitem(with_default.__kwdefaults__, "by", 1.0)
    monkeypatch.setattr(first_code, "__code__", first_code.__code__)
    monkeypatch.setattr(builtins, "OWN_RATE", 2.0, raising=False)
    monkeypatch.setattr(builtins, "LATE_RATE", 2.0, raising=False)
    monkeypatch.delattr(builtins, "LATE_RATE")
    monkeypatch.setitem(elsewhere.__globals__, "RATE", 2.0)
    cached_rate.cache_clear()
    decorated_rate.cache_clear()
    monkeypatch.setitem(globals(), "abs", abs)
    monkeypatch.delitem(globals(), "abs")
    config = Config()
    function = make(config)
    compiled = mg.compile(function)
    agree(compiled, function)
    found = compiled(X).data
    change(config, 3.0)
    agree(compiled, function)
    assert not np.array_equal(compiled(X).data, found)  # the change was one
    change(config, 5.0)
    agree(compiled, function)
    settled = traces(compiled)
    agree(compiled, function)
    assert traces(compiled) == settled  # nothing is traced anew without a change


def test_what_is_not_named_is_not_watched():
    """Histories and counters of the caller's may grow in the objects that a step uses."""
    config = Config()
    config.history, config.calls = [], 0
    function = lambda x: x * config.rate  # noqa: E731
    compiled = mg.compile(function)
    for _ in range(5):
        config.calls += 1
        config.history.append(compiled(X))
        globals()["later"] = config.calls
    assert traces(compiled) == 1


def test_a_key_that_was_deleted_stays_away():
    table = collections.defaultdict(lambda: 9.0, rate=2.0)
    function = lambda x: x * table.get("rate", 4.0)  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    del table["rate"]
    agree(compiled, function)
    assert "rate" not in table


# --- optimizers ---------------------------------------------------------------------------------


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
def test_what_an_optimizer_holds(way):
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


def test_a_step_that_reads_a_hyper_parameter():
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
def test_what_a_tensor_is_bound_to(way):
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
    assert traces(compiled) == (1 if way == "data" else 2)


# --- objects that run code when they are looked at ----------------------------------------------


class Looked(Exception):
    pass


def refuse(*_):
    raise Looked


class Answers:
    """Has every attribute."""

    def __init__(self):
        self.rate = 2.0

    def __getattr__(self, name):
        return lambda *args: self


class Hostile:
    """Allows nothing but its rate."""

    def __init__(self):
        object.__setattr__(self, "rate", 2.0)

    __eq__ = __len__ = __iter__ = __bool__ = __contains__ = __hash__ = __repr__ = refuse
    __class__ = __dict__ = __wrapped__ = __module__ = __func__ = property(refuse)

    def __getattribute__(self, name):
        if name != "rate":
            raise KeyError(name)
        return object.__getattribute__(self, name)


class HostileMeta(type):
    __eq__ = __hash__ = __instancecheck__ = __subclasscheck__ = __getattribute__ = refuse


class HostileKind(metaclass=HostileMeta):
    def __init__(self):
        self.rate = 2.0


class HostileDict(dict):
    __iter__ = __len__ = __contains__ = keys = values = items = get = __eq__ = refuse
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class HostileList(list):
    __iter__ = __len__ = __contains__ = __eq__ = refuse

    @property
    def rate(self):
        return list.__getitem__(self, 0)

    @rate.setter
    def rate(self, value):
        list.__setitem__(self, 0, value)


class HostileKey:
    __eq__ = __repr__ = refuse

    def __hash__(self):
        return 1


class Keyed(dict):
    rate = property(lambda self: self["rate"], lambda self, value: self.update(rate=value))


class Proxy:
    __slots__ = ("_found",)

    def __init__(self, found):
        object.__setattr__(self, "_found", found)

    def __getattr__(self, name):
        return getattr(object.__getattribute__(self, "_found"), name)

    def __setattr__(self, name, value):
        setattr(object.__getattribute__(self, "_found"), name, value)

    __class__ = property(lambda self: type(object.__getattribute__(self, "_found")))
    __dict__ = property(lambda self: vars(object.__getattribute__(self, "_found")))


STRANGE = {
    "answers": Answers,
    "hostile": Hostile,
    "hostile class": HostileKind,
    "attribute dict": lambda: HostileDict(rate=2.0),
    "list": lambda: HostileList([2.0]),
    "keys": lambda: Keyed({"rate": 2.0, HostileKey(): 1.0}),
    "proxy": lambda: Proxy(Config()),
    "proxy of a module": lambda: Proxy(type("Rated", (nn.Module,), {"rate": 2.0})()),
    "mock": lambda: unittest.mock.Mock(rate=2.0),
    "magic mock": lambda: unittest.mock.MagicMock(rate=2.0),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_objects_that_run_code_when_they_are_looked_at(kind):
    """They are never asked, and their changes are seen nevertheless."""
    x = STRANGE[kind]()
    function = lambda y: y * x.rate  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    for value in (3.0, 5.0):
        if kind == "hostile":
            object.__setattr__(x, "rate", value)
        else:
            x.rate = value
        agree(compiled, function)


def test_equal_objects_that_are_others():
    """What a class calls equal is not asked."""
    anything = type("Anything", (), {"__eq__": lambda a, b: True, "__hash__": None})
    config = Config()
    function = lambda x: x * (2.0 if type(config.rate) is float else 3.0)  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    config.rate = anything()
    agree(compiled, function)
    assert same((1, (0.0,)), (1, (0.0,))) and not same((1, (0.0,)), (1, (-0.0,)))


# --- threads and contexts -----------------------------------------------------------------------

held = threading.local()
current = contextvars.ContextVar("current")


class Locals(threading.local):
    rate = 2.0


def through_local(x):
    return held.model(x) * getattr(held, "rate", 1.0)


def through_context(x):
    return current.get()(x)


def in_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    (result,) = found
    return result


def test_state_of_each_thread():
    compiled = mg.compile(through_local)

    def work(value):
        held.model = Scaled()
        held.model.scale = value
        agree(compiled, through_local)
        held.rate = 3.0
        agree(compiled, through_local)
        held.model.scale = value + 1
        agree(compiled, through_local)
        del held.rate
        agree(compiled, through_local)
        return compiled(X).data

    first, second = work(2.0), in_thread(lambda: work(7.0))
    np.testing.assert_array_equal(first, X * 3)
    np.testing.assert_array_equal(second, X * 8)
    agree(compiled, through_local)  # the first thread's again


def test_a_class_of_thread_locals():
    local = Locals()
    function = lambda x: x * local.rate  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    local.rate = 3.0
    agree(compiled, function)
    in_thread(lambda: agree(compiled, function))
    agree(compiled, function)


def test_state_of_each_context():
    compiled = mg.compile(through_context)

    def work(value):
        model = Scaled()
        model.scale = value
        current.set(model)
        agree(compiled, through_context)

    contexts = [contextvars.copy_context() for _ in range(2)]
    for context, value in zip(contexts, (2.0, 7.0), strict=True):
        context.run(work, value)
    for context in contexts:
        context.run(agree, compiled, through_context)
    with pytest.raises(LookupError):
        compiled(X)


# --- libraries, profilers -----------------------------------------------------------------------


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A package of many functions, installed."""
    place = tmp_path / "site-packages"
    package = place / "a_large_library"
    package.mkdir(parents=True)
    functions = "\n".join(
        f"def f{i}(x, c=None):\n    return g{i % 7} if c else f{(i + 1) % 3000}(x) * RATE{i}\n"
        f"RATE{i} = 2.0"
        for i in range(3000)
    )
    package.joinpath("__init__.py").write_text(
        functions + "\nclass Kind:\n    rate = 2.0\nRATE = 2.0\n"
        "def scaled(x, function=None):\n    return (function(x) if function else x) * RATE\n"
    )
    monkeypatch.syspath_prepend(str(place))
    yield importlib.import_module("a_large_library")
    del sys.modules["a_large_library"]


def test_libraries_are_frozen(library):
    """However much is in them, it is not followed; what the user gives them is."""
    config = Config()
    function = lambda x: library.scaled(x, lambda y: y * config.rate)  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    config.rate = 3.0
    agree(compiled, function)
    library.RATE = 5.0
    np.testing.assert_array_equal(compiled(X).data, X * 6)
    assert len(compiled._last._guards) < 50


def test_what_is_traced_twice_takes_as_long():
    """What is looked at is what runs, not all that could."""
    names = {f"f{i}": None for i in range(300)}
    source = "\n".join(f"def f{i}(x):\n    return f{(i + 1) % 300}(x) * c.rate" for i in range(300))
    c = Config()
    exec(source, names | {"c": c}, names)
    space = {**names, "c": c, "mg": mg}
    exec(source + "\ndef step(x):\n    return x * c.rate if x is not None else f0(x)", space)
    compiled = mg.compile(space["step"])
    agree(compiled, space["step"])
    assert len(compiled._last._guards) < 50


@pytest.mark.parametrize("raising", [False, True])
def test_a_profiler_goes_on(raising):
    """It sees what the step calls, and is there afterwards."""
    entered = []

    def profiler(frame, event, arg):
        entered.append(frame.f_code.co_name)

    def seen_by_both(x):
        if raising:
            raise Looked
        return x * 2.0

    compiled = mg.compile(seen_by_both)
    before = sys.getprofile()
    sys.setprofile(profiler)
    try:
        with contextlib.suppress(Looked):
            compiled(X)
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(before)
    assert "seen_by_both" in entered


def test_within_a_profile():
    function = lambda x: x * RATE  # noqa: E731
    compiled = mg.compile(function)
    profile = cProfile.Profile()
    profile.enable()
    try:
        compiled(X)
        time.sleep(0)
    finally:
        profile.disable()
    agree(compiled, function)
    assert any("sleep" in str(entry.code) for entry in profile.getstats())


# --- elements of arrays -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda x, v: x * v[0],
        lambda x, v: x * (v * 2.0),
        lambda x, v: x * v.sum(),
        lambda x, v: x * v.astype(np.float64),
        lambda x, v: x * float(v[-1]),
        lambda x, v: x * 2.0 if v[0] > 1.0 else x,
    ],
)
def test_elements_that_python_reads(use):
    """Of an array that is changed in place between the calls."""
    v = np.ones(3, np.float32)
    function = lambda x: use(x, v)  # noqa: E731
    compiled = mg.compile(function)
    for i in range(1, 4):
        v[...] = i
        agree(compiled, function)
    assert traces(compiled) == 3


def test_elements_that_the_step_changes():
    """Are another in each call."""

    def make():
        count = np.zeros(1)

        def step(x):
            count[0] += 1.0
            return x * float(count[0])

        return step

    compiled, function = mg.compile(make()), make()
    agree(compiled, function)


def test_operands_are_not_traced_anew():
    v = np.ones(3)
    function = lambda x: x * v + v[::-1]  # noqa: E731
    compiled = mg.compile(function)
    for i in range(3):
        v[0] = i
        agree(compiled, function)
    assert traces(compiled) == 1
