"""The products of matrices in compiled code: Numba takes the addresses of BLAS from a part of
SciPy, scipy.linalg.cython_blas, and imports that with whatever it compiles."""

import contextlib
import importlib.util
import os
import sys
import threading
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

NAME = "scipy.linalg.cython_blas"
_lock = threading.Lock()


def load_alone() -> None:
    """Import that part without all the rest of SciPy, which is 150 modules, 10 MB and 0.1 s. Where
    it cannot be had so, Numba imports it as it does."""
    with _lock, contextlib.suppress(Exception):
        if NAME not in sys.modules:
            scipy = importlib.util.find_spec("scipy")
            folders = scipy.submodule_search_locations if scipy is not None else None
            path = next(
                path
                for folder in folders or ()
                for suffix in EXTENSION_SUFFIXES
                if (path := Path(folder, "linalg", f"cython_blas{suffix}")).exists()
            )
            spec = importlib.util.spec_from_file_location(NAME, path)
            if spec is not None and spec.loader is not None:
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                sys.modules[NAME] = module


def _after_fork() -> None:
    """Whoever held the lock is not in the child."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
