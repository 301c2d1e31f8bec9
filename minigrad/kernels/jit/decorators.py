"""The one decorator that compiles: it owns the fast-math flags and the cache policy."""

import contextlib
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from .interrupts import interrupts_wait

try:
    from . import external_calls as _outside
    from .cache import DiskCache
except (AttributeError, ImportError):  # a Numba that is made otherwise
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
    """Compile `function` on its first call for each signature, and keep the machine code on disk.

    Nothing is compiled at import. Where no directory can hold the cache, the kernel is compiled
    anew in each process, and one warning says so. A function with a closure is not kept.
    A Ctrl-C meanwhile waits until it is compiled and kept: seconds, at most.
    exact, literal, bare, allocates: as of `part`.
    Returns Numba's dispatcher, so that a call passes through no Python. Errors: none of its own.
    """
    compiled = _compiled(function, exact, literal, allocates, no_cpython_wrapper=bare)
    if compiled is not function:
        _keep_on_disk(compiled)
        # Numba imports most of itself when it first compiles, and LLVM calls back to hand over what
        # it made. Where an exception cuts that in two, nothing compiles any more in this process,
        # or it crashes.
        compiled.compile = interrupts_wait()(compiled.compile)  # type: ignore[attr-defined]
    else:  # as under NUMBA_DISABLE_JIT; compiled code says nothing about NaN and inf either
        compiled = np.errstate(all="ignore")(function)
    KERNELS[f"{function.__module__}.{function.__qualname__}"] = compiled
    return compiled


def name_of(function: Any) -> str | None:
    """Return the name of a kernel in KERNELS, or None for another function."""
    name = f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', None)}"
    return name if KERNELS.get(name) is function else None


def part(
    function: F,
    exact: bool = False,
    literal: bool = False,
    bare: bool = True,
    allocates: bool = False,
) -> F:
    """As `kernel`, for what only kernels call: it is compiled into each, and kept with it.

    exact: keep the order of operations, where a difference is taken to be free of the size of its
    operands.
    literal: no flags at all. LLVM makes two versions of a loop, one for arrays that might overlap,
    and fuses multiplications with additions in each as it likes; so the bits would depend on where
    arrays lie, of which an empty one may lie anywhere.
    bare: without an entry for Python, which would crash if it called; a part that is bare has no
    machine code of its own at all. Half as long to compile.
    allocates: it makes arrays, or a kernel of that kind gives it one, and so counts references.
    Others pass arrays and slices on for free. Two threads that counted those of one array took
    turns: the backward pass of (16, 256, 14, 14) took as long in two as in one.
    """
    inlined = {"pipeline_class": Inlined} if bare and Inlined is not None else {}
    return _compiled(function, exact, literal, allocates, no_cpython_wrapper=bare, **inlined)


def _compiled(function: F, exact: bool, literal: bool, allocates: bool, **options: Any) -> F:
    """Numba's dispatcher; the arguments are those of `part`, and Numba's own."""
    options["fastmath"] = set() if literal else FASTMATH - {"reassoc"} if exact else FASTMATH
    options |= {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, "_nrt": allocates}
    return numba.njit(**options)(function)  # type: ignore[no-any-return]


def outside(kernel: F) -> F:
    """A kernel for generated code to call, and not to be compiled into it."""
    if DiskCache is None or not hasattr(kernel, "py_func"):
        return kernel
    return _outside.outside(kernel)  # type: ignore[no-any-return]


def plain(a: Any) -> Any:
    """The array, or a copy, in C order and writeable: what kernels are compiled for."""
    return a if a.flags.carray else a.copy()


def _keep_on_disk(dispatcher: Any) -> None:
    if DiskCache is not None and hasattr(dispatcher, "_cache"):
        dispatcher._cache = DiskCache(dispatcher)
    else:
        with contextlib.suppress(RuntimeError):  # Numba found no directory
            dispatcher.enable_caching()
