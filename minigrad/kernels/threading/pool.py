"""The pool of threads that run the loops of kernels, and the number of them."""

import ctypes
import os
import threading
from typing import Any

import numba

from ...system import after_fork
from ..jit.interrupts import defer_interrupts
from .parallel_for import SERIAL, STOP, WORKERS, Pool, locks_of, new_pool, serve

# The number of elements from which several threads are faster than one.
THREADED = 1 << 17

SERVE_TYPES = numba.int64[::1], numba.int64  # of the arguments of `serve`

_lock = threading.Lock()
_pool: Pool | None = None
# More threads than cores are slower, and a mistyped number must not start a million.
MOST = max(64, os.cpu_count() or 1)
# The cores that this process may use, or fewer: NUMBA_NUM_THREADS.
_threads: int = min(numba.config.NUMBA_NUM_THREADS, MOST)  # type: ignore[attr-defined]


def get_num_threads() -> int:
    """Return how many threads, the caller's included, run one kernel."""
    return _threads


def set_num_threads(n: int) -> None:
    """Let n threads, the caller's included, run one kernel; n is at least 1.

    A larger n than MOST counts as MOST. The old workers end when they have finished their parts.
    """
    global _pool, _threads
    with _lock:
        old, _pool, _threads = _pool, None, min(n, MOST)
    if old is not None and old.size:
        _stop(old)


def current_pool() -> Pool:
    """Return the pool; the first call starts its workers."""
    global _pool
    found = _pool  # read once, as another thread may take it away
    if found is None:
        with _lock, defer_interrupts():  # an interrupt would leave workers that nobody can stop
            found = _pool = _started(_threads - 1) if _pool is None else _pool
    return found


def pool_for(elements: int) -> Pool:
    """Return the pool for an array with this many elements: for a small one, SERIAL."""
    return SERIAL if elements < THREADED else current_pool()


# Python's own locks, which compiled code can use without holding the GIL.
_new_lock = ctypes.pythonapi.PyThread_allocate_lock
_acquire, _release = (
    getattr(ctypes.pythonapi, f"PyThread_{name}_lock") for name in ("acquire", "release")
)
_new_lock.restype, _new_lock.argtypes = ctypes.c_void_p, ()
_acquire.argtypes, _release.argtypes = (ctypes.c_void_p, ctypes.c_int), (ctypes.c_void_p,)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _started(workers: int) -> Pool:
    """Return a pool with this many running workers, or fewer if the system starts no more."""
    if workers == 0 or numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return SERIAL
    # Compiled here, as a worker would hold Numba's lock, and a child that is forked meanwhile would
    # wait for that lock for ever.
    serve.compile(SERVE_TYPES)  # type: ignore[attr-defined]
    locks = [_new_lock() for _ in range(workers)]
    for lock in locks:
        _acquire(lock, 1)
    new = new_pool(_address(_acquire), _address(_release), locks)
    for i in range(1, workers + 1):
        worker = threading.Thread(target=serve, args=(new, i), name=f"minigrad_{i}", daemon=True)
        try:
            worker.start()
        except RuntimeError:  # the interpreter exits, or the system allows no more threads
            new[WORKERS] = i - 1
            break
    return new


def _stop(pool: Pool) -> None:
    """Let the workers end when they have finished their parts."""
    pool[STOP] = 1
    for lock in locks_of(pool):
        _release(lock)  # also for a worker that is awake, so that it does not go to sleep


@after_fork
def _forget_threads() -> None:
    """Start without a pool in a child, and with a lock that no missing thread holds."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None
