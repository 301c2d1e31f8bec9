"""A compiled step notices changes of objects that run code when they are looked at.

Among them are objects that answer in place of others. Generated functions run as Python.
"""

import sys
import types
import unittest.mock

import numpy as np
import pytest
from guarded import Rated, X, agree

import minigrad as mg
from minigrad import nn
from minigrad.compiler.tracing.guards import same

pytestmark = pytest.mark.usefixtures("as_python")


class Looked(Exception):
    pass


def refuse(*_):
    raise Looked


class Answers:
    """An Answers has every attribute."""

    def __init__(self):
        self.rate = 2.0

    def __getattr__(self, name):
        return lambda *args: self


class Hostile:
    """A Hostile raises for everything but its rate."""

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
    "proxy": lambda: Proxy(Rated()),
    "proxy of a module": lambda: Proxy(type("Rated", (nn.Module,), {"rate": 2.0})()),
    "mock": lambda: unittest.mock.Mock(rate=2.0),
    "magic mock": lambda: unittest.mock.MagicMock(rate=2.0),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_objects_that_run_code_when_looked_at_are_guarded(kind):
    """A trace runs none of their code, and notices their changes all the same."""
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


def test_equal_objects_are_told_apart():
    """Objects that their class calls equal are compared by identity."""
    anything = type("Anything", (), {"__eq__": lambda a, b: True, "__hash__": None})
    config = Rated()
    function = lambda x: x * (2.0 if type(config.rate) is float else 3.0)  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    config.rate = anything()
    agree(compiled, function)
    assert same((1, (0.0,)), (1, (0.0,))) and not same((1, (0.0,)), (1, (-0.0,)))


class Special:
    """A Special gives its rate through what operators and statements call."""

    __match_args__ = ("hidden",)

    def __init__(self):
        self.hidden = 2.0

    def __len__(self):
        return int(self.hidden)

    def __getitem__(self, i):
        return self.hidden

    def __getattr__(self, name):
        if name != "found":
            raise AttributeError(name)
        return self.hidden

    def __rmul__(self, x):
        return x.__mul__(self.hidden)

    def __bool__(self):
        return self.hidden > 2.5

    def __eq__(self, other):
        return self.hidden == other

    __hash__ = None

    def __enter__(self):
        return self.hidden

    def __exit__(self, *_):
        pass

    def __iter__(self):
        yield self.hidden


class Listed(list):
    """A Listed has attributes besides its items."""


def in_a_block(s, x):
    with s as rate:
        return x * rate


def matched(s, x):
    match s:
        case Special(hidden=rate):
            return x * rate


def with_attribute(x):
    return x * with_attribute.rate


def importing(x):
    import rates_of_a_test

    return x * rates_of_a_test.RATE


def importing_a_name(x):
    from rates_of_a_test import RATE

    return x * RATE


@pytest.mark.parametrize(
    "use",
    [
        lambda s, x: x * len(s),
        lambda s, x: x * s[0],
        lambda s, x: x * s.found,
        lambda s, x: x * (3.0 if s else 1.0),
        lambda s, x: x * (3.0 if s == 2.0 else 1.0),
        lambda s, x: x * next(iter(s)),
        lambda s, x: x * s.held.rate,
        lambda s, x: x * (3.0 if hasattr(s, "later") else 1.0),
        in_a_block,
        matched,
        lambda s, x: with_attribute(x),
        lambda s, x: importing(x),
        lambda s, x: importing_a_name(x),
    ],
    ids=[
        "len",
        "item",
        "getattr",
        "bool",
        "==",
        "iter",
        "list",
        "hasattr",
        "with",
        "match",
        "function",
        "import",
        "from",
    ],
)
def test_what_is_reached_without_its_name_is_guarded(use, monkeypatch):
    module = types.ModuleType("rates_of_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    s = Special()
    s.held = Listed()
    compiled = mg.compile(lambda x: use(s, x))
    for value in (2.0, 3.0, 3.0, 5.0):
        s.hidden = s.held.rate = with_attribute.rate = module.RATE = value
        if value == 5.0:
            s.later = True
        for _ in range(2):
            np.testing.assert_array_equal(compiled(X).data, use(s, mg.tensor(X)).data)
    assert compiled.traces <= 3
