"""The backend turns source into functions that Numba compiles.

The name of the source file contains a hash of its content. The file and Numba's machine code are in
the folder of the kernels' cache.
"""

import hashlib
import linecache
import threading
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary, finalize

import numba
import numpy as np

from ...kernels.jit.cache_files import write_generated
from ...kernels.jit.decorators import external, kernel
from ...kernels.jit.external_calls import free_module
from ...kernels.jit.numba_types import Dispatcher, Untyped
from ...system import after_fork

_typeof: Untyped = numba.typeof
_lock = threading.RLock()
# The modules in use, by name; the compiled functions of each module, by name.
_built: WeakValueDictionary[str, types.ModuleType] = WeakValueDictionary()
_compiled: WeakKeyDictionary[types.ModuleType, dict[str, Dispatcher]] = WeakKeyDictionary()


def load(source: str, title: str) -> tuple[types.ModuleType, Path | None]:
    """Return the module of this source, and its file, or None if no directory is writable.

    Equal source gives the same module, which lives with its machine code as long as anything refers
    to it. Its functions are compiled at their first call.
    """
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    readable = "".join(c if c.isalnum() else "_" for c in title)[-40:]
    name = f"minigrad_{readable}_{digest}"
    with _lock:
        module = _built.get(name)
        if module is None:
            path = write_generated(f"{name}.py", source.encode())
            module = _built[name] = _module(name, source, path)
            finalize(module, free_module, name)
        return module, None if module.__file__ is None else Path(module.__file__)


def function(module: types.ModuleType, name: str, bare: bool = False) -> Dispatcher:
    """Return the function of that name, and those that it calls, for Numba to compile as kernels.

    bare: the option of `kernel`.

    Fast-math flags are off, so an element that is computed twice has the same bits each time; the
    gradient of max, for example, compares elements with the largest one.
    """
    with _lock:
        made = _compiled.setdefault(module, {})
        if name not in made:
            python, names = getattr(module, name), dict(vars(module))
            for called in python.__code__.co_names:
                own = names.get(called)
                if isinstance(own, types.FunctionType) and own.__module__ == module.__name__:
                    names[called] = external(function(module, called, bare=True))
            copy = types.FunctionType(python.__code__, names, name)
            made[name] = kernel(copy, literal=True, bare=bare)
        return made[name]


def prepare(
    function: Dispatcher, arguments: Sequence[object]
) -> tuple[Callable[..., Any], tuple[str, float]]:
    """Compile a function for these arguments, or load it.

    arguments: arrays, in C order and aligned; others of the same dtypes and numbers of dimensions
        are called in the same way.

    Return a function that calls the machine code; what was done, and the seconds. The function
    checks no types, which Numba's own function does in each call.
    """
    if not hasattr(function, "compile"):  # a Python function, under NUMBA_DISABLE_JIT
        return function, ("run as Python", 0.0)
    began, loaded = time.perf_counter(), sum(function.stats.cache_hits.values())
    known = len(function.signatures)
    kinds = [_typeof(np.empty((1,) * a.ndim, a.dtype)) for a in map(np.asarray, arguments)]
    entry = function.compile(tuple(kinds))
    seconds = time.perf_counter() - began
    if len(function.signatures) == known:
        return entry, ("there already", seconds)
    read = sum(function.stats.cache_hits.values()) > loaded
    return entry, ("loaded from disk" if read else "compiled by Numba", seconds)


def _module(name: str, source: str, path: Path | None) -> types.ModuleType:
    module, filename = types.ModuleType(name), f"<{name}>" if path is None else str(path)
    module.__file__ = None if path is None else filename
    if path is None:
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        finalize(module, linecache.cache.pop, filename, None)
    exec(compile(source, filename, "exec"), module.__dict__)
    return module


@after_fork
def _renew_lock() -> None:
    """Renew the lock after a fork, since the child lacks the thread that may hold it."""
    global _lock
    _lock = threading.RLock()
