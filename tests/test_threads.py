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


def test_there_is_a_most():
    """What get_num_threads tells is what works."""
    for n in (threads.MOST - 1, threads.MOST):
        mg.set_num_threads(n)
        assert mg.get_num_threads() == n
    mg.set_num_threads(10**9)
    assert mg.get_num_threads() == threads.MOST <= max(64, os.cpu_count())
    parts = []
    threads.split(lambda a, b: parts.append((a, b)), 10**6)
    assert len(parts) == threads.MOST
    assert sum(b - a for a, b in parts) == 10**6
    assert len(threads._pool._threads) < threads.MOST


def workers():
    return {t for t in threading.enumerate() if t.name.startswith("minigrad")}


def test_another_number_of_threads_ends_the_old_ones():
    before = workers()
    threads.set_num_threads(3)
    threads.split(lambda a, b: None, 3)
    old, pool = workers() - before, threads._pool
    assert old and pool is not None  # held here, or its own finaliser would end them, in CPython
    threads.set_num_threads(3)
    for worker in old:
        worker.join(timeout=10)
        assert not worker.is_alive()


def in_a_child(job):
    """Run job in a forked process, and see that it ends well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            job()
            code = 0
        finally:
            os._exit(code)
    pause = threading.Event()
    for _ in range(200):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            assert status == 0
            return
        pause.wait(0.05)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    pytest.fail("the child hangs")


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
# Fork in a process with threads.
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def meet():
    """Two threads, or it breaks."""
    both = threading.Barrier(2, timeout=5)
    threads.split(lambda a, b: both.wait(), 2)


@forks
@quiet
def test_a_forked_child_has_workers_of_its_own():
    threads.split(lambda a, b: None, 2)  # the parent's are running
    in_a_child(meet)


@forks
@quiet
def test_a_fork_while_another_thread_holds_the_lock():
    """That thread is not there in the child to release it."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with threads._lock:
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(10)
        in_a_child(meet)
    finally:
        done.set()
        holder.join()
    meet()  # the parent's lock is as it was
