"""Memory that serves again: never while somebody can still see it, and never too much of it."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.kernels import memory

N = 1 << 16
FLOAT = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def nothing_kept():
    """Each test begins without what others have left, and leaves nothing."""
    gc.collect()
    memory._free.clear()
    yield
    memory._free.clear()


def address(a):
    return a.__array_interface__["data"][0]


def kept():
    return sum(size for size, *_ in memory._free)


@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (N,), (2, N), (1 << 9, 1 << 8, 2)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_as_numpys(shape, dtype):
    a = memory.empty(shape, np.dtype(dtype))
    expected = np.empty(shape, dtype)
    assert (a.shape, a.dtype, a.strides) == (shape, dtype, expected.strides)
    assert a.flags.carray
    assert memory.is_whole(a)
    a[...] = 7
    assert (a == 7).all()


def test_it_serves_again():
    """For the same size, in whatever shape and dtype; other sizes have memory of their own."""
    a = memory.empty((N, 2), FLOAT)
    place = address(a)
    other = memory.empty((N, 2), FLOAT)
    assert not np.may_share_memory(a, other)
    del a
    assert address(memory.empty((N, 4), FLOAT)) != place
    b = memory.empty((N,), np.dtype(np.float64))
    assert address(b) == place
    assert b.dtype == np.float64


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[3:],
        lambda a: a.T,
        lambda a: a.view(np.int32)[::2],
        lambda a: memoryview(a),
        lambda a: np.asarray(a.ravel().base),
        lambda a: a.reshape(-1).data,
        lambda a: np.lib.stride_tricks.as_strided(a, (2, 2), (4, 4)),
        lambda a: np.from_dlpack(a),
        lambda a: mg.Tensor(a).reshape(-1),
    ],
    ids=range(9),
)
def test_a_view_of_any_kind_keeps_it(view):
    a = memory.empty((N, 2), FLOAT)
    place = address(a)
    v = view(a)
    del a
    assert address(memory.empty((N, 2), FLOAT)) != place
    del v
    gc.collect()
    held = [memory.empty((N, 2), FLOAT) for _ in range(2)]
    assert place in [address(b) for b in held]


def test_a_view_is_no_whole():
    a = memory.empty((N, 2), FLOAT)
    assert not memory.is_whole(a[1:])
    assert not memory.is_whole(a.reshape(-1))
    assert memory.is_whole(np.empty(3))
    assert not memory.is_whole(np.empty(3)[1:])


def test_not_more_than_the_limit_is_kept(monkeypatch):
    """The oldest go first; a block beyond the limit is not kept at all."""
    monkeypatch.setattr(memory, "KEPT", 10 * N)
    blocks = [memory.empty((N + i,), np.dtype(np.float32)) for i in range(4)]  # 4 N bytes each
    while blocks:
        blocks.pop(0)
        assert kept() <= 10 * N
    assert [size // 4 - N for size, *_ in memory._free] == [2, 3]
    del blocks
    a = memory.empty((4 * N,), FLOAT)
    del a
    assert kept() == 0


def test_blocks_that_come_back_while_they_are_counted(monkeypatch):
    """As garbage that is collected meanwhile: no error, and nothing is lost."""

    class Free(type(memory._free)):
        busy = False

        def __iter__(self):
            if not Free.busy:
                Free.busy = True
                self.append((1, 2, None))
                raise RuntimeError("deque mutated during iteration")
            return super().__iter__()

    monkeypatch.setattr(memory, "_free", Free())
    memory._keep((4, 8, None))
    assert list(memory._free) == [(4, 8, None), (1, 2, None)]


def test_threads_never_get_the_same():
    """While several take and give back, each finds in its own what it wrote."""
    start = threading.Barrier(4)

    def work(tag):
        start.wait(10)
        for i in range(300):
            a = memory.empty((N,), FLOAT)
            a[::997] = tag * 1000 + i
            b = memory.empty((N,), FLOAT)
            b[::997] = -1
            if not (a[::997] == tag * 1000 + i).all():
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert len({id(holder) for *_, holder in memory._free}) == len(memory._free)


def test_results_of_training_stay_as_they_were():
    """What a user holds of a step (output, gradients) is not touched by the steps that follow."""
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(300, 200), nn.BatchNorm1d(200), nn.ReLU(), nn.Linear(200, 300))
    sgd = optim.SGD(model.parameters(), lr=0.01)
    held = []
    for _ in range(4):
        sgd.zero_grad()
        x = mg.tensor(rng.standard_normal((300, 300), "f"), requires_grad=True)
        y = model(x)
        (y * y).mean().backward()
        sgd.step()
        now = [y.data, x.grad.data, *(p.grad.data for p in model.parameters())]
        for before, copies in held:
            for a, copy in zip(before, copies, strict=True):
                np.testing.assert_array_equal(a, copy)
        for before, _ in held:
            for a in before:
                assert not any(np.may_share_memory(a, b) for b in now)
        held.append((now, [a.copy() for a in now]))
