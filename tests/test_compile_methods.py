"""Compiled methods: for each object traces of its own, which notice its changes, and go when it
goes. Generated functions run as Python."""

import copy
import dataclasses
import gc
import pickle
import weakref

import numpy as np
import pytest
from test_compile_table import as_python  # noqa: F401

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import TraceError

X = np.arange(1.0, 4.0)


class Scaled:
    scale = 2.0

    def __init__(self):
        self.items = {"k": 3.0}

    @mg.compile
    def step(self, x):
        return (x * self.scale * self.items["k"]).sum()


class Deeper(Scaled):
    @mg.compile
    def step(self, x):
        return super().step(x) + self.offset

    offset = 1.0


class Modes(nn.Module):
    @mg.compile
    def forward(self, x):
        return x * 1.0 if self.training else x * 0.0


@dataclasses.dataclass
class Unhashable:
    rate: float = 2.0

    @mg.compile
    def step(self, x):
        return (x * self.rate).sum()


class Slotted:
    __slots__ = ("rate",)

    def __init__(self):
        self.rate = 2.0

    @mg.compile
    def step(self, x):
        return (x * self.rate).sum()


def test_changes_of_the_object_are_noticed():
    one = Scaled()
    for scale, k in ((2.0, 3.0), (2.0, 3.0), (5.0, 3.0), (5.0, 4.0), (2.0, 3.0)):
        if scale != one.scale:
            one.scale = scale
        one.items["k"] = k
        assert one.step(X).item() == X.sum() * scale * k
    assert len(next(iter(one.step._plans.values()))) == 4  # scale was the class's, then its own


def test_modes_of_a_module():
    net = Modes()
    for training in (True, True, False, False, True):
        net.train(training)
        np.testing.assert_array_equal(net(X).data, X * training)


def test_methods_that_another_calls():
    """In the class above, and in another trace."""
    one = Deeper()
    outer = mg.compile(lambda x: one.step(x))
    for one.scale, one.offset in ((2.0, 1.0), (2.0, 1.0), (2.0, 7.0), (5.0, 7.0)):
        expected = X.sum() * one.scale * 3 + one.offset
        assert one.step(X).item() == outer(X).item() == expected


@pytest.mark.parametrize("kind", [Scaled, Unhashable, Slotted])
def test_it_is_a_compiled_function(kind):
    """With a source, and epochs, of its own; those of another object are others."""
    one, two = kind(), kind()
    with pytest.raises(TraceError, match="call step first"):
        print(one.step.source)
    assert one.step is one.step and one.step is not two.step
    for _ in range(2):
        one.step(X)
    assert "def step(" in one.step.source and "mul" in one.step.program
    assert "operations traced" in one.step.report() and one.step.path.is_file()
    with pytest.raises(TraceError, match="call step first"):
        print(two.step.source)
    got = one.step.epoch(np.stack([X] * 7), batch_size=2)
    factor = one.step(X).item() / X.sum()
    np.testing.assert_allclose(got.data, factor * X.sum() * np.array([2, 2, 2, 1]))


def test_training_by_a_method():
    class Trainer:
        def __init__(self):
            mg.manual_seed(0)
            self.model = nn.Linear(3, 1)
            self.opt = optim.SGD(self.model.parameters(), lr=0.1)

        def plain(self, x):
            self.opt.zero_grad()
            loss = (self.model(x) ** 2).mean()
            loss.backward()
            self.opt.step()
            return loss

        step = mg.compile(plain)

    one, two = Trainer(), Trainer()
    x = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
    expected = [one.plain(mg.tensor(x[i : i + 4])).item() for i in (0, 4, 8)]
    np.testing.assert_allclose(two.step.epoch(x, batch_size=4).data, expected, rtol=1e-6)
    assert "%self.model.weight" in two.step.program or "%model.weight" in two.step.program


def test_copies_and_pickles():
    """Of an object have traces of their own; of a method, its object."""
    one = Scaled()
    one.step(X)
    for two in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        two.scale = 10.0
        assert two.step is not one.step
        assert two.step(X).item() == 30 * X.sum()
        assert one.step(X).item() == 6 * X.sum()
    method = pickle.loads(pickle.dumps(one.step))
    assert method(X).item() == 6 * X.sum()
    assert method.__self__ is not one


def test_it_goes_with_its_object():
    one = Scaled()
    one.step(X)
    one.step(X)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None


def test_in_the_class_it_is_a_function_of_the_object():
    one = Scaled()
    for one.scale in (2.0, 3.0):
        assert Scaled.step(one, X).item() == X.sum() * one.scale * 3
    other = Slotted()
    other.rate = Scaled().step
    assert other.rate is not None and other.rate.__get__(one) is other.rate
