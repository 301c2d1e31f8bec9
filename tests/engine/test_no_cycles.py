"""The tape frees what is no longer needed, however deep it is; leaves and models can be copied."""

import contextlib
import copy
import gc
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pytest
from leaves import leaf

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim
from minigrad.engine.tape import Record, tape
from minigrad.errors import GradError, MinigradError

ENGINE = sys.modules["minigrad.engine.dispatch"]


# --- leaks --------------------------------------------------------------------------------------


@pytest.fixture
def no_gc():
    """Turn the garbage collector off, so that reference counts alone free things."""
    model, x, labels = model_and_data()
    F.cross_entropy(model(x), labels).backward()  # compiles kernels, and Numba leaves cycles then
    optim.SGD(model.parameters(), momentum=0.9).step()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def arrays_in(y):
    """Return the arrays that a forward returned, and those that it saved."""
    if isinstance(y, tuple):
        return [a for part in y for a in arrays_in(part)]
    return [] if y is None else [y]


@pytest.fixture
def made(monkeypatch, no_gc):
    """Return weak references to each array and Tensor that primitives and backward make."""
    references = []

    class Watched(Record):
        __slots__ = ("__weakref__",)

        def __init__(self, *args):
            super().__init__(*args)
            tensors = [x for x in self.inputs if isinstance(x, mg.Tensor)]
            references.extend(map(weakref.ref, [self, *arrays_in(self.y), *tensors]))

    monkeypatch.setattr(ENGINE, "Record", Watched)
    return references


def alive(references, keep=()):
    """Return the referents that are still alive, besides those to be kept."""
    kept = {id(x) for x in keep}
    return [r() for r in references if r() is not None and id(r()) not in kept]


def model_and_data():
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    x = mg.tensor(np.random.default_rng(0).normal(size=(8, 4)).astype("f"))
    return model, x, np.arange(8) % 3


def test_nothing_is_alive_after_a_step(made):
    model, x, labels = model_and_data()
    sgd = optim.SGD(model.parameters(), momentum=0.9)
    keep = [x, *model.parameters()]
    loss = F.cross_entropy(model(x), labels)
    assert len(alive(made, keep)) > 10
    loss.backward()
    sgd.step()
    keep += [loss, loss.numpy(), *tape([loss])]
    assert alive(made, keep) == []
    last = weakref.ref(loss)
    del loss, keep[-3:]
    assert last() is None and alive(made, keep) == []


def test_nothing_is_alive_after_a_forward_that_was_dropped_or_that_failed(made):
    model, x, labels = model_and_data()
    keep = [x, *model.parameters()]
    loss = F.cross_entropy(model(x), labels)
    assert alive(made, keep)
    del loss
    assert alive(made, keep) == []
    try:
        F.cross_entropy(model(x), labels + 1)
    except MinigradError:
        pass
    else:
        pytest.fail("label 3 of 3 was accepted")
    assert made and alive(made, keep) == []


def test_nothing_is_alive_after_retain_graph_or_a_failed_backward(made):
    model, x, labels = model_and_data()
    keep = [x, *model.parameters()]
    loss = F.cross_entropy(model(x), labels)
    loss.backward(retain_graph=True)
    assert len(alive(made, keep)) > 10
    with mg.no_grad():
        model[0].weight.copy_(0.0)
        model[3].weight.copy_(0.0)
    with contextlib.suppress(GradError):
        loss.backward()
    del loss
    assert alive(made, keep) == []


def test_nothing_is_alive_after_a_second_derivative(made):
    x = leaf([1.0, 2.0])
    (g,) = mg.grad((x * x).exp().sum(), x, create_graph=True)
    (gg,) = mg.grad(g.sum(), x, create_graph=True)
    assert len(alive(made, [x])) > 10
    del g, gg
    assert alive(made, [x]) == []
    (x**3).sum().backward(create_graph=True)  # x.grad, recorded, refers to x: until it is cleared
    x.grad = None
    assert alive(made, [x]) == []


# --- depth --------------------------------------------------------------------------------------

DEEP = """
import gc, sys
import minigrad as mg

gc.disable()                # there are no cycles, and looking for them would take most of the time
x = mg.tensor(1.0, requires_grad=True)

def chain(n):
    y = x
    for _ in range(n):
        y = y + 1.0
    return y

n = int(sys.argv[1])
y = chain(n)
y.backward()
assert (y.item(), x.grad.item()) == (n + 1, 1.0), (y, x.grad)
del y
y = chain(n)
del y                       # without backward
y = chain(n // 10)
(g,) = mg.grad(y, x, retain_graph=True)
del y, g                    # after one that kept the tape
print("done")
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("n", ["100000", "1000000"])
def test_a_long_chain_of_records_is_built_walked_and_freed(n):
    # In a process of its own, with the stack it gets by default: overflowing one ends it.
    command = [sys.executable, "-c", DEEP, n]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]


def test_a_deep_chain_with_views_and_two_parents_is_freed_too():
    x = leaf(np.ones((1, 1)))
    a = b = x
    for _ in range(20_000):
        a, b = (a + b).T * 0.5, a.reshape(1, 1)
    (a + b).sum().backward()
    assert x.grad.item() == pytest.approx(2.0)
    del a, b


# --- copies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
@pytest.mark.parametrize("make", [leaf, nn.Parameter, mg.tensor])
def test_leaves_can_be_copied_and_pickled(how, make):
    x = make(np.array([1.0, 2.0]))
    if x.requires_grad:
        (x * x).sum().backward()
    twin = how(x)
    assert type(twin) is type(x) and twin is not x
    assert twin.requires_grad == x.requires_grad and twin.dtype == x.dtype and twin.is_leaf
    np.testing.assert_array_equal(twin.numpy(), x.numpy(), strict=True)
    assert not np.shares_memory(twin.numpy(), x.numpy())
    with pytest.raises(GradError, match=r"only leaves.*detach"):
        how(leaf([1.0]) * 2.0)
    assert not np.shares_memory(how((leaf([1.0]) * 2.0).detach()).numpy(), x.numpy())


def test_a_copied_model_is_independent_and_keeps_what_is_shared_shared():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin[2].weight is twin[0].weight is not model[0].weight
        before = model.state_dict()
        with mg.no_grad():
            for p in [*twin.parameters(), *twin.buffers()]:
                p.copy_(np.full(p.shape, 7))
        for k, v in model.state_dict().items():
            np.testing.assert_array_equal(v, before[k])
