"""The threads that share a kernel's work, and how many there are."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
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


def take_all(done, count, tag=None, pause=None):
    """A kernel, in Python, that adds to `done` each of `count` parts, and as which thread."""

    def work(tag, turns, lead):
        part = threads._fetch_add(turns, 0, 1)
        while part < count:
            if pause is not None:
                pause()
            done.append((part, lead, threading.current_thread().name, tag))
            threads._fetch_add(turns, 1, 1)
            part = threads._fetch_add(turns, 0, 1)
        while lead and threads._fetch_add(turns, 1, 0) < count:
            time.sleep(0)

    threads.share(work, count, tag)


def test_each_part_is_taken_once():
    for n in (1, 2, 3, 7):
        threads.set_num_threads(n)
        for count in (1, 2, 3, 10):
            done = []
            take_all(done, count, "tag")
            assert sorted(part for part, *_ in done) == list(range(count))
            assert {tag for *_, tag in done} == {"tag"}


def test_the_caller_leads_and_others_help():
    """Both parts are under way at the same time; who leads is the caller's own thread."""
    both = threading.Barrier(2, timeout=10)
    done = []
    take_all(done, 2, pause=both.wait)
    assert sorted(lead for _, lead, *_ in done) == [False, True]
    own = threading.current_thread().name
    assert {lead: name == own for _, lead, name, _ in done} == {True: True, False: False}


def test_no_more_threads_than_parts():
    threads.set_num_threads(8)
    for parts in (1, 3):
        calls = []
        threads.share(lambda turns, lead, calls=calls: calls.append(lead), parts)
        assert calls.count(True) == 1
        assert len(calls) <= parts


def test_a_job_within_a_job():
    """It finishes: what no worker has begun, the caller does."""
    done = []

    def outer(turns, lead):
        while threads._fetch_add(turns, 0, 1) < 4:
            take_all(done, 3)
            threads._fetch_add(turns, 1, 1)
        while lead and threads._fetch_add(turns, 1, 0) < 4:
            time.sleep(0)

    threads.share(outer, 4)
    assert sorted(part for part, *_ in done) == sorted([0, 1, 2] * 4)


def test_busy_workers_are_not_waited_for():
    """Nor is what they had been given done after the caller has done it."""
    free, done, calls = threading.Event(), [], []
    blocked = threading.Event()

    def block(turns, lead):
        if not lead:
            blocked.set()
            free.wait(10)

    threads.share(block, 2)
    assert blocked.wait(10)
    try:
        take_all(done, 5)
        threads.share(lambda turns, lead: calls.append(lead), 2)
    finally:
        free.set()
    assert [lead for _, lead, *_ in done] == [True] * 5
    take_all([], 2)
    assert calls == [True]


def test_without_workers(monkeypatch):
    """Where no thread can be started, the caller does it all."""
    monkeypatch.setattr(threads, "_pool", ThreadPoolExecutor(1))
    threads._pool.shutdown()
    done = []
    take_all(done, 4)
    assert [part for part, *_ in done] == [0, 1, 2, 3]


def test_an_error_of_the_lead_is_seen_and_of_another_costs_its_help_alone():
    def fail(turns, lead):
        if lead is wrong:
            raise OSError("seen")

    wrong = True
    with pytest.raises(OSError, match="seen"):
        threads.share(fail, 2)
    wrong = False
    threads.share(fail, 2)


def test_an_error_of_the_lead_in_mid_part_lets_the_others_go():
    """As Ctrl-C where kernels run as Python: nobody waits for a part that nobody ends."""
    ended, begun = threading.Event(), threading.Event()

    def work(turns, lead):
        threads._fetch_add(turns, 0, 1)
        if lead:
            assert begun.wait(10)
            raise KeyboardInterrupt
        begun.set()
        threads._fetch_add(turns, 1, 1)
        while threads._fetch_add(turns, 1, 0) < 2:
            time.sleep(0)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        threads.share(work, 2)
    assert ended.wait(10)


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_fetch_add_is_one_step():
    """Several threads that take turns get each number once."""

    @numba.njit(nogil=True)
    def take(turns, count, taken):
        for i in range(count):
            taken[i] = threads.fetch_add(turns, 1, 1)

    count, turns = 200_000, np.zeros(2, np.int64)
    taken = np.zeros((4, count), np.int64)
    take(turns, 0, taken[0])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda row: take(turns, count, row), taken))
    np.testing.assert_array_equal(np.sort(taken.ravel()), np.arange(4 * count))
    np.testing.assert_array_equal(turns, [0, 4 * count])


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
    calls = []
    threads.share(lambda turns, lead: calls.append(lead), 10**6)
    assert len(calls) <= threads.MOST
    assert len(threads._pool._threads) < threads.MOST


def workers():
    return {t for t in threading.enumerate() if t.name.startswith("minigrad")}


def test_another_number_of_threads_ends_the_old_ones():
    before = workers()
    threads.set_num_threads(3)
    threads.share(lambda turns, lead: None, 3)
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
    threads.share(lambda turns, lead: both.wait(), 2)


@forks
@quiet
def test_a_forked_child_has_workers_of_its_own():
    threads.share(lambda turns, lead: None, 2)  # the parent's are running
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
