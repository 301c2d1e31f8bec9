"""A compiled step notices changes of what objects of libraries hold, hide or stand for.

Generated functions run as Python.
"""

import ctypes
import enum
import functools
import mmap
import multiprocessing
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from multiprocessing import shared_memory

import numpy as np
import pytest
from guarded import Rated, X, agree

import minigrad as mg
from minigrad import nn
from minigrad.errors import TraceError

pytestmark = pytest.mark.usefixtures("as_python")


@dataclass
class Config:
    rate: float = 2.0
    scale: float = 1.0


@dataclass
class Longer(Config):
    extra: float = 1.0


class Slotted:
    __slots__ = __match_args__ = ("rate",)

    def __init__(self):
        self.rate = 2.0


class Method:
    rate = 2.0

    def get(self):
        return self.rate


class Stubborn(Rated):
    """A Stubborn answers nothing but its rate."""

    __add__ = __eq__ = __hash__ = None
    __radd__ = lambda self, x: Rated()  # noqa: E731

    def __getattribute__(self, name):
        if name != "rate":
            raise KeyError(name)
        return object.__getattribute__(self, name)


class Callable(Rated):
    def __call__(self, x):
        return x * self.rate


class Ref(weakref.ref):
    """A Ref is a weak reference of a class of one's own."""


def setter(owner, name="rate", value=3.0):
    return lambda: setattr(owner, name, value)


# Each returns what a step does with x, and changes that it must notice, one after the other.


def positional_pattern():
    config = Config()

    def use(x):
        match config:
            case Config(rate):
                return x * rate

    return use, setter(config)


def inherited_pattern(monkeypatch):
    config = Longer()

    def use(x):
        match config:
            case Longer(a, b, c):
                return x * (a + 10.0 * b + 100.0 * c)

    order = lambda: monkeypatch.setattr(Longer, "__match_args__", ("extra", "scale", "rate"))  # noqa: E731
    return use, setter(config, "extra"), setter(config), order


def pattern_of_slots():
    slotted = Slotted()

    def use(x):
        match slotted:
            case Slotted(rate):
                return x * rate

    return use, setter(slotted)


def single_dispatch():
    @functools.singledispatch
    def rate(x):
        return 2.0

    return lambda x: x * rate(3), lambda: rate.register(int, lambda x: 5.0)


def single_dispatch_method():
    class Owner:
        @functools.singledispatchmethod
        def rate(self, x):
            return 2.0

    register, owner = Owner.__dict__["rate"].register, Owner()
    return lambda x: x * owner.rate(3), lambda: register(int, lambda self, x: 5.0)


def weak_proxy(kind):
    owner = kind()
    proxy = weakref.proxy(owner)
    change = lambda: object.__setattr__(owner, "rate", 3.0)  # noqa: E731
    return lambda x: x * proxy.rate, change


def callable_proxy():
    owner = Callable()
    proxy = weakref.proxy(owner)
    return lambda x: proxy(x), setter(owner)


def weak_reference(kind):
    owner = Rated()
    reference = kind(owner)
    return lambda x: x * reference().rate, setter(owner)


def weak_method():
    owner = Method()
    method = weakref.WeakMethod(owner.get)
    return lambda x: x * method()(), setter(owner)


def weak_values():
    owner, other = Rated(), Rated()
    other.rate = 5.0
    values = weakref.WeakValueDictionary(a=owner)
    return lambda x: x * values["a"].rate, setter(owner), lambda: values.update(a=other)


def weak_keys():
    owner = Rated()
    values = weakref.WeakKeyDictionary({owner: 2.0})
    return lambda x: x * values[owner], lambda: values.update({owner: 3.0})


def weak_set():
    owner, other = Rated(), Rated()
    values = weakref.WeakSet([owner])
    use = lambda x: x * sum(each.rate for each in values)  # noqa: E731
    return use, setter(owner), lambda: values.add(other)


def object_array(shape):
    values = np.empty(shape, object)
    values[...] = Config()
    change = lambda: values.__setitem__(..., Config(5.0))  # noqa: E731
    return lambda x: x * values.flat[0].rate, setter(values.flat[0]), change


def strings():
    values = np.array(["2.0"], np.dtypes.StringDType())
    return lambda x: x * float(values[0]), lambda: values.__setitem__(0, "3.0")


def void():
    record = np.ones(1, [("rate", float)])[0]
    return lambda x: x * float(record["rate"]), lambda: record.__setitem__("rate", 3.0)


def record():
    item = np.rec.array([(1.0,)], dtype=[("rate", float)])[0]
    return lambda x: x * float(item.rate), setter(item)


def masked_array():
    values = np.ma.array([1.0, 2.0], mask=[False, False])
    return lambda x: x * float(values.sum()), lambda: values.__setitem__(0, np.ma.masked)


def attribute_of(value):
    """Return a case for an attribute of an object of one's own class below a class of a library."""
    value.rate = 2.0
    return lambda x: x * value.rate, setter(value)


def c_scalar():
    value = ctypes.c_double(2.0)
    return lambda x: x * value.value, setter(value, "value")


def c_array():
    value = (ctypes.c_double * 2)(1.0, 2.0)
    return lambda x: x * value[1], lambda: value.__setitem__(1, 3.0)


def c_structure():
    value = type("Rate", (ctypes.Structure,), {"_fields_": [("rate", ctypes.c_double)]})(2.0)
    return lambda x: x * value.rate, setter(value)


def shared_value(kind):
    value = kind("d", 2.0)
    return lambda x: x * value.value, setter(value, "value")


def shared_array():
    value = multiprocessing.Array("d", [2.0])
    return lambda x: x * value[0], lambda: value.__setitem__(0, 3.0)


def view_of_memory():
    found = memoryview(ctypes.c_ubyte(2)).cast("B")
    return lambda x: x * float(found[0]), lambda: found.__setitem__(0, 3)


def member():
    class Choice(enum.Enum):
        ONE = Config()

    return lambda x: x * Choice.ONE.value.rate, setter(Choice.ONE.value)


def ordered():
    values = OrderedDict(a=1.0, b=2.0)
    return lambda x: x * next(iter(values.values())), lambda: values.move_to_end("a")


CASES = {
    "positional pattern": positional_pattern,
    "pattern of slots": pattern_of_slots,
    "singledispatch": single_dispatch,
    "singledispatchmethod": single_dispatch_method,
    "weakref.proxy": lambda: weak_proxy(Rated),
    "weakref.proxy of an object that answers nothing": lambda: weak_proxy(Stubborn),
    "weakref.proxy that is called": callable_proxy,
    "weakref.ref": lambda: weak_reference(weakref.ref),
    "subclass of weakref.ref": lambda: weak_reference(Ref),
    "WeakMethod": weak_method,
    "WeakValueDictionary": weak_values,
    "WeakKeyDictionary": weak_keys,
    "WeakSet": weak_set,
    "object array": lambda: object_array(3),
    "object array without axes": lambda: object_array(()),
    "array of strings": strings,
    "np.void": void,
    "np.record": record,
    "masked array": masked_array,
    "subclass of ndarray": lambda: attribute_of(np.ones(3).view(type("A", (np.ndarray,), {}))),
    "subclass of float64": lambda: attribute_of(type("F", (np.float64,), {})(1.0)),
    "subclass of bytearray": lambda: attribute_of(type("B", (bytearray,), {})()),
    "subclass of Parameter": lambda: attribute_of(type("P", (nn.Parameter,), {})(X)),
    "ctypes scalar": c_scalar,
    "ctypes array": c_array,
    "ctypes structure": c_structure,
    "multiprocessing.Value": lambda: shared_value(multiprocessing.Value),
    "multiprocessing.RawValue": lambda: shared_value(multiprocessing.RawValue),
    "multiprocessing.Array": shared_array,
    "memoryview": view_of_memory,
    "enum": member,
    "OrderedDict": ordered,
}


def follow(function, *changes):
    compiled = mg.compile(function)
    agree(compiled, function)
    for change in changes:
        before = compiled.traces
        change()
        agree(compiled, function)
        made = compiled.traces
        assert made > before
        agree(compiled, function)
        assert compiled.traces == made  # nothing has changed since


@pytest.mark.parametrize("case", CASES)
def test_changes_inside_objects_of_libraries_are_noticed(case):
    """Each change causes one trace."""
    follow(*CASES[case]())


def test_patterns_follow_inherited_names_and_another_order(monkeypatch):
    follow(*inherited_pattern(monkeypatch))


def test_names_of_patterns_are_not_watched_without_a_pattern():
    """A field that no function names may change."""
    config = Config()
    compiled = mg.compile(lambda x: x * config.rate)
    for value in (1.0, 2.0, 3.0):
        config.scale = value
        compiled(X)
    assert compiled.traces == 1


HIDDEN = {
    "mmap": lambda: mmap.mmap(-1, 16),
    "memoryview of an mmap": lambda: memoryview(mmap.mmap(-1, 16)),
    "pointer": lambda: ctypes.pointer(ctypes.c_double(1.0)),
    "py_object": lambda: ctypes.py_object(1.0),
    "fields of objects": lambda: np.zeros(2, [("a", float), ("b", object)]),
    "scalar with fields of objects": lambda: np.zeros(2, [("a", object)])[0],
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_memory_that_no_guard_sees_is_refused(kind):
    hidden = HIDDEN[kind]()
    with pytest.raises(TraceError, match=r"compile: hidden, a .*, leads to memory whose changes"):
        mg.compile(lambda x: x * bool(hidden))(X)


def test_shared_memory_is_refused():
    shared = shared_memory.SharedMemory(create=True, size=8)
    try:
        with pytest.raises(TraceError, match="a mmap, leads to memory"):
            mg.compile(lambda x: x * float(shared.buf[0]))(X)
    finally:
        shared.close()
        shared.unlink()


def test_proxies_and_views_of_nothing_may_be_named():
    """Only their use raises an error, as it does eagerly."""
    proxy, view = weakref.proxy(Rated()), memoryview(b"")
    view.release()
    function = lambda x: x * (2.0 if type(proxy) and type(view) else 1.0)  # noqa: E731
    agree(mg.compile(function), function)
