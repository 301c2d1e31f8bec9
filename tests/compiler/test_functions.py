"""Compiled functions agree with eager ones in arguments, results, random numbers and threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from small_networks import batches, network, same, state

import minigrad as mg
from minigrad import functional as F
from minigrad.errors import DtypeError, TraceError


def test_functions_of_any_kind_agree():
    """Inference, nested results, keywords, static values and Hessian-vector products compile."""
    model, *_ = network()
    model.eval()

    def infer(x, scale=1.0, *, names=("a", "b")):
        y = model(x)
        return {names[0]: F.softmax(y) * scale, names[1]: (y.sum(), [y.max(0)]), "n": 3}

    compiled = mg.compile(infer)
    for x, _ in batches(3):
        for given in ({}, {"scale": 2.0}, {"names": ("c", "d")}):
            got, expected = compiled(x, **given), infer(mg.tensor(x), **given)
            assert list(got) == list(expected)
            for (a, b), (c, d) in [(tuple(got.values())[:2], tuple(expected.values())[:2])]:
                np.testing.assert_allclose(a.data, c.data, rtol=2e-6)
                np.testing.assert_allclose(b[0].data, d[0].data, rtol=2e-6, atol=1e-6)
                np.testing.assert_allclose(b[1][0].data, d[1][0].data, rtol=2e-6)
    assert compiled.traces == 3

    def hvp(x, v):
        (g,) = mg.grad((x.exp() * x.sum()).sum(), [x], create_graph=True)
        return mg.grad((g * v).sum(), [x])[0]

    fast = mg.compile(hvp)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x, v = rng.standard_normal((2, 7))
        one = hvp(mg.tensor(x, requires_grad=True), mg.tensor(v))
        two = fast(mg.tensor(x, requires_grad=True), v)
        np.testing.assert_allclose(two.data, one.data, rtol=1e-12)


def test_results_are_the_callers_own():
    """Results share memory with neither arguments nor the results of other calls."""
    double = mg.compile(lambda x: (x * 2.0, x))
    a, b = np.ones((3, 4), np.float32), np.full((3, 4), 5, np.float32)
    double(a)
    one, two = double(a), double(b)
    np.testing.assert_array_equal(one[0].data, 2 * a)
    np.testing.assert_array_equal(two[0].data, 2 * b)
    one[1].data[...] = 7
    assert (a == 1).all()


def test_dropout_draws_anew():
    """Each call draws new numbers, the same as an eager call after the same seed."""
    (m1, o1, eager), (m2, o2, plain) = network(dropout=0.5), network(dropout=0.5)
    compiled = mg.compile(plain)
    data = batches(6)
    for run, x_of in ((eager, mg.tensor), (compiled, np.asarray)):
        mg.manual_seed(3)
        for x, y in data:
            run(x_of(x), x_of(y))
    same(state(m1, o1), state(m2, o2), 1e-6)
    assert "by NumPy, outside compiled code: nothing" in compiled.report()
    assert "random numbers" in compiled.report()


def test_what_cannot_be_compiled_is_said_once():
    """Traces for other shapes do not repeat the warning."""
    index = mg.compile(lambda x: mg.argmax(x[True], 1) + 1)
    x = np.random.default_rng(0).standard_normal((4, 5))
    with pytest.warns(RuntimeWarning, match=r"getitem cannot be compiled") as caught:
        index(x)
        got = index(x + np.eye(4, 5))
        index(x[:3])
    assert len(caught) == 1
    np.testing.assert_array_equal(got.data, np.argmax((x + np.eye(4, 5))[None], 1) + 1)


def test_arguments_may_be_strided_or_equal():
    """Arguments may lie in any order in memory, and one array may be passed twice."""
    f = mg.compile(lambda a, b: a @ b.T + a.sum())
    rng = np.random.default_rng(0)
    big = rng.standard_normal((8, 6))
    for a, b in ((big, big), (big[::2, ::2], big[::2, ::2]), (big.T, big.T), (big[:4], big[4:])):
        for _ in range(2):
            np.testing.assert_allclose(f(a, b).data, a @ b.T + a.sum(), rtol=1e-12)


@pytest.mark.parametrize("way", ["positional", "keyword", "epoch"])
def test_arrays_in_another_byte_order_are_converted(way):
    """Numba does not know other byte orders, so such arrays are converted."""
    f = mg.compile(lambda a: (a * 2).sum())
    for order in "><>>":
        x = np.arange(1, 4).astype(f"{order}f4")
        if way == "epoch":
            np.testing.assert_array_equal(f.epoch(x, batch_size=1).data, [2, 4, 6])
        else:
            y = f(x) if way == "positional" else f(a=x)
            assert y.item() == 12 and y.dtype == np.float32
    assert f.traces == 1


def test_refuses_what_it_cannot_take():
    with pytest.raises(DtypeError, match="expected a function, got int"):
        mg.compile(3)
    f = mg.compile(lambda x, how: x * 2)
    with pytest.raises(DtypeError, match="values that can be hashed"):
        f(np.ones(3), [1])
    with pytest.raises(DtypeError, match="float16"):
        f(np.ones(3, np.float16), 1)
    with pytest.raises(TraceError, match=r"call <lambda> first"):
        print(f.source)


def test_threads_may_share_a_compiled_function():
    """Threads train by a step of each, and call one that they share, while others run eagerly."""
    runs = [network(seed=i) for i in range(4)]
    expected = [network(seed=i) for i in range(4)]
    data = batches(12)

    def train(i):
        compiled = mg.compile(runs[i][2])
        for x, y in data:
            compiled(x, y)
            expected[i][2](mg.tensor(x), mg.tensor(y))
        return state(*runs[i][:2])

    with ThreadPoolExecutor(4) as pool:
        for i, found in enumerate(pool.map(train, range(4))):
            same(found, state(*expected[i][:2]))
    shared = mg.compile(lambda x: (x * x).sum())
    arrays = [np.full((50, 50), float(i)) for i in range(8)]
    started = threading.Barrier(4)

    def sums(_):
        started.wait(10)
        return [shared(a).item() for a in arrays * 20]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(sums, range(4)):
            assert found == [2500.0 * i * i for i in range(8)] * 20
