"""Generated functions run as Python, since Numba takes long to compile each."""

import contextlib
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad.compiler.runtime import backend


def interpreted(names: dict[str, Any], within: dict[str, Any]) -> dict[str, Any]:
    """Return the objects of these names, with Numba's functions replaced by Python's.

    Functions whose globals are `within` call the replaced ones.
    """
    found: dict[str, Any] = {}
    for name, x in names.items():
        python = getattr(x, "py_func", x)
        own = isinstance(python, types.FunctionType) and python.__globals__ is within
        x = types.FunctionType(python.__code__, found) if own and not python.__closure__ else x
        found[name] = getattr(x, "in_python", x)
    return found


@contextlib.contextmanager
def as_python(kernels: dict[str, Any] | None = None, files: bool = True) -> Iterator[None]:
    """Run generated functions as Python inside the `with` block.

    kernels: functions to call instead of the compiled kernels of the same names; files: whether
    the source is kept in files.
    """
    kernels = kernels or {}

    def plain(module: Any, name: str, bare: bool = False) -> Any:
        names = {k: kernels.get(k, x) for k, x in vars(module).items()}
        return np.errstate(all="ignore")(interpreted(names, vars(module))[name])

    before = backend.function, backend.write_generated
    backend.function = plain
    if not files:
        backend.write_generated = lambda name, content: None
    try:
        yield
    finally:
        backend.function, backend.write_generated = before
