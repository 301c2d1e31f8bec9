"""Captures treat these kinds of objects in their own ways: holders, buffers, proxies and the like.

Like inspection.py, the functions here run none of the user's code.
"""

import ctypes
import mmap
import weakref
from array import array
from types import (
    AsyncGeneratorType,
    CodeType,
    CoroutineType,
    FrameType,
    GeneratorType,
    TracebackType,
)
from typing import Any

import numpy as np

from ...types import Array
from .inspection import comes_from, module_of, mro

# An object whose class is in one of these modules only holds other objects, which are all guarded.
HOLDERS = frozenset(
    [
        "builtins",
        "collections",
        "functools",
        "operator",
        "_operator",
        "enum",
        "weakref",
        "_weakrefset",
        "multiprocessing.shared_memory",
        "multiprocessing.sharedctypes",
    ]
)
# Objects of these classes are not looked into: they change in use, or lead to everything.
_CLOSED = (
    AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType, TracebackType
)  # fmt: skip
_BUFFERS = (bytearray, array, np.void, mro(ctypes.c_int)[-2])
_POINTERS = (ctypes._Pointer, ctypes.py_object, mmap.mmap)
_PROXIES = (weakref.ProxyType, weakref.CallableProxyType)


class Referent:
    """A Referent plus a weak proxy is the object that the proxy stands for.

    Python adds the proxy first, and then what the proxy stands for, whose own code does not run.
    """

    def __add__(self, x: object) -> object:
        return NotImplemented if is_proxy(x) else x


REFERENT = Referent()


def is_proxy(x: object) -> bool:
    """Return whether x is a weak proxy."""
    return comes_from(x, *_PROXIES)


def is_buffer(x: object) -> bool:
    """Return whether x is bytes that may change."""
    return comes_from(x, *_BUFFERS)


def leads_away(x: object) -> bool:
    """Return whether x leads to memory that no guard sees, as a pointer does.

    A structured array or scalar with a field that holds objects does so, too.
    """
    if comes_from(x, *_POINTERS):
        return True
    dtype = dtype_of(x) if comes_from(x, np.ndarray, np.void) else None
    return dtype is not None and dtype.hasobject and dtype.names is not None


def dtype_of(x: object) -> np.dtype[Any]:
    """Return the dtype of an array or scalar of NumPy."""
    kind: Any = np.ndarray if comes_from(x, np.ndarray) else np.generic
    found: np.dtype[Any] = kind.dtype.__get__(x)
    return found


def is_scalar(x: object) -> bool:
    """Return whether x is a number or text of exactly a class of NumPy, which never changes."""
    return (
        module_of(type(x)) == "numpy" and comes_from(x, np.generic) and not comes_from(x, np.void)
    )


def items_of(x: Array) -> tuple[object, ...]:
    """Return all elements of an array of objects."""
    return tuple(np.ndarray.flat.__get__(x))


def is_holder(x: object) -> bool:
    """Return whether x is a container, method or the like, which only holds other objects."""
    named = (module_of(kind) for kind in mro(type(x)) if kind is not object)
    return not comes_from(x, *_CLOSED) and any(name in HOLDERS for name in named)
