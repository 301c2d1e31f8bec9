"""The threads that share a kernel's work, and how many there are."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import minigrad as mg
from minigrad.errors import ArgumentError
from minigrad.kernels import threads


@pytest.fixture(autouse=True)
def two_threads():
    """As many as are set in every test; back to the default afterwards."""
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(before)


def test_split_covers_the_range_once():
    for n in (1, 2, 3, 7):
        threads.set_num_threads(n)
        for count in (1, 2, 3, 10):
            done = []
            threads.split(lambda tag, a, b, done=done: done.extend(range(a, b)), count, "tag")
            assert sorted(done) == list(range(count))


def test_split_uses_threads():
    """Both halves are under way at the same time."""
    both = threading.Barrier(2, timeout=10)
    names = []

    def meet(start, stop):
        both.wait()
        names.append(threading.current_thread().name)

    threads.split(meet, 2)
    assert len(set(names)) == 2


def test_split_within_split():
    """A job that splits in turn finishes: what no worker has begun, the caller does."""
    done = []

    def outer(start, stop):
        for i in range(start, stop):
            threads.split(lambda a, b: done.extend((i, j) for j in range(a, b)), 3)  # noqa: B023

    threads.split(outer, 4)
    assert sorted(done) == [(i, j) for i in range(4) for j in range(3)]


def test_split_without_workers(monkeypatch):
    """Where no thread can be started, the caller does it all."""
    monkeypatch.setattr(threads, "_pool", ThreadPoolExecutor(1))
    threads._pool.shutdown()
    done = []
    threads.split(lambda a, b: done.extend(range(a, b)), 4)
    assert sorted(done) == [0, 1, 2, 3]


def test_an_error_in_a_worker_is_seen():
    def fail(start, stop):
        if start:
            raise OSError("seen")

    with pytest.raises(OSError, match="seen"):
        threads.split(fail, 2)


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None, True])
def test_set_num_threads_refuses(n):
    with pytest.raises(ArgumentError, match="set_num_threads: n must be an integer of at least 1"):
        mg.set_num_threads(n)
    assert mg.get_num_threads() == threads.get_num_threads() == 2


def test_set_num_threads():
    mg.set_num_threads(3)
    assert mg.get_num_threads() == threads.get_num_threads() == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
def test_a_forked_child_has_workers_of_its_own():
    threads.split(lambda a, b: None, 2)  # the parent's are running
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            both = threading.Barrier(2, timeout=5)  # two threads, or it breaks
            threads.split(lambda a, b: both.wait(), 2)
            code = 0
        finally:
            os._exit(code)
    deadline = threading.Event()
    for _ in range(200):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            assert status == 0
            return
        deadline.wait(0.05)
    os.kill(pid, 9)
    pytest.fail("the child hangs")
