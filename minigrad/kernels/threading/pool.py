"""A pool of threads runs the loops of kernels; this module starts it and sets its size.

The pool replaces Numba's `prange`, for these reasons:
- With Numba's default threads (workqueue), two Python threads that launch a parallel kernel at the
  same time abort the process (numba#8563, #9288). With OpenMP, a forked child dies in its first
  parallel kernel. Here, a caller that finds the pool busy runs its loop alone, and a forked child
  starts a pool of its own.
- In a `prange` loop, the result of a sum depends on the number of threads. Here, the shape alone
  determines the parts, and partial sums are added in order.
- A kernel that asks Numba for its number of threads cannot be cached.
- A kernel with `parallel=True` takes longer to compile, and starts its threads for small arrays,
  too. Here, a small array runs the same machine code with an empty pool.
- A `prange` loop waits until every thread has done its share, even a thread that wakes late. Here,
  the caller runs the parts that no worker has begun, and does not wake workers if that costs more
  than it gains.

The pool works if the system starts no more threads, if their number changes while loops run, for
loops within loops, after a Ctrl-C while workers start, and after forks at any moment.
`python -m bench.numba_ground` compares it with `prange` and with one thread.
"""

import ctypes
import os
import sys
import threading

import numba

from ...system import after_fork
from ..jit.external_calls import code_address
from ..jit.interrupts import defer_interrupts
from .locks import acquire, address_of, new_lock, release
from .parallel_for import (
    ACQUIRE,
    RELEASE,
    SERIAL,
    SERVE_TYPES,
    SHARE,
    SHARE_TYPES,
    SLEEP,
    STOP,
    WORKERS,
    YIELD,
    Pool,
    locks_of,
    new_pool,
    serve,
    share,
)

# For at least this many elements, several threads are faster than one.
THREADED = 1 << 17

_lock = threading.Lock()
_pool: Pool | None = None
# The largest number of threads, so that a mistyped number cannot start a million.
MOST = max(64, os.cpu_count() or 1)
# NUMBA_NUM_THREADS, whose default is the number of cores that this process may use.
_threads: int = min(numba.config.NUMBA_NUM_THREADS, MOST)  # type: ignore[attr-defined]


def get_num_threads() -> int:
    """Return how many threads, including the caller, run one kernel."""
    return _threads


def set_num_threads(n: int) -> None:
    """Let n threads, including the caller, run one kernel; n is at least 1.

    An n above MOST is replaced by MOST. The old workers end when they have finished their parts.
    """
    global _pool, _threads
    with _lock:
        old, _pool, _threads = _pool, None, min(n, MOST)
    if old is not None and old.size:
        _stop(old)


def current_pool() -> Pool:
    """Return the pool; the first call starts its workers."""
    global _pool
    found = _pool  # read once, since another thread may set it to None
    if found is None:
        with _lock, defer_interrupts():  # an interrupt would leave workers without a pool
            found = _pool = _started(_threads - 1) if _pool is None else _pool
    return found


def pool_for(elements: int) -> Pool:
    """Return the pool for an array with this many elements, which is SERIAL for a small array."""
    return SERIAL if elements < THREADED else current_pool()


if sys.platform == "win32":
    _yield = _sleep = ctypes.WinDLL("kernel32").SwitchToThread
else:
    _yield, _sleep = (getattr(ctypes.CDLL(None), name) for name in ("sched_yield", "usleep"))
FUNCTIONS = {ACQUIRE: acquire, RELEASE: release, YIELD: _yield, SLEEP: _sleep}


def _started(workers: int) -> Pool:
    """Return a pool with this many running workers, or with fewer if the system refuses more."""
    if workers == 0 or numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return SERIAL
    # Compiled here, not in a worker: a child that is forked while a worker holds Numba's lock would
    # wait for that lock for ever.
    serve.compile(SERVE_TYPES)  # type: ignore[attr-defined]
    addresses = {i: address_of(function) for i, function in FUNCTIONS.items()}
    addresses[SHARE] = code_address(share, SHARE_TYPES)
    locks = [new_lock() for _ in range(workers)]
    for lock in locks:
        acquire(lock, 1)
    new = new_pool(addresses, locks)
    for i in range(1, workers + 1):
        worker = threading.Thread(target=serve, args=(new, i), name=f"minigrad_{i}", daemon=True)
        try:
            worker.start()
        except RuntimeError:  # the interpreter exits, or the system allows no more threads
            new[WORKERS] = i - 1
            break
    return new


def _stop(pool: Pool) -> None:
    """Make the workers end when they have finished their parts."""
    pool[STOP] = 1
    for lock in locks_of(pool):
        release(lock)  # also of a worker that is awake, so that it cannot fall asleep


@after_fork
def _forget_threads() -> None:
    """Reset the pool and its lock in a forked child, since no other thread exists there."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None
