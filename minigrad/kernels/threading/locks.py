"""Python's own locks, which compiled code acquires and releases without the GIL.

A lock is the address that `new_lock` returns; `acquire(lock, 1)` waits for it.
"""

import ctypes
from typing import Any

# Unlike ctypes.pythonapi, this releases the GIL, so that a thread may wait for a lock.
_python = ctypes.CDLL("python", handle=ctypes.pythonapi._handle)
new_lock, acquire, release = (
    getattr(_python, f"PyThread_{name}_lock") for name in ("allocate", "acquire", "release")
)
new_lock.restype, new_lock.argtypes = ctypes.c_void_p, ()
acquire.argtypes, release.argtypes = (ctypes.c_void_p, ctypes.c_int), (ctypes.c_void_p,)


def address_of(function: Any) -> int:
    """Return the address of a C function that ctypes has found."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0
