"""Threads run the loops of kernels, and their number can be set."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from pool_loops import compiled, meet_in_pool, met, nested, note, noted, slept, wait

import minigrad as mg
from minigrad.errors import ArgumentError
from minigrad.kernels.threading import parallel_for, pool

pytestmark = pytest.mark.usefixtures("two_threads")


def test_each_part_is_done_once():
    for n in (1, 2, 3, 7):
        pool.set_num_threads(n)
        for parts in (0, 1, 2, 3, 10, 1000):
            counts, by = noted(parts)
            assert counts == [1] * parts
            assert by <= set(range(n))


@compiled
def test_the_caller_and_a_worker_run_a_loop():
    """Two parts run at the same time."""
    assert sorted(met()) == [0, 1]


def test_one_part_is_for_the_caller():
    assert noted(1) == ([1], {0})


@compiled
@pytest.mark.sampled(2)
@pytest.mark.parametrize("pauses", [100, 2000])
def test_workers_sleep_and_wake(pauses):
    """Pauses take about as long as workers wait for a loop, so some fall asleep meanwhile."""
    assert sorted(met()) == [0, 1]
    rng = np.random.default_rng(0)
    for pause in (0.2, 0.05, *rng.uniform(0.0, 3e-4, pauses)):
        end = time.perf_counter() + pause
        while time.perf_counter() < end:
            pass
        assert sorted(met()) == [0, 1]


@compiled
def test_workers_are_left_to_sleep_when_waking_them_did_not_pay():
    """Each time that waking did not pay, more loops run serially; once it has paid, none does."""
    lulls = []
    for _ in range(40):
        members = slept()
        noted(10)
        lulls.append(int(members[parallel_for.LULL]))
    assert lulls == sorted(lulls) and 1 == lulls[0] < lulls[-1] <= parallel_for.LONGEST
    slept()
    members[parallel_for.QUIET] = 0
    members[parallel_for.ELEMENTS] = parallel_for.WORTHWHILE  # as if it had paid
    noted(10)
    assert members[parallel_for.LULL] == members[parallel_for.QUIET] == 0


@compiled
def test_a_loop_of_many_elements_wakes_workers_for_few_parts():
    """Two parts of many elements wake the worker, even after jobs that did not pay."""
    by = np.full(2, -1)
    for values, helped in ((1, [0, 0]), (parallel_for.WORTHWHILE, [0, 1])):
        members = slept()
        members[parallel_for.QUIET] = parallel_for.LONGEST
        loop = meet_in_pool if values == parallel_for.WORTHWHILE else note
        loop(members, 2, values, (np.zeros(2, np.int64), by))
        assert sorted(by.tolist()) == helped


@compiled
def test_many_workers_sleep_and_wake():
    """With more workers than cores, each loop is complete, whoever is awake."""
    pool.set_num_threads(5)
    for i in range(300):
        assert noted(40)[0] == [1] * 40
        time.sleep(1e-4 * (i % 5))


def test_a_job_within_a_job():
    """The thread that meets an inner loop runs it alone, as the pool is busy."""
    counts, by = np.zeros((4, 3), np.int64), np.zeros((4, 3), np.int64)
    nested(pool.current_pool(), 4, 4, (pool.current_pool(), counts, by))
    assert counts.tolist() == [[1] * 3] * 4
    assert not by.any()


@compiled
def test_a_caller_that_finds_the_pool_busy_works_alone():
    begun, end = np.zeros(1, np.int64), np.zeros(1, np.int64)
    caller = threading.Thread(target=wait, args=(pool.current_pool(), 2, 2, (begun, end)))
    caller.start()
    try:
        while begun[0] < 2:
            time.sleep(0.001)
        assert noted(5) == ([1] * 5, {0})
    finally:
        end[0] = 1
        caller.join()
    assert sorted(met()) == [0, 1]


@compiled
def test_several_callers_at_once():
    """Each job is complete, whichever caller gets the pool."""

    def work(_):
        return [noted(20)[0] for _ in range(300)]

    with ThreadPoolExecutor(6) as pool:
        for results in pool.map(work, range(6)):
            assert results == [[1] * 20] * 300


def test_where_no_thread_can_be_started(monkeypatch):
    """The caller runs all parts; if the first few threads start, those help."""

    def start(self):
        if self.name == "minigrad_2":
            raise RuntimeError("can't start new thread")
        begin(self)

    begin = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    for n in (2, 4):
        pool.set_num_threads(n)
        assert noted(4)[0] == [1] * 4
        if not numba.config.DISABLE_JIT:
            assert pool.current_pool()[parallel_for.WORKERS] == 1
    monkeypatch.setattr(
        threading.Thread, "start", lambda _: start(threading.Thread(name="minigrad_2"))
    )
    pool.set_num_threads(2)
    assert noted(4) == ([1] * 4, {0})


@compiled
def test_fetch_add_is_one_step():
    """Several threads that take turns get each number once."""

    @numba.njit(nogil=True)
    def take(turns, count, taken):
        for i in range(count):
            taken[i] = parallel_for.fetch_add(turns, 1, 1)

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
    assert mg.get_num_threads() == pool.get_num_threads() == 2


def test_set_num_threads():
    mg.set_num_threads(3)
    assert mg.get_num_threads() == pool.get_num_threads() == 3


def test_a_pool_that_another_thread_stops_at_once_is_still_returned(monkeypatch):
    """The other thread stops it between its beginning and its first use."""

    class Interrupted:
        def __enter__(self):
            pass

        def __exit__(self, *_):
            pool._pool = None

    monkeypatch.setattr(pool, "_pool", None)
    monkeypatch.setattr(pool, "_lock", Interrupted())
    found = pool.current_pool()
    assert isinstance(found, np.ndarray)
    if found.size:
        pool._stop(found)


def test_there_is_a_most():
    """get_num_threads returns the number that works."""
    for n in (pool.MOST - 1, pool.MOST):
        mg.set_num_threads(n)
        assert mg.get_num_threads() == n
    mg.set_num_threads(10**9)
    assert mg.get_num_threads() == pool.MOST <= max(64, os.cpu_count())
    assert noted(1000)[0] == [1] * 1000
    assert len(workers()) < pool.MOST + 10  # some of those before may still be about to end


def workers():
    return {t for t in threading.enumerate() if t.name.startswith("minigrad")}


@compiled
@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_another_number_of_threads_ends_the_old_ones(pause):
    """They end whether they watch or sleep."""
    before = workers()
    pool.set_num_threads(3)
    assert noted(3)[0] == [1] * 3
    old = workers() - before
    assert old
    time.sleep(pause)
    pool.set_num_threads(3)
    for worker in old:
        worker.join(timeout=10)
        assert not worker.is_alive()


@compiled
def test_a_pool_that_is_stopped_in_mid_job_ends_it():
    """The caller goes on, with the help of the workers that are there."""
    begun, end = np.zeros(1, np.int64), np.zeros(1, np.int64)
    old = pool.current_pool()
    caller = threading.Thread(target=wait, args=(old, 5, 5, (begun, end)))
    caller.start()
    while begun[0] < 2:
        time.sleep(0.001)
    pool.set_num_threads(2)
    end[0] = 1
    caller.join(10)
    assert not caller.is_alive() and begun[0] == 5
    assert noted(4, old)[0] == [1] * 4
    assert sorted(met()) == [0, 1]


@compiled
def test_an_interrupt_while_workers_are_started_leaves_none_behind(monkeypatch):
    start = threading.Thread.start

    def interrupted(thread):
        start(thread)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        pool.set_num_threads(3)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(threading.Thread, "start", interrupted)
            pool.current_pool()
    finally:
        signal.signal(signal.SIGINT, before)
    assert pool.current_pool().size > 1
    pool.set_num_threads(1)
    until = time.monotonic() + 30.0
    while any(t.name.startswith("minigrad_") for t in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)


@compiled
def test_compiled_steps_start_threads_for_large_arrays_only(monkeypatch):
    def start():
        raise RuntimeError("threads")

    double = mg.compile(lambda x: mg.sigmoid(x) * 2)
    monkeypatch.setattr(pool, "current_pool", start)
    assert (double(np.zeros(8)).data == 1).all()
    with pytest.raises(RuntimeError, match="threads"):
        double(np.zeros(pool.THREADED))
