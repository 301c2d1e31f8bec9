"""The one decorator that compiles: it owns the fast-math flags and the cache policy."""

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])

# Allowed: fused multiply-add, reordering of sums, ignoring the sign of zero, x / c as x * (1 / c).
# Not allowed: "nnan" and "ninf", under which a kernel may take a NaN for a number.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


def kernel(function: F, exact: bool = False) -> F:
    """Compile `function` on its first call for each signature, and keep the machine code on disk.

    Nothing is compiled at import. Where no directory can hold the cache, the kernel is compiled
    anew in each process, and one warning says so. exact: keep the order of operations, where a
    difference is taken to be free of the size of its operands. Errors: none of its own.
    """
    flags = FASTMATH - {"reassoc"} if exact else FASTMATH
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": flags}
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError as error:  # Numba found neither the package nor a user directory writable
        # The default filter shows a warning once for each place, hence once for all kernels.
        warnings.warn(
            f"minigrad: compiled kernels cannot be kept on disk ({error}); set NUMBA_CACHE_DIR to "
            "a writable directory to compile only once",
            RuntimeWarning,
            stacklevel=2,
        )
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
