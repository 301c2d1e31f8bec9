"""Kernels on a few threads of our own: those of Numba abort when two Python threads launch at once.

`split` cuts a kernel's last two arguments, from where to where it works, into one range for each
thread. What it computes must not depend on where the cuts are. Kernels release the GIL.
"""

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numba

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
# More threads than cores only lose, and a slip of the pen must not start a million.
MOST = max(64, os.cpu_count() or 1)
# The cores that this process may use, or fewer: NUMBA_NUM_THREADS.
_threads: int = min(numba.config.NUMBA_NUM_THREADS, MOST)  # type: ignore[attr-defined]


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


def split(kernel: Callable[..., Any], count: int, *arguments: Any) -> None:
    """kernel(*arguments, start, stop) for ranges that make up 0 to count, in threads."""
    parts = min(_threads, count)
    if parts < 2:
        kernel(*arguments, 0, count)
        return
    cuts = [count * i // parts for i in range(parts + 1)]
    own, *others = itertools.pairwise(cuts)
    futures = [_submit(kernel, (*arguments, *part)) for part in others]
    kernel(*arguments, *own)
    for future, part in zip(futures, others, strict=True):
        if future is None or future.cancel():  # not begun: the workers are busy with others' jobs
            kernel(*arguments, *part)
        else:
            future.result()


def _submit(kernel: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[None] | None:
    """The job's future, or None where nobody takes it: the caller has to do it."""
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
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
