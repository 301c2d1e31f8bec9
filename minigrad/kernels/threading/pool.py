"""How many threads work on one kernel, and the team that they are; see parallel_for.py."""

import ctypes
import os
import threading
from typing import Any

import numba

from ..jit.interrupts import interrupts_wait
from .parallel_for import ALONE, MATES, STOP, Team, locks_of, new_team, serve

# Values from which threads are faster than one. With 2 threads, BatchNorm of rows of 64, 256 and
# 1024, 2**16 values took 0.6 to 0.9 times as long where the mate watched, and 1.1 to 1.4 where it
# slept; 2**17 0.6 to 0.8, and 0.9 to 1.1; 2**18 0.5 to 0.6, and 0.65 to 0.9. Medians of 120 runs in
# turn, on two cores. Planes: (16, 256, 14, 14), 2**19.6 values, took 0.7 to 0.9 times as long,
# (8, 64, 56, 56) and (32, 64, 28, 28) 0.6.
THREADED = 1 << 17

SERVES = numba.int64[::1], numba.int64  # the types of what `serve` takes

_lock = threading.Lock()
_team: Team | None = None
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
    global _team, _threads
    with _lock:
        old, _team, _threads = _team, None, min(n, MOST)
    if old is not None and old.size:
        _dismiss(old)


def team() -> Team:
    """Whom a kernel is to share its work with; they are started by the first who asks."""
    global _team
    found = _team  # read once, as another thread may take it away
    if found is None:
        with _lock, interrupts_wait():  # or threads would be started that nobody can dismiss
            found = _team = _started(_threads - 1) if _team is None else _team
    return found


def team_for(values: int) -> Team:
    """Who works on an array of so many values."""
    return ALONE if values < THREADED else team()


# Locks of Python's own, as those can be had from compiled code, and without the GIL.
_new_lock = ctypes.pythonapi.PyThread_allocate_lock
_acquire, _release = (
    getattr(ctypes.pythonapi, f"PyThread_{name}_lock") for name in ("acquire", "release")
)
_new_lock.restype, _new_lock.argtypes = ctypes.c_void_p, ()
_acquire.argtypes, _release.argtypes = (ctypes.c_void_p, ctypes.c_int), (ctypes.c_void_p,)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _started(mates: int) -> Team:
    """A team of so many mates, at work; of fewer, or none, where no more threads can be started."""
    if mates == 0 or numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return ALONE
    # Here, as a mate that compiled would hold Numba's lock: a child forked meanwhile has that lock,
    # but not the mate, and would wait for ever with its first kernel.
    serve.compile(SERVES)  # type: ignore[attr-defined]
    locks = [_new_lock() for _ in range(mates)]
    for lock in locks:
        _acquire(lock, 1)
    new = new_team(_address(_acquire), _address(_release), locks)
    for i in range(1, mates + 1):
        mate = threading.Thread(target=serve, args=(new, i), name=f"minigrad_{i}", daemon=True)
        try:
            mate.start()
        except RuntimeError:  # the interpreter is about to exit, or the system has enough of them
            new[MATES] = i - 1
            break
    return new


def _dismiss(team: Team) -> None:
    """Let the mates end when they have done what they have begun."""
    team[STOP] = 1
    for lock in locks_of(team):
        _release(lock)  # of who is awake, too, which then does not sleep at its next try


def _after_fork() -> None:
    """A child has none of its parent's threads, and maybe a lock that one of them held."""
    global _lock, _team
    _lock, _team = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
