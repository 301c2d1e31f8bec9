"""The decorators that compile: they own the fast-math flags and the cache policy."""

import contextlib
import sys
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from .interrupts import defer_interrupts

try:
    from . import external_calls
    from .cache import DiskCache
except (AttributeError, ImportError):  # this version of Numba differs
    DiskCache = None  # type: ignore[assignment, misc]
try:
    from .device_functions import Inlined
except (AttributeError, ImportError):
    Inlined = None  # type: ignore[assignment, misc]

F = TypeVar("F", bound=Callable[..., Any])

# Allowed: fused multiply-add, reordering of sums, ignoring the sign of zero, x / c as x * (1 / c).
# Not allowed: "nnan" and "ninf", under which a kernel may take a NaN for a number.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}

# Every kernel by its dotted name, for minigrad.warmup and for tests.
KERNELS: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def kernel(
    function: F,
    exact: bool = False,
    literal: bool = False,
    bare: bool = False,
    allocates: bool = False,
) -> F:
    """Compile `function` on its first call for each signature, and save the machine code on disk.

    Nothing is compiled at import. If no folder can hold the cache, each process compiles the kernel
    again, and one warning says so. A function with a closure is not saved. A Ctrl-C while a kernel
    compiles is deferred until the kernel is saved.
    exact, literal, bare, allocates: the options of `device_function`.
    Returns Numba's dispatcher, so that a call passes through no Python. Errors: none of its own.
    """
    compiled = _compiled(function, exact, literal, allocates, no_cpython_wrapper=bare)
    if compiled is not function:
        _save_on_disk(compiled)
        # An exception that cuts the compiler's imports or LLVM's callbacks in two would leave a
        # process that can compile nothing any more, or crashes.
        compiled.compile = defer_interrupts()(compiled.compile)  # type: ignore[attr-defined]
    else:  # NUMBA_DISABLE_JIT; compiled code gives no warnings about NaN and inf either
        compiled = np.errstate(all="ignore")(function)
    KERNELS[f"{function.__module__}.{function.__qualname__}"] = compiled
    return compiled


def name_of(function: Any) -> str | None:
    """Return the name of a kernel in KERNELS, or None for another function."""
    name = f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', None)}"
    return name if KERNELS.get(name) is function else None


def device_function(
    function: F,
    exact: bool = False,
    literal: bool = False,
    bare: bool = True,
    allocates: bool = False,
) -> F:
    """Compile `function` into each kernel that calls it.

    exact: keep the order of operations, for differences whose error must not depend on the size of
    their operands.
    literal: allow no fast-math flags at all. LLVM makes one version of a loop for arrays that may
    overlap and one for others, and fuses multiplications with additions in each as it likes, so
    that the bits could depend on the addresses of arrays.
    bare: give it no entry for Python, where a call would crash the process, and no machine code of
    its own.
    allocates: let it create arrays, or take arrays from a kernel that does, which costs reference
    counts. Without it, arrays and slices are passed on without counting.
    """
    inlined = {"pipeline_class": Inlined} if bare and Inlined is not None else {}
    return _compiled(function, exact, literal, allocates, no_cpython_wrapper=bare, **inlined)


def _compiled(function: F, exact: bool, literal: bool, allocates: bool, **options: Any) -> F:
    """Return Numba's dispatcher for the options of `device_function` and Numba's own."""
    options["fastmath"] = set() if literal else FASTMATH - {"reassoc"} if exact else FASTMATH
    options |= {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, "_nrt": allocates}
    return numba.njit(**options)(function)  # type: ignore[no-any-return]


def external(kernel: F) -> F:
    """Return the kernel for generated code, which calls it instead of compiling it in."""
    if DiskCache is None or not hasattr(kernel, "py_func"):
        return kernel
    return external_calls.external(kernel)  # type: ignore[no-any-return]


def plain(a: Any) -> Any:
    """Return the array, or a copy, in C order and writeable: what kernels are compiled for."""
    return a if a.flags.carray else a.copy()


def _save_on_disk(dispatcher: Any) -> None:
    if DiskCache is not None and hasattr(dispatcher, "_cache"):
        dispatcher._cache = DiskCache(dispatcher)
    elif dispatcher.py_func.__module__ in sys.modules:  # from where Numba loads an entry's globals
        with contextlib.suppress(RuntimeError):  # Numba finds no writable folder
            dispatcher.enable_caching()
