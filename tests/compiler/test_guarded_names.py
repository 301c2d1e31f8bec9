"""A compiled step notices changes of what it names, whichever way Python finds the value.

Generated functions run as Python.
"""

import builtins
import collections
import functools
import operator
import types
import weakref

import numpy as np
import pytest
from guarded import X, agree

import minigrad as mg

pytestmark = pytest.mark.usefixtures("as_python")


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
    """Return a step whose function is in its cache, and reads a closure, a default and a name."""

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
def test_what_a_step_names_is_guarded(way, monkeypatch):
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
    settled = compiled.traces
    agree(compiled, function)
    assert compiled.traces == settled  # nothing is traced anew without a change


def test_what_is_not_named_is_not_watched():
    """Histories and counters of the caller may grow in the objects that a step uses."""
    config = Config()
    config.history, config.calls = [], 0
    function = lambda x: x * config.rate  # noqa: E731
    compiled = mg.compile(function)
    for _ in range(5):
        config.calls += 1
        config.history.append(compiled(X))
        globals()["later"] = config.calls
    assert compiled.traces == 1


def test_a_key_that_was_deleted_stays_away():
    table = collections.defaultdict(lambda: 9.0, rate=2.0)
    function = lambda x: x * table.get("rate", 4.0)  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    del table["rate"]
    agree(compiled, function)
    assert "rate" not in table
