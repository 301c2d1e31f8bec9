"""Freed memory is used again, but not while it can still be seen, and only up to a limit."""

import contextlib
import gc
import signal
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.kernels import allocator

N = 1 << 16
FLOAT = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def nothing_kept():
    """Let each test begin without blocks of others, and leave none."""
    gc.collect()
    forget_blocks()
    yield
    forget_blocks()


def forget_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(allocator, "CAPACITY", 0)
        allocator.empty((N,), FLOAT)


def address(a):
    return a.__array_interface__["data"][0]


@contextlib.contextmanager
def blocks():
    """Yield a function that returns the sizes of all blocks made in the context, used or free."""
    numpys = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)

    def sizes():
        traces = tracemalloc.take_snapshot().filter_traces([numpys]).traces
        return sorted(trace.size - allocator.PAGE for trace in traces if trace.size > 4 * N)

    tracemalloc.start()
    try:
        yield sizes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (N,), (2, N), (1 << 9, 1 << 8, 2)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_empty_arrays_are_as_numpys(shape, dtype):
    a = allocator.empty(shape, np.dtype(dtype))
    expected = np.empty(shape, dtype)
    assert (a.shape, a.dtype, a.strides) == (shape, dtype, expected.strides)
    assert a.flags.carray
    assert allocator.is_whole(a)
    a[...] = 7
    assert (a == 7).all()


def test_freed_memory_serves_again():
    """A block serves the same size in any shape and dtype; other sizes have their own memory."""
    a = allocator.empty((N, 2), FLOAT)
    place = address(a)
    other = allocator.empty((N, 2), FLOAT)
    assert not np.may_share_memory(a, other)
    del a
    assert address(allocator.empty((N, 4), FLOAT)) != place
    b = allocator.empty((N,), np.dtype(np.float64))
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
    a = allocator.empty((N, 2), FLOAT)
    place = address(a)
    v = view(a)
    del a
    assert address(allocator.empty((N, 2), FLOAT)) != place
    del v
    gc.collect()
    held = [allocator.empty((N, 2), FLOAT) for _ in range(2)]
    assert place in [address(b) for b in held]


def test_a_view_is_no_whole():
    a = allocator.empty((N, 2), FLOAT)
    assert not allocator.is_whole(a[1:])
    assert not allocator.is_whole(a.reshape(-1))
    assert allocator.is_whole(np.empty(3))
    assert not allocator.is_whole(np.empty(3)[1:])


def test_not_more_than_the_limit_is_known(monkeypatch):
    """Of the free blocks the oldest goes first, and blocks beyond the limit are not kept."""
    monkeypatch.setattr(allocator, "CAPACITY", 10 * N)
    sizes = [4 * (N + i) for i in range(4)]
    with blocks() as kept:
        arrays = [allocator.empty((size // 4,), FLOAT) for size in sizes]
        assert kept() == sizes
        assert all(allocator.is_whole(a) for a in arrays)
        arrays.clear()
        assert kept() == sizes[:2]
        a = allocator.empty((N + 2,), FLOAT)
        assert kept() == sizes[1:3]
        b = allocator.empty((N + 1,), FLOAT)
        assert kept() == sizes[1:3]
        allocator.empty((4 * N,), FLOAT)
        assert kept() == sizes[1:3]
        del a, b
        allocator.empty((2 * N + 8,), FLOAT)
        assert kept() == [4 * (2 * N + 8)]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX")
def test_ctrl_c_is_not_lost_where_memory_is_given_back(capsys):
    """In a finaliser of Python it would be lost, with a message on stderr."""
    came = raised = 0

    def interrupt(*_):
        nonlocal came
        came += 1
        raise KeyboardInterrupt

    # A function, since Python 3.13 does not catch what is raised between two turns of a loop that
    # ends a try block.
    def allocate_until(count):
        while came < count:
            allocator.empty((N,), FLOAT)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, 2e-4)
                allocate_until(came + 1)
            except KeyboardInterrupt:
                raised += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert came == raised == 200 and "ignored" not in capsys.readouterr().err


def test_another_thread_may_take_the_last_block():
    popped, done, taken = threading.Event(), threading.Event(), []

    def pause(frame, event, function):
        if event == "c_return" and function.__name__ == "pop":
            popped.set()
            done.wait(10)

    def take():
        sys.setprofile(pause)
        taken.append(allocator.empty((N,), FLOAT))

    other = threading.Thread(target=take)

    def let_take(frame, event, function):
        if event == "c_call" and function.__name__ == "pop" and not popped.is_set():
            other.start()
            popped.wait(10)

    place = address(allocator.empty((N,), FLOAT))
    sys.setprofile(let_take)
    try:
        a = allocator.empty((N,), FLOAT)
    finally:
        sys.setprofile(None)
        done.set()
        other.join(10)
    assert address(taken[0]) == place and allocator.is_whole(a)
    assert not np.may_share_memory(a, taken[0])


def test_threads_never_get_the_same():
    """While threads take and give back memory, each finds in its own what it wrote."""
    start = threading.Barrier(4)

    def work(tag):
        start.wait(10)
        for i in range(300):
            a = allocator.empty((N,), FLOAT)
            a[::997] = tag * 1000 + i
            b = allocator.empty((N,), FLOAT)
            b[::997] = -1
            if not (a[::997] == tag * 1000 + i).all():
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_results_of_training_stay_as_they_were():
    """Later steps do not touch outputs and gradients that the user keeps."""
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
