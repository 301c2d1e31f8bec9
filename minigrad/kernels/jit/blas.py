"""Load BLAS for compiled code: Numba takes its addresses from one extension module of SciPy.

Numba would import all of SciPy for the addresses of a few functions.
"""

import contextlib
import importlib.util
import sys
import threading
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from ...system import after_fork

NAME = "scipy.linalg.cython_blas"
_lock = threading.Lock()


def load_blas() -> None:
    """Import the extension module without the rest of SciPy, which would take most of the time.

    If that fails, Numba imports SciPy as usual.
    """
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


@after_fork
def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()
