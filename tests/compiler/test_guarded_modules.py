"""A compiled step notices every change of a Module: attributes, slots, class and order.

Generated functions run as Python.
"""

import numpy as np
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
    number = name in ("object.__setattr__", "vars", "__dict__.update")  # the second trace reads it
    assert compiled.traces == (2 if number else 3)


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
def test_assignments_to_minigrads_layers_are_noticed(name):
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


def test_a_deleted_buffer_raises_the_functions_error():
    """A compiled function raises the same error as the function."""
    layer = nn.BatchNorm1d(3).eval()
    compiled = mg.compile(lambda x: layer(x))
    compiled(np.ones((4, 3), np.float32))
    del layer.running_mean
    with pytest.raises(AttributeError, match="running_mean"):
        compiled(np.ones((4, 3), np.float32))


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
    assert compiled.traces == 3  # the second reads the number in each call


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
