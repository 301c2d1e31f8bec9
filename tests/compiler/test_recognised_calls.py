"""A call like the one before is recognised from its arguments, without a signature.

Generated functions run as Python.
"""

import collections
import dataclasses
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.compiler import api
from minigrad.compiler.tracing.signature import plainly_stored, signature_of
from minigrad.kernels.allocator import SMALL

pytestmark = pytest.mark.usefixtures("as_python")

X = np.arange(6.0).reshape(2, 3)
Pair = collections.namedtuple("Pair", "sum twice")


def refuse(*arguments: object) -> None:
    raise AssertionError("a call was not recognised")


@dataclasses.dataclass(frozen=True)
class Options:
    factor: float


class Plain:
    factor = 3.0


PLAIN = Plain()
CALLS = {
    "array": (lambda x: x * 2, (X,), {}),
    "tensor": (lambda x: x * 2, (mg.tensor(X),), {}),
    "leaf": (lambda x: x * 2, (mg.tensor(X, requires_grad=True),), {}),
    "two names": (lambda x, y: x - y, (), {"y": X, "x": X * 3}),
    "a name": (lambda x, y: x - y, (X,), {"y": X * 3}),
    "nothing": (lambda: mg.tensor(1.0) * 2, (), {}),
    "numbers": (lambda x, n, r: x * n * r, (X, 2, 0.5), {}),
    "others": (
        lambda x, s, b, n: x * (3 if s == "a" and b and n is None else 1),
        (X, "a", True, None),
        {},
    ),
    "object": (lambda x, o: x * o.factor, (X, PLAIN), {}),
    "dataclass": (lambda x, o: x * o.factor, (X, Options(2.0)), {}),
    "tuple": (lambda x, axes: x.sum(axis=axes), (X, (0, 1)), {}),
    "several results": (lambda x: Pair(x.sum(), {"a": x * 2, "n": 3}), (X,), {}),
    "constant result": (lambda x: 0, (X,), {}),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_of_all_kinds_are_recognised(name, monkeypatch):
    function, args, kwargs = CALLS[name]
    compiled = mg.compile(function)
    found = [compiled(*args, **kwargs) for _ in range(2)]
    monkeypatch.setattr(api, "signature_of", refuse)
    found += [compiled(*args, **kwargs) for _ in range(2)]
    for each in found[1:]:
        assert repr(each) == repr(found[0])
    assert compiled.traces == 1


def test_a_training_step_is_recognised_and_follows_every_change(monkeypatch):
    """Each change is seen, and the third call after it is recognised again.

    After the last change, a gradient adds up and is another array in each call, which is not.
    """
    unrecognised = []

    def noted(*call):
        unrecognised.append(call)
        return signature_of(*call)

    monkeypatch.setattr(api, "signature_of", noted)

    def train(wrap):
        mg.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
        opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
        scale = Plain()

        @wrap
        def step(x):
            opt.zero_grad()
            loss = (model(x) ** 2).mean() * scale.factor
            loss.backward()
            opt.step()
            return loss

        changes = [
            lambda: None,
            lambda: None,
            lambda: opt.param_groups[0].update(lr=0.05),
            lambda: opt.state.clear(),
            lambda: setattr(scale, "factor", 2.0),
            lambda: model.eval(),
            lambda: setattr(model[0].weight, "data", model[0].weight.numpy() * 2),
            lambda: setattr(model[3].bias, "requires_grad", False),
            lambda: opt.state[model[0].weight].update(momentum_buffer=np.ones((4, 3), "f4")),
            lambda: opt.param_groups[0]["params"].pop(0),
        ]
        losses = []
        for change in changes:
            change()
            losses += [step(X.astype("f4")).item() for _ in range(2)]
            count = len(unrecognised)
            losses.append(step(X.astype("f4")).item())
            assert len(unrecognised) == count or change is changes[-1]
        return losses, [p.tolist() for p in model.parameters()]

    compiled = train(mg.compile)
    assert unrecognised
    for a, b in zip(compiled, train(lambda f: f), strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        X.astype("f4"),
        X[:1],
        np.asfortranarray(X),
        X.astype(">f8"),
        mg.tensor(X, requires_grad=True),
        nn.Parameter(X),
        X.tolist,
        [*X],
    ],
    ids=["dtype", "shape", "order", "byte order", "leaf", "parameter", "function", "list"],
)
def test_another_argument_is_told_apart(other, monkeypatch):
    def function(x):
        return x * 2 if isinstance(x, mg.Tensor) else mg.tensor(X.shape)

    compiled = mg.compile(function)
    for _ in range(3):
        compiled(X)
    given = []

    def noted(*call):
        given.append(call)
        return signature_of(*call)

    monkeypatch.setattr(api, "signature_of", noted)
    try:
        expected = function(mg.tensor(other) if isinstance(other, np.ndarray) else other)
        got = compiled(other)
    except mg.errors.MinigradError:
        assert isinstance(other, list)
    else:
        assert got.dtype == expected.dtype and got.tolist() == expected.tolist()
        assert got.requires_grad == expected.requires_grad
    assert given
    assert compiled(X).tolist() == (X * 2).tolist()


def test_no_grad_is_told_apart():
    w = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    compiled = mg.compile(lambda x: x * w)
    for _ in range(3):
        assert compiled(X).requires_grad
        with mg.no_grad():
            assert not compiled(X).requires_grad


def test_calls_that_are_alike_come_from_several_threads(monkeypatch):
    compiled = mg.compile(lambda x: x.sum())
    for _ in range(2):
        compiled(X)
    monkeypatch.setattr(api, "signature_of", refuse)
    found = []

    def work(n):
        found.extend((n, compiled(X * n).item()) for _ in range(50))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 200 and all(value == 15.0 * n for n, value in found)


def test_arrays_are_stored_as_generated_code_expects():
    raw = np.zeros(25, np.uint8)
    unaligned = raw[1:].view("f8")
    assert not unaligned.flags.aligned
    for a in (unaligned, X.T, np.asfortranarray(X), X[:, ::2]):
        for stored in (plainly_stored(a), *signature_of((a,), {})[0]):
            assert stored.flags.c_contiguous and stored.flags.aligned
            np.testing.assert_array_equal(stored, a)
    assert plainly_stored(X) is X


def test_arrays_that_cannot_be_written_are_read():
    compiled = mg.compile(lambda x: x * 2)
    frozen = X.copy()
    frozen.flags.writeable = False
    for x in (X, frozen, X, frozen, frozen):
        np.testing.assert_array_equal(compiled(x).data, X * 2)
    assert compiled.traces == 1


@pytest.mark.parametrize("size", [4, SMALL])
@pytest.mark.parametrize(
    "view",
    [
        lambda a: a,
        lambda a: a[:],
        lambda a: np.asarray(memoryview(a)),
        lambda a: np.from_dlpack(a),
        lambda a: np.asarray(a.view(type("Sub", (np.ndarray,), {}))[:]),
    ],
    ids=["itself", "view", "memoryview", "dlpack", "subclass"],
)
def test_an_argument_in_the_memory_of_a_gradient_keeps_its_elements(size, view):
    """Memory that is lent, as that of large gradients is, has views whose base is an array."""
    w = mg.tensor(np.full(size, 2.0), requires_grad=True)

    @mg.compile
    def step(x):
        w.grad = None
        (w * w).sum().backward()
        return x * 1.0

    for _ in range(3):
        step(np.ones(size))
    w.data[...] = 5.0
    given = view(w.grad.data)
    np.testing.assert_array_equal(step(mg.Tensor(given)).data, np.full(size, 4.0))
    np.testing.assert_array_equal(w.grad.data, np.full(size, 10.0))


def test_a_state_in_the_memory_of_a_large_gradient_keeps_its_elements():
    w = mg.tensor(np.full(SMALL, 2.0), requires_grad=True)
    read = [mg.tensor(np.ones(SMALL))]

    @mg.compile
    def step():
        w.grad = None
        (w * w).sum().backward()
        return read[0] * 1.0

    for _ in range(3):
        step()
    w.data[...] = 5.0
    read[0] = mg.Tensor(w.grad.data[:])
    np.testing.assert_array_equal(step().data, np.full(SMALL, 4.0))
