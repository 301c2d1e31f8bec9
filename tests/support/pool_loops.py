"""Loops that a pool of threads runs, and that tell which threads ran them."""

import time

import numba
import numpy as np
import pytest

from minigrad.kernels.threading import parallel_for, pool

compiled = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")


jit = numba.njit(nogil=True)


def _note(part, thread, counts, by):
    counts[part] += 1
    by[part] = thread


def _meet(_part, thread, met, by):
    """End when another part is running as well, or after some seconds."""
    place = parallel_for.fetch_add(met, 0, 1)
    by[place] = thread
    patience = 3_000_000_000
    while parallel_for.atomic_load(met, 0) < 2 and patience > 0:
        patience -= 1


def _wait(_part, _thread, begun, end):
    """End when the caller says so."""
    parallel_for.fetch_add(begun, 0, 1)
    while parallel_for.atomic_load(end, 0) == 0:
        pass


def _nested(part, _thread, members, counts, by):
    note_in_kernel(members, 3, 3, (counts[part], by[part]))


def shared(function):
    """Return the loop that parallel_for makes, compiled so that Python can call it."""
    loop = parallel_for.parallel_for(jit(function))
    return jit(lambda members, parts, elements, given: loop(members, parts, elements, given))


note_in_kernel = parallel_for.parallel_for(jit(_note))


note, meet_in_pool, wait = shared(_note), shared(_meet), shared(_wait)


nested = shared(_nested)


def noted(parts, members=None):
    """Return how often each part was run, and by which thread."""
    counts, by = np.zeros(parts, np.int64), np.full(parts, -1)
    note(pool.current_pool() if members is None else members, parts, parts, (counts, by))
    return counts.tolist(), set(by.tolist())


def met():
    """Return the threads that met at work."""
    by = np.full(2, -1)
    pool.current_pool()[parallel_for.QUIET] = 0  # workers are woken in any case
    meet_in_pool(pool.current_pool(), 2, 2, (np.zeros(1, np.int64), by))
    return by.tolist()


def slept():
    """Return the pool once its worker has fallen asleep."""
    members = pool.current_pool()
    end = time.monotonic() + 20.0
    while not members[parallel_for.ASLEEP + parallel_for.LINE] and time.monotonic() < end:
        time.sleep(0.001)
    assert members[parallel_for.ASLEEP + parallel_for.LINE]
    return members
