"""These functions convert what users pass into arrays of a dtype that minigrad supports."""

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .errors import DtypeError, ShapeError
from .types import Array, DType

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def as_array(data: ArrayLike, name: str) -> Array:
    """Return data as an array: float32, or boolean if all of it is boolean.

    NumPy's arrays and scalars keep their dtype, and an ndarray in native byte order is returned
    itself. Errors: those of `to_ndarray` and `checked`.
    """
    array = checked(to_ndarray(data, name), name)
    if isinstance(data, (np.ndarray, np.generic)) or array.dtype.kind == "b":
        return array
    return array.astype(FLOAT32)


def to_ndarray(data: ArrayLike, name: str) -> Array:
    """Return np.asarray(data), in any dtype. Errors: ShapeError for a ragged list."""
    try:
        return np.asarray(data)
    except ValueError as error:
        raise ShapeError(f"{name}: rows of different lengths make no array: {error}") from error


def checked(array: Array, name: str) -> Array:
    """Return the array in native byte order.

    Errors: DtypeError unless it is float32, float64, integer or boolean.
    """
    dtype = array.dtype
    if dtype.newbyteorder("=") in (FLOAT32, FLOAT64) or dtype.kind in "biu":
        return array if dtype.isnative else array.astype(dtype.newbyteorder("="))
    value = f" {array.item()!r:.40}" if array.ndim == 0 else ""
    raise DtypeError(
        f"{name}: {dtype}{value} is not supported; convert to float32 or float64 "
        "(integers and booleans serve as labels, indices and masks)"
    )


def as_carray(a: Array) -> Array:
    """Return a, or a copy that is aligned, writeable and in C order, as kernels require."""
    return a if a.flags.carray else a.copy()


def checked_dtype(dtype: DTypeLike, name: str) -> DType:
    """Return `dtype`, or the dtype of that name, as a NumPy dtype in native byte order.

    Errors: DtypeError if it is not supported or does not exist.
    """
    try:
        wanted = np.dtype(dtype)
    except TypeError as error:
        raise DtypeError(
            f"{name}: expected a dtype such as 'float32', got {dtype!r:.40} (devices have no name "
            "here: all is on the CPU)"
        ) from error
    return checked(np.empty(0, wanted), name).dtype


def memory_of(a: Array) -> object:
    """Return the object that owns the memory of this array, according to NumPy."""
    while isinstance(a.base, np.ndarray):  # a view of an array that is a view of another object
        a = a.base
    return a if a.base is None else a.base
