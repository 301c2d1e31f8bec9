"""A compiled method has traces for each object, which notice its changes and end with it.

Generated functions run as Python.
"""

import copy
import dataclasses
import gc
import os
import pathlib
import pickle
import subprocess
import sys
import weakref
from importlib.util import find_spec

import numpy as np
import pytest
from numba import cloudpickle

import minigrad as mg
from minigrad import nn, optim
from minigrad.compiler.methods import MOST_ELSEWHERE
from minigrad.errors import TraceError

pytestmark = pytest.mark.usefixtures("as_python")


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
    assert one.step.traces == 4  # scale was the class's, then its own


def test_modes_of_a_module():
    net = Modes()
    for training in (True, True, False, False, True):
        net.train(training)
        np.testing.assert_array_equal(net(X).data, X * training)


def test_methods_that_another_calls():
    """They are found in the class above, and in another trace."""
    one = Deeper()
    outer = mg.compile(lambda x: one.step(x))
    for one.scale, one.offset in ((2.0, 1.0), (2.0, 1.0), (2.0, 7.0), (5.0, 7.0)):
        expected = X.sum() * one.scale * 3 + one.offset
        assert one.step(X).item() == outer(X).item() == expected


@pytest.mark.parametrize("kind", [Scaled, Unhashable, Slotted])
def test_it_is_a_compiled_function(kind):
    """A compiled method has its own source and epochs; other objects have others."""
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
    """Copies of an object have their own traces; a copied method keeps its object."""
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


MAIN = '''
import pickle, subprocess, sys
import numpy as np
import minigrad as mg
from numba import cloudpickle

RATE = 3.0
X = np.arange(3.0)

@mg.compile
def step(x):
    return x * RATE

def made(by):
    @mg.compile
    def inner(x):
        return x * by
    return inner

class Trainer:
    @mg.compile
    def step(self, x):
        return super().__repr__() and x * self.rate

trainer = Trainer()
trainer.rate = 5.0
plain = mg.compile(lambda x: x * 2.0)
METHODS = {"step": (step, 3.0), "inner": (made(4.0), 4.0), "lambda": (plain, 2.0),
           "method": (trainer.step, 5.0)}
WAYS = [(name, cloudpickle) for name in METHODS] + [("inner", pickle), ("lambda", pickle)]
WORKER = """
import pickle, sys, numpy as np
for sent in pickle.load(sys.stdin.buffer):
    f = pickle.loads(sent)
    print([f(np.arange(3.0)).data[1].item() for _ in range(3)])
"""

if __name__ == "__main__":
    sent = []
    for _ in range(2):
        for function, _ in METHODS.values():
            function(X)  # what was traced is sent, too
        sent += [way.dumps(METHODS[name][0]) for name, way in WAYS]
    ran = subprocess.run([sys.executable, "-c", WORKER], input=pickle.dumps(sent),
                         capture_output=True)
    expected = 2 * [str([METHODS[name][1]] * 3) for name, _ in WAYS]
    assert ran.stdout.decode().splitlines() == expected, ran.stderr.decode()
    assert pickle.loads(pickle.dumps(step)) is step
    {more}
    print("done")
'''


JOBLIB = """
    import joblib
    found = joblib.Parallel(2)(joblib.delayed(step)(X * i) for i in range(4))
    np.testing.assert_array_equal([y.data for y in found], [X * i * RATE for i in range(4)])
"""


def test_pickles_for_other_processes(tmp_path):
    """Functions of `__main__`, local ones and lambdas reach other processes, also joblib's."""
    script = tmp_path / "script.py"
    script.write_text(MAIN.replace("{more}", JOBLIB if find_spec("joblib") else "pass"))
    root = str(pathlib.Path(mg.__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.stdout.strip() == "done", ran.stderr


@mg.compile
def of_a_module(x):
    return x * 2.0


def test_pickles_by_name():
    """A function that another process can import is not sent."""
    for way in (pickle, cloudpickle):
        assert way.loads(way.dumps(of_a_module)) is of_a_module
    assert copy.copy(of_a_module) is copy.deepcopy(of_a_module) is of_a_module
    within = mg.compile(lambda x: x)
    assert copy.copy(within) is copy.deepcopy(within) is within


class Piled:
    """Its objects have no `__dict__` for compiled methods."""

    __slots__ = ("__weakref__", "by")

    def __init__(self, by):
        self.by = by

    @mg.compile
    def step(self, x):
        return x * self.by


def test_compiled_methods_of_slotted_objects_do_not_pile_up():
    """The objects used last keep theirs, and others are traced again."""
    owners = [Piled(float(i)) for i in range(MOST_ELSEWHERE + 8)]
    methods = [owner.step for owner in owners]
    assert owners[0].step is not methods[0] and owners[-1].step is methods[-1]
    for owner in owners:
        assert owner.step(X).tolist() == (X * owner.by).tolist()
    freed = [weakref.ref(owner) for owner in owners]
    del owner, owners, methods
    gc.collect()
    assert sum(ref() is not None for ref in freed) <= MOST_ELSEWHERE
