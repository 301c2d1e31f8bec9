"""The pool of threads works in forked processes, whatever its threads do at the fork."""

import os
import threading
import time

import numpy as np
import pytest
from pool_loops import compiled, jit, met, wait

from minigrad.kernels.threading import parallel_for, pool

pytestmark = pytest.mark.usefixtures("two_threads")


def in_a_child(job):
    """Run `job` in a forked process, and check that it ends well."""
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


# Python warns of a fork in a process with threads, and so does JAX, which tests of bench/ import.
quiet = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:os.fork.*was called:RuntimeWarning"
)


def meet():
    """Let two threads meet, or break."""
    assert sorted(met()) == [0, 1]


@forks
@quiet
@compiled
def test_a_forked_child_has_workers_of_its_own():
    meet()  # the parent's are running
    in_a_child(meet)


@forks
@quiet
@compiled
def test_a_fork_while_another_thread_runs_a_loop():
    begun, end = np.zeros(1, np.int64), np.zeros(1, np.int64)
    caller = threading.Thread(target=wait, args=(pool.current_pool(), 2, 2, (begun, end)))
    caller.start()
    try:
        while begun[0] < 2:
            time.sleep(0.001)
        in_a_child(meet)
    finally:
        end[0] = 1
        caller.join()
    meet()


@forks
@quiet
@compiled
def test_a_fork_while_workers_begin(monkeypatch):
    """They do not hold Numba's lock, as if compiling what they run, when the fork happens."""
    serve = jit(parallel_for.serve.py_func)
    monkeypatch.setattr(pool, "serve", serve)
    pool.set_num_threads(2)
    pool.current_pool()
    time.sleep(0.02)
    in_a_child(lambda: jit(lambda: 1)())
    meet()
    assert len(serve.signatures) == 1


@forks
@quiet
@compiled
def test_a_fork_while_another_thread_holds_the_lock(monkeypatch):
    """That thread is not in the child to release it."""
    held, done, start = threading.Event(), threading.Event(), threading.Thread.start

    def start_late(thread):  # workers are started under the lock
        if not held.is_set():
            held.set()
            done.wait(60)
        start(thread)

    pool.set_num_threads(2)
    holder = threading.Thread(target=pool.current_pool)
    monkeypatch.setattr(threading.Thread, "start", start_late)
    start(holder)
    try:
        assert held.wait(10)
        in_a_child(meet)
    finally:
        done.set()
        holder.join()
    meet()  # the parent's lock is as it was
