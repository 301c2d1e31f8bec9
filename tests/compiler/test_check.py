"""mg.compile(step, check=n) finds where a step differs from eager, and names the operation.

The tests put faults in on purpose. Generated functions run as Python.
"""

import collections
import math
import queue
import types

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, ops, optim
from minigrad.compiler.runtime import backend
from minigrad.compiler.tracing import guards
from minigrad.compiler.tracing.trace import Trace
from minigrad.errors import ArgumentError, TraceError
from minigrad.ops import index_steps, random

pytestmark = pytest.mark.usefixtures("as_python")


RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 8, 3)).astype(np.float32)
Y = RNG.integers(0, 2, (12, 8))


class Net(nn.Module):
    def __init__(self):
        self.scale = 2.0
        self.linear, self.norm, self.drop = nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout(0.3)

    def forward(self, x):
        return self.drop(self.norm(self.linear(x)) * self.scale)


def make(check=None):
    mg.manual_seed(0)
    net = Net()
    opt = optim.SGD(net.parameters(), lr=0.1, momentum=0.9, dampening=0.2)

    @mg.compile(check=check)
    def step(x, y):
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return {"loss": loss}

    return net, opt, step


def everything(net, opt):
    found = {k: v.tobytes() for k, v in net.state_dict().items()}
    for i, p in enumerate(net.parameters()):
        found[f"grad {i}"] = None if p.grad is None else p.grad.data.tobytes()
        found[f"momentum {i}"] = opt.state[p]["momentum_buffer"].tobytes() if p in opt.state else ""
    return found


@pytest.mark.parametrize("check", [1, 2, 5])
def test_a_check_changes_nothing(check):
    """All bits of losses, state and random numbers are as without a check, also in an epoch."""
    found = []
    for each in (None, check):
        net, opt, step = make(each)
        mg.manual_seed(1)
        losses = [step(x, y)["loss"].item() for x, y in zip(X, Y, strict=True)]
        mean = mg.compile(lambda x, net=net: (x * net.scale).mean(), check=each)
        losses += mean.epoch(X.reshape(-1, 3), batch_size=5).tolist()
        found.append((losses, everything(net, opt)))
    assert found[0] == found[1]


def test_every_nth_call_is_checked():
    counts, noted = [], queue.SimpleQueue()  # which no guard looks into

    def noting(x):
        noted.put(None)
        return x * 2.0

    step = mg.compile(noting, check=3)
    for _ in range(7):
        before = noted.qsize()
        step(X[0])
        counts.append(noted.qsize() - before)
    assert counts == [3, 0, 0, 2, 0, 0, 2]  # traced, and run twice beside


def test_a_step_that_counts_is_not_checked():
    """A checked step would count twice."""
    owner = types.SimpleNamespace(n=0)

    def step(x):
        owner.n += 1
        return x * owner.n

    compiled = mg.compile(step, check=1)
    assert [compiled(np.ones(1)).item() for _ in range(3)] == [1.0, 2.0, 3.0]
    assert owner.n == 3


def constant_gradient(monkeypatch, net):
    """Let every call use a constant for a gradient, and return the expected message."""
    note = Trace.update

    def update(self, update, *inputs):
        if update.name.startswith("sgd"):
            inputs = (inputs[0], np.ones(inputs[1].shape, np.float32), *inputs[2:])
        note(self, update, *inputs)

    monkeypatch.setattr(Trace, "update", update)
    return r"They part at sgd_momentum\(%net\.linear\.weight, %constant"


def wrong_pass(monkeypatch, net):
    """Let a pass scale what dropout keeps by 3, and return the expected message."""

    def keep_mask(write, a, p):
        drawn = write(random.uniform, like=(a.shape, np.float32), shape=a.shape)
        kept = write.cast(write(ops.greater_equal, drawn, p), write.result.dtype)
        write(ops.mul, kept, 3.0, to=write.result)
        return True

    monkeypatch.setattr(ops.keep_mask, "decompose", keep_mask)
    return r"The passes are to blame. They part at %keep_mask: .* = mul\(.*, 3\.0\)"


def unseen_attribute(monkeypatch, net):
    """Let guards always hold while an attribute changes, and return the expected message."""
    monkeypatch.setattr(guards.Guards, "__call__", lambda self: True)
    object.__setattr__(net, "scale", 3.0)
    return r"They part at %mul: .* = mul\(%batch_norm, 2\.0\)"


@pytest.mark.parametrize("fault", [constant_gradient, wrong_pass, unseen_attribute])
def test_faults_are_found_and_named(fault, monkeypatch):
    """Nothing has changed when the error is raised."""
    net, opt, step = make(1)
    if fault is unseen_attribute:
        step(X[0], Y[0])
    message = fault(monkeypatch, net)
    before = everything(net, opt)
    with pytest.raises(TraceError, match=f"check: .* step differs from the eager one.* {message}"):
        step(X[1], Y[1])
    assert everything(net, opt) == before
    monkeypatch.undo()
    net.scale = 4.0
    step(X[1], Y[1])


def test_another_part_of_an_outside_array_is_found(monkeypatch):
    """The fault stands for a view that is found by its address, but at another place."""
    outside, tensor = np.arange(12.0), Trace.tensor
    step = mg.compile(lambda x: x * outside[1:4], check=1)
    monkeypatch.setattr(
        Trace, "tensor", lambda self, x, name: tensor(self, x.base[: x.size].copy(), name)
    )
    with pytest.raises(TraceError, match=r"They part at %mul: .* = mul\(%x, %constant\)"):
        step(X[0])


def test_dimensions_in_another_order_are_found(monkeypatch):
    """The fault stands for an Ellipsis of no dimensions that is overlooked."""
    rows = np.array([0, 1])
    step, right = mg.compile(lambda x: x[:, rows, ..., rows] * 1.0, check=1), index_steps.Steps
    wrong = {"axes": None, "first": 1}
    monkeypatch.setattr(index_steps, "Steps", lambda **steps: right(**steps | wrong))
    x = RNG.standard_normal((2, 2, 2))
    with pytest.raises(TraceError, match=r"The passes are to blame. They part at %getitem"):
        step(x)
    monkeypatch.undo()
    compiled = mg.compile(lambda x: x[:, rows, ..., rows] * 1.0, check=1)
    np.testing.assert_array_equal(compiled(x).data, x[:, rows, ..., rows])


def test_faults_of_machine_code_are_told(monkeypatch):
    """The error blames machine code if the program is right and its results are not."""
    function = backend.function

    def broken(module, name, bare=False):
        right = function(module, name, bare)
        return lambda *given: right(*given[:-3], given[-3] * 1.5, *given[-2:])  # the numbers

    step = mg.compile(lambda x: (x * 2.0).tanh(), check=1)
    monkeypatch.setattr(backend, "function", broken)
    with pytest.raises(TraceError, match=r"machine code of .* is to blame"):
        step(X[0])


@pytest.mark.parametrize("check", [0, -1, 1.5, True, "2"])
def test_wrong_values_of_check_are_refused(check):
    with pytest.raises(ArgumentError, match="check must be an integer of at least 1"):
        mg.compile(lambda x: x, check=check)


def test_it_is_a_decorator_with_options():
    @mg.compile(check=2)
    def double(x):
        return x * 2

    assert double.__name__ == "double"
    np.testing.assert_array_equal(double(X[0]).data, X[0] * 2)
    assert double(X[0]).dtype == np.float32


# --- what is frozen -------------------------------------------------------------------------------


def hidden(owner, name):
    """Return an attribute, under a name that no guard sees."""
    return getattr(owner, "_".join(["hidden", name]))


def descend(owner, p, x):
    """Update p at a rate so small that it hardly changes."""
    (g,) = mg.grad((p * x).sum(), p)
    with mg.no_grad():
        p.copy_(p - hidden(owner, "rate") * g)
    return p * 1.0


FROZEN = {
    "a small rate": (
        descend, "rate", 1.01e-6, r"mul\(1e-06, .* has 1e-06 where eager has 1\.01e-06",
    ),
    "a rate that is nearly equal": (
        descend, "rate", 1.0000001e-6, r"has 1e-06 where eager has 1\.0000001e-06",
    ),
    "an attribute": (
        lambda owner, p, x: F.layer_norm(x, (3,), eps=hidden(owner, "eps")), "eps", 1.01e-5,
        "has 1e-05 where eager has 1.01e-05",
    ),
    "an array": (
        lambda owner, p, x: x * (hidden(owner, "array")[:3] * 2.0), "array", np.full(5000, 1.0001),
        r"mul\(%x, %constant\): it has other elements, shape \(3,\), where eager has other",
    ),
    "an index": (
        lambda owner, p, x: x[hidden(owner, "index") :].sum(), "index", 1, "getitem",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FROZEN)
def test_frozen_values_are_found_however_small(fault):
    function, name, value, message = FROZEN[fault]
    owner = types.SimpleNamespace(
        hidden_rate=1e-6, hidden_eps=1e-5, hidden_array=np.ones(5000), hidden_index=0
    )
    p = mg.tensor(np.ones((8, 3), np.float32), requires_grad=True)
    step = mg.compile(lambda x: function(owner, p, x), check=1)
    for x in X[:3]:
        step(x)
    before = p.data.tobytes()
    setattr(owner, f"hidden_{name}", value)
    with pytest.raises(TraceError, match=message):
        step(X[3])
    assert p.data.tobytes() == before and step.traces == 1


# By fault, a function of a number that changes unseen, and of x; and the expected message.
RESULTS = {
    "number": (lambda n, x: (x.sum(), n), r"result\[1\]: it is 1 where eager has 2"),
    "class of a number": (lambda n, x: [2.0 if n == 1 else 2], r"\[0\]: it is 2\.0 where .* 2\. "),
    "sign of zero": (lambda n, x: 0.0 * (3 - 2 * n), r"result: it is 0\.0 where eager has -0\.0"),
    "text": (lambda n, x: {"a": [x, str(n)]}, r"result\['a'\]\[1\]: it is '1' where eager has '2'"),
    "key": (lambda n, x: {"_ab"[n]: x * 1}, r"a dict with the keys \['a'\] where .* \['b'\]"),
    "class of a key": (lambda n, x: {(1, True)[n - 1]: x}, r"keys \[1\] where .* \[True\]"),
    "order of keys": (
        lambda n, x: dict([("a", 1), ("b", 2)][:: 3 - 2 * n]), r"keys \['a', 'b'\] .* \['b', 'a'\]",
    ),
    "length": (lambda n, x: [x.sum()] * n, r"a list with length 1 where .* a list with length 2"),
    "container": (lambda n, x: (list, tuple)[n - 1]([x]), r"it is a list .* eager has a tuple"),
    "Tensor": (lambda n, x: (x.sum(), n)[n - 1], r"result: it is a Tensor where eager has 2"),
    "None": (lambda n, x: (None, x)[n - 1], r"result: it is None where eager has a Tensor"),
}  # fmt: skip


@pytest.mark.parametrize("fault", RESULTS)
def test_other_plain_parts_of_a_result_are_found_and_their_place_is_named(fault):
    function, message = RESULTS[fault]
    owner = types.SimpleNamespace(hidden_n=1)
    step = mg.compile(lambda x: function(hidden(owner, "n"), x), check=1)
    for x in X[:3]:
        step(x)
    owner.hidden_n = 2
    with pytest.raises(TraceError, match=f"They part at .*{message}"):
        step(X[3])
    assert step.traces == 1


def test_results_that_are_swapped_are_named():
    """Machine code is not to blame if the step returns other Tensors."""
    owner = types.SimpleNamespace(hidden_n=1)

    @mg.compile(check=1)
    def step(x):
        found = x.sum(), x.mean()
        return {"both": found[:: hidden(owner, "n")]}

    step(X[0])
    owner.hidden_n = -1
    with pytest.raises(TraceError, match=r"They part at result\['both'\]\[0\], which is sum: "):
        step(X[1])


def test_equal_results_of_many_kinds_pass():
    """No number is compared with itself by ==."""
    pair = collections.namedtuple("pair", "a b")
    step = mg.compile(
        lambda x: [pair(x, math.nan), {"n": np.float32(np.nan), (1, "k"): None}, -0.0, True, ""],
        check=1,
    )
    for x in X[:3]:
        found = step(x)
    assert type(found[0]) is pair and math.isnan(found[1]["n"])


def test_arrays_that_a_step_changes_change_once():
    """Running statistics may be plain arrays."""
    mean, var = np.zeros(3), np.ones(3)
    step = mg.compile(lambda x: F.batch_norm(x, mean, var, training=True, momentum=0.5), check=1)
    x = RNG.standard_normal((8, 3))
    step(x)
    np.testing.assert_allclose(mean, 0.5 * x.mean(0), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fused", [False, True])
def test_rounding_alone_is_no_difference(fused, dtype):
    """The gradient of a bias before BatchNorm is nothing but rounding, of any sign and size."""
    mg.manual_seed(0)
    layers = [nn.Linear(3, 5), nn.BatchNorm1d(5, fused=fused), nn.ReLU(), nn.Linear(5, 2)]
    net = nn.Sequential(*layers).to(dtype)
    opt = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    @mg.compile(check=1)
    def step(x, y):
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return loss

    for i in range(60):
        step(X[i % 12, i % 3 :].astype(dtype), Y[i % 12, i % 3 :])


def test_parameters_in_another_order_in_memory():
    p = mg.tensor(np.ones((8, 3)), requires_grad=True)
    p.data = np.asfortranarray(p.data)
    opt = optim.SGD([p], lr=0.1, momentum=0.9)

    @mg.compile(check=1)
    def step(x):
        opt.zero_grad()
        (p * p * x).sum().backward()
        opt.step()

    for x in X[:3]:
        step(x.astype(np.float64))
    assert p.data.flags.f_contiguous
