"""This function shows what minigrad runs on: versions, threads, BLAS libraries and the cache."""

import contextlib
import ctypes
import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable
from typing import Any, Literal, overload

import numba
import numpy as np

from ..errors import ArgumentError
from ..kernels.jit.blas import NAME
from ..kernels.jit.cache_files import writable_directory
from ..kernels.product import DISABLE_JIT
from ..kernels.threading.blas import SET, blas_limit, openblas_of
from ..kernels.threading.pool import get_num_threads

UNKNOWN = "unknown"
# The extension modules that call the BLAS of NumPy 2 and NumPy 1.
NUMPYS = "numpy._core._multiarray_umath", "numpy.core._multiarray_umath"
ONE = "minigrad sets it to one thread during larger products, then back"
SMALL = "minigrad gives it only products that it computes on one thread by itself"
ALL = "left alone: NUMBA_DISABLE_JIT is set, so it computes all products"
ALONE = "left alone: products may use its own threads"
UNUSED = "left alone: NUMBA_DISABLE_JIT is set, so it computes no product"


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Print versions, threads, BLAS libraries and how minigrad controls them, and the cache.

    mode: "stdout", or "dicts" to return a dictionary instead, as in np.show_config. What cannot be
    found is "unknown". Errors: ArgumentError for another mode.

    >>> sorted(mg.show_config("dicts"))
    ['blas', 'cache', 'threads', 'versions']
    """
    if mode not in ("stdout", "dicts"):
        raise ArgumentError(f"show_config: mode is {mode!r}; expected 'stdout' or 'dicts'")
    found = {
        "versions": _versions(),
        "threads": {"minigrad": get_num_threads(), "cores": os.cpu_count() or UNKNOWN},
        "blas": {"numpy": _numpys_blas(), "scipy": _scipys_blas()},
        "cache": _or_unknown(_cache),
    }
    if mode == "dicts":
        return found
    print("\n".join(_lines(found)))
    return None


def _lines(found: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in found.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {value}")
    return lines


def _or_unknown(function: Callable[..., Any], *arguments: object) -> Any:
    """Return what the function returns, or "unknown" if it fails in any way."""
    try:
        return function(*arguments)
    except Exception:
        return UNKNOWN


def _versions() -> dict[str, str]:
    own = sys.modules[__name__.partition(".")[0]]
    return {
        "minigrad": getattr(own, "__version__", UNKNOWN),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "scipy": _or_unknown(importlib.metadata.version, "scipy"),
    }


def _numpys_blas() -> dict[str, Any]:
    name = next((name for name in NUMPYS if name in sys.modules), "")
    functions = _or_empty(openblas_of, name)
    control = ALL if DISABLE_JIT else SMALL if functions else ALONE
    return _blas("numpy", functions, control)


def _scipys_blas() -> dict[str, Any]:
    limit = _or_unknown(blas_limit)
    is_controlled = limit is not UNKNOWN and limit[SET] != 0
    control = UNUSED if DISABLE_JIT else ONE if is_controlled else ALONE
    return _blas("scipy", _or_empty(openblas_of, NAME), control)


def _or_empty(function: Callable[[str], dict[str, Any]], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with contextlib.suppress(Exception):
        found = function(name)
    return found


def _blas(package: str, functions: dict[str, Any], control: str) -> dict[str, Any]:
    """Return the library that a package calls, its threads, and how minigrad controls them."""
    if not functions:
        library = _or_unknown(_built_with, package)
        return {"library": library, "threads": UNKNOWN, "control": control}
    return {
        "library": _or_unknown(_configuration, functions["get_config"]),
        "threads": _or_unknown(functions["get_num_threads"]),
        "control": control,
    }


def _configuration(get_config: Any) -> str:
    get_config.restype = ctypes.c_char_p
    return str(get_config().decode())


def _built_with(package: str) -> str:
    """Return the name and version of the BLAS that a package was built with."""
    dependencies = importlib.import_module(package).show_config(mode="dicts")["Build Dependencies"]
    return f"{dependencies['blas']['name']} {dependencies['blas']['version']}"


def _cache() -> str:
    """Return the folder in which machine code is saved."""
    folder = writable_directory()
    if folder is None:
        return "none: no folder is writable, so each process compiles kernels again"
    return str(folder)
