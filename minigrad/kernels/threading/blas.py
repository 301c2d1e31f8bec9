"""Large products run OpenBLAS on one thread, and restore its number of threads afterwards.

OpenBLAS has one number of threads for the whole process. `enter` sets it to 1 for a product, and
`leave` restores it after the last product that runs, unless another number has been set meanwhile.
Both are compiled code, which an interrupt cannot stop half-way. Other Python threads find the
number 1 meanwhile, and one that saves it then, as threadpoolctl does, later restores 1.

OpenBLAS ends its threads before a fork. The next change of their number starts them again, under a
lock of OpenBLAS. No product changes the number during a fork: the child could find that lock held.

Only the OpenBLAS that compiled code calls is set, which is SciPy's; that of NumPy is never touched.
Other libraries, and an OpenBLAS whose threads are those of OpenMP, where each calling thread has a
number of its own, are left alone.
"""

import ctypes
import sys
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from ...system import after_fork, around_fork
from ..jit.blas import NAME, load_blas
from ..jit.decorators import device_function
from .locks import acquire, address_of, new_lock, release
from .parallel_for import call_address, call_number

Limit: TypeAlias = NDArray[np.int64]
# The positions of values in a Limit. LOCK: a lock, held while a product or a fork changes the other
# values or the number of threads. ACQUIRE, RELEASE: the C functions that acquire and release it.
# USERS: the number of products that are running. BEFORE: the number of threads before the first of
# them. SET, GET: OpenBLAS's functions that set and return the number of threads, or 0.
LOCK, ACQUIRE, RELEASE, USERS, BEFORE, SET, GET, LENGTH = range(8)
# What OpenBLAS's function `get_parallel` returns if its threads are those of OpenMP.
OPENMP = 2
# OpenBLAS's functions begin with openblas_; a build may add to that.
PREFIXES, SUFFIXES = ("scipy_", ""), ("", "64_", "_64")

# A Limit that changes nothing.
NO_LIMIT: Limit = np.zeros(LENGTH, np.int64)
_limit: Limit = np.zeros(LENGTH, np.int64)
_limit[[LOCK, ACQUIRE, RELEASE]] = new_lock(), address_of(acquire), address_of(release)
_functions: dict[str, Any] | None = None  # of the OpenBLAS that _limit sets; None: not yet known


def _enter(limit: Limit) -> None:
    """Let OpenBLAS run on one thread until `leave` is called as often as this."""
    if limit[SET] == 0:
        return
    call_address(limit[ACQUIRE], limit[LOCK], 1)
    if limit[USERS] == 0:
        limit[BEFORE] = call_number(limit[GET])
    limit[USERS] += 1  # before the number changes, for _leave_all
    if limit[USERS] == 1 and limit[BEFORE] != 1:
        call_address(limit[SET], 1, 0)
    call_address(limit[RELEASE], limit[LOCK], 0)


def _leave(limit: Limit) -> None:
    """Restore the number of threads if no other product runs and it is still 1."""
    if limit[SET] == 0:
        return
    call_address(limit[ACQUIRE], limit[LOCK], 1)
    if limit[USERS] == 1 and limit[BEFORE] != 1 and call_number(limit[GET]) == 1:
        call_address(limit[SET], limit[BEFORE], 0)
    limit[USERS] -= 1
    call_address(limit[RELEASE], limit[LOCK], 0)


enter, leave = device_function(_enter), device_function(_leave)


def blas_limit() -> Limit:
    """Return the Limit of this process; the first call loads BLAS and looks for its functions."""
    global _functions
    if _functions is None:
        found = {} if numba.config.DISABLE_JIT else _controllable()  # type: ignore[attr-defined]
        if found:
            _limit[[SET, GET]] = [address_of(found[f"{way}_num_threads"]) for way in ("set", "get")]
        _functions = found
    return _limit


def _controllable() -> dict[str, Any]:
    """Return the functions of the OpenBLAS that compiled code calls, or {} for another BLAS."""
    load_blas()
    found = openblas_of(NAME)
    return {} if found and found["get_parallel"]() == OPENMP else found


def openblas_of(module: str) -> dict[str, Any]:
    """Return the functions of the OpenBLAS that an extension module calls, or {} if it has another.

    Their names are without openblas_: set_num_threads, get_num_threads, get_parallel, get_config.
    """
    path = getattr(sys.modules.get(module), "__file__", None)
    paths = [] if path is None else [Path(path)]
    if paths and sys.platform == "win32":  # which does not look into the libraries of a library
        package = module.partition(".")[0]
        for folder in paths[0].parents:
            if folder.name == package:
                paths += (folder.parent / f"{package}.libs").glob("*openblas*.dll")
    for library in map(_library, paths):
        for prefix in PREFIXES:
            for suffix in SUFFIXES:
                functions = {
                    name: getattr(library, f"{prefix}openblas_{name}{suffix}", None)
                    for name in ("set_num_threads", "get_num_threads", "get_parallel", "get_config")
                }
                if all(functions.values()):
                    return functions
    return {}


def _library(path: Path) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None


@after_fork
def _leave_all() -> None:
    """Restore the number of threads in a forked child, where no product runs."""
    if _limit[USERS]:
        _limit[USERS] = 0
        if _functions and _functions["get_num_threads"]() == 1:
            _functions["set_num_threads"](int(_limit[BEFORE]))


# C functions: between lines of Python, an interrupt could leave the lock as it should not be.
around_fork(partial(acquire, int(_limit[LOCK]), 1), partial(release, int(_limit[LOCK])))
