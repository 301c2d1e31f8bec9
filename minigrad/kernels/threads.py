"""Kernels on a few threads of our own: those of Numba abort when two Python threads launch at once.

A kernel that threads share is called by each of them with the same arguments. They end with
`turns`, an array of counters from 0, and whether it is the caller's own thread that calls: the
lead. What there is to do is cut into parts by its shape alone, so that the results have the same
bits in any number of threads, and a thread takes the next part by `fetch_add` of a counter. Hence
a thread that comes late, or never, costs nothing but its help: the lead takes all parts that are
left, and then waits for those that others have begun. Between a part's begin and its end a kernel
can neither allocate nor fail. Kernels release the GIL.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

_lock, _counting = threading.Lock(), threading.Lock()
_pool: ThreadPoolExecutor | None = None
# More threads than cores only lose, and a slip of the pen must not start a million.
MOST = max(64, os.cpu_count() or 1)
# The cores that this process may use, or fewer: NUMBA_NUM_THREADS.
_threads: int = min(numba.config.NUMBA_NUM_THREADS, MOST)  # type: ignore[attr-defined]
TURNS = 4  # counters

Turns = NDArray[np.int64]
# For a kernel that has nobody to share with.
ALONE: Turns = np.zeros(0, np.int64)


def get_num_threads() -> int:
    """How many threads, the caller's included, work on one kernel."""
    return _threads


def set_num_threads(n: int) -> None:
    """Let n threads, at least 1 and at most MOST, the caller's included, work on one kernel.

    A larger n counts as MOST, which get_num_threads then tells. Threads that are no longer needed
    end when they have done what they have begun.
    """
    global _pool, _threads
    with _lock:
        old, _pool, _threads = _pool, None, min(n, MOST)
    if old is not None:
        old.shutdown(wait=False)


def share(kernel: Callable[..., Any], parts: int, *arguments: Any) -> None:
    """kernel(*arguments, turns, lead) in as many threads as there are, at most one for each part.

    Errors: those of the lead. One of another thread, before it took a part, loses its help alone.
    """
    turns = np.zeros(TURNS, np.int64)
    mates = min(_threads, parts) - 1
    others = [_submit(kernel, (*arguments, turns, False)) for _ in range(mates)]
    try:
        kernel(*arguments, turns, True)
    except BaseException:  # others wait for the part that it leaves: no more
        turns[:] = np.iinfo(np.int64).max // 2
        raise
    finally:
        for future in others:
            if future is not None:
                future.cancel()  # not begun: the workers were busy with others' jobs


def _submit(kernel: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[None] | None:
    """The job's future, or None where nobody takes it."""
    global _pool
    try:
        with _lock:
            if _pool is None:
                _pool = ThreadPoolExecutor(max(1, _threads - 1), "minigrad")
            return _pool.submit(kernel, *arguments)
    except RuntimeError:  # the interpreter is about to exit, or no thread can be started
        return None


def _after_fork() -> None:
    """A child has none of its parent's threads, and maybe a lock that one of them held."""
    global _lock, _counting, _pool
    _lock, _counting, _pool = threading.Lock(), threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# --- counters that threads share ------------------------------------------------------------------


def _fetch_add(turns: Turns, i: int, by: int) -> int:
    """turns[i] += by, by one thread at a time, and what it was before."""
    with _counting:
        before = int(turns[i])
        turns[i] = before + by
    return before


@intrinsic
def _atomic_add(_context: Any, turns: Any, _i: Any, _by: Any) -> Any:
    """One instruction of the processor, which also orders all reads and writes around it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(array.data, [arguments[1]])
        return builder.atomic_rmw("add", place, arguments[2], "seq_cst")

    return types.int64(turns, types.int64, types.int64), generate


fetch_add: Any = _fetch_add if numba.config.DISABLE_JIT else _atomic_add  # type: ignore[attr-defined]
