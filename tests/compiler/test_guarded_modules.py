"""A compiled step notices every change of a Module: attributes, slots, class and order.

Generated functions run as Python.
"""

import pytest
from guarded import Scaled, agree

import minigrad as mg
from minigrad import nn

pytestmark = pytest.mark.usefixtures("as_python")


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
def test_what_a_module_holds_is_guarded(name, inside):
    """A compiled step sees changes that go past `__setattr__`, too."""
    model = Scaled()
    net = nn.Sequential(nn.ReLU(), model) if inside else model
    function = lambda x: net(x) * 1.0  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    CHANGES[name](model)
    agree(compiled, function)
    vars(model)["scale"] = 3.0
    agree(compiled, function)
    assert compiled.traces == 3


def test_names_that_are_swapped_are_noticed():
    """A change of names counts even if all values are the same, in the same order."""
    model = Scaled()
    model.other = 2.0
    function = lambda x: model(x) * getattr(model, "late", 3.0)  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    vars(model)["late"] = vars(model).pop("other")
    agree(compiled, function)
    assert compiled.traces == 2


class InTurn(nn.Module):
    """An InTurn calls its children in the order of its attributes."""

    def __init__(self):
        self.scaled, self.shifted = Scaled(), Shifted()

    def forward(self, x):
        for child in self.children():
            x = child(x)
        return x


class Shifted(nn.Module):
    def forward(self, x):
        return x + 1.0


def test_another_order_of_attributes_is_noticed():
    """The order counts even if the same names have the same values."""
    net = InTurn()
    function = lambda x: net(x) * 1.0  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    child = net.scaled
    del net.scaled
    net.scaled = child
    agree(compiled, function)
    assert compiled.traces == 2


def test_slots_of_a_module_are_guarded():
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
    assert compiled.traces == 4


def test_classes_of_modules_are_guarded(monkeypatch):
    """Changes of their attributes, methods and bases count."""
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
    assert compiled.traces == 5
