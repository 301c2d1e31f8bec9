"""The decorators here compile functions, and set the fast-math flags and the cache."""

import contextlib
import functools
import sys
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from .interrupts import defer_interrupts
from .numba_types import Dispatcher

try:
    from . import external_calls
    from .cache import DiskCache
except (AttributeError, ImportError):  # this version of Numba is different
    DiskCache = None  # type: ignore[assignment, misc]
try:
    from .device_functions import Inlined
except (AttributeError, ImportError):
    Inlined = None  # type: ignore[assignment, misc]

F = TypeVar("F", bound=Callable[..., object])

# Allowed: fused multiply-add, reordering of sums, ignoring the sign of zero, x / c as x * (1 / c).
# Not allowed: "nnan" and "ninf", with which LLVM assumes that there is no NaN or inf.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}

# All kernels by dotted name, for name_of, minigrad.warmup and tests.
KERNELS: weakref.WeakValueDictionary[str, Dispatcher] = weakref.WeakValueDictionary()


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
    Returns Numba's dispatcher, so that a call runs no Python code. It raises no errors of its own.
    """
    compiled = _compiled(function, exact, literal, allocates, no_cpython_wrapper=bare)
    if compiled is not function:
        _save_on_disk(compiled)
        # After an exception inside the compiler's imports or LLVM's callbacks, the process might
        # crash, or be unable to compile.
        compile_kernel = _unprofiled(compiled.compile)  # type: ignore[attr-defined]
        compiled.compile = defer_interrupts()(compile_kernel)  # type: ignore[attr-defined]
    else:  # NUMBA_DISABLE_JIT; as in compiled code, NaN and inf give no warnings
        compiled = np.errstate(all="ignore")(function)
    KERNELS[f"{function.__module__}.{function.__qualname__}"] = compiled
    return compiled


def name_of(function: object) -> str | None:
    """Return the name of a kernel in KERNELS, or None if the function is not a kernel."""
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
    literal: allow no fast-math flags at all. LLVM compiles one version of a loop for arrays that
        may overlap and one for others, and may fuse multiplications with additions differently in
        each, so that the bits could depend on the addresses of arrays.
    bare: make no entry point for Python (a call from Python would crash the process) and no
        separate machine code.
    allocates: allow it to create arrays, or to get arrays from a kernel that does. This costs
        reference counting; without it, arrays and slices are not counted.
    """
    inlined = {"pipeline_class": Inlined} if bare and Inlined is not None else {}
    return _compiled(function, exact, literal, allocates, no_cpython_wrapper=bare, **inlined)


def _compiled(function: F, exact: bool, literal: bool, allocates: bool, **options: Any) -> F:
    """Return Numba's dispatcher; the options are those of `device_function`, and Numba's own."""
    options["fastmath"] = set() if literal else FASTMATH - {"reassoc"} if exact else FASTMATH
    options |= {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, "_nrt": allocates}
    return numba.njit(**options)(function)  # type: ignore[no-any-return]


def external(kernel: F) -> F:
    """Return a version of the kernel that generated code calls instead of compiling it again."""
    if DiskCache is None or not hasattr(kernel, "py_func"):
        return kernel
    return external_calls.external(kernel)  # type: ignore[no-any-return]


def _unprofiled(function: F) -> F:
    """Return a version of the function that runs without a profile function of Python.

    A trace sets one (see compiler/tracing/captures.py), which each call in Numba would call, too.
    """

    @functools.wraps(function)
    def run(*arguments: object) -> object:
        before = sys.getprofile()
        if not callable(before):  # none, or cProfile below Python 3.12, which is written in C
            return function(*arguments)
        sys.setprofile(None)
        try:
            return function(*arguments)
        finally:
            sys.setprofile(before)

    return run  # type: ignore[return-value]


def _save_on_disk(dispatcher: Dispatcher) -> None:
    if DiskCache is not None and hasattr(dispatcher, "_cache"):
        dispatcher._cache = DiskCache(dispatcher)
    elif dispatcher.py_func.__module__ in sys.modules:  # where Numba finds an entry's globals
        with contextlib.suppress(RuntimeError):  # Numba finds no writable folder
            dispatcher.enable_caching()
