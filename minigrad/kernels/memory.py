"""Compiled code gets arrays from addresses, and addresses from arrays."""

import ctypes
import sys

import numba
import numpy as np

from ..types import Array, DType, Shape
from .jit.decorators import device_function
from .jit.new_arrays import in_code, new_array
from .jit.numba_types import (
    Builder,
    Context,
    Intrinsic,
    NumbaType,
    Signature,
    TypingContext,
    Untyped,
    Value,
    Values,
)

nb: Untyped = numba  # Numba has no types

# After the head that every object of CPython has, an array holds the address of its elements, the
# number of dimensions, and the address of their sizes; a list holds the number of its items, and
# the address of their addresses.
HEAD, WORD = object.__basicsize__, ctypes.sizeof(ctypes.c_void_p)


def _at(_typing: TypingContext, place: NumbaType, shape: NumbaType, dtype: NumbaType) -> Intrinsic:
    kind = nb.types.Array(dtype.dtype, len(shape), "C")

    def generate(context: Context, builder: Builder, _: Signature, arguments: Values) -> Value:
        sizes = nb.core.cgutils.unpack_tuple(builder, arguments[1], kind.ndim)
        return new_array(context, builder, kind, arguments[0], sizes)

    return kind(place, shape, dtype), generate


def _several(
    _typing: TypingContext,
    count: NumbaType,
    ndim: NumbaType,
    dtype: NumbaType,
    places: NumbaType,
    sizes: NumbaType,
    at: NumbaType,
) -> Intrinsic:
    kind = nb.types.Array(dtype.dtype, ndim.literal_value, "C")
    kinds = nb.types.UniTuple(kind, count.literal_value)

    def generate(context: Context, builder: Builder, _: Signature, arguments: Values) -> Value:
        places, sizes, at = arguments[3:]

        def entry(k: int) -> Value:
            here = builder.add(at, context.get_constant(nb.types.intp, k))
            return builder.load(builder.gep(sizes, [here]))

        made = []
        for k in range(0, kinds.count * (1 + kind.ndim), 1 + kind.ndim):
            place = builder.load(builder.gep(places, [entry(k)]))
            shape = [entry(k + 1 + axis) for axis in range(kind.ndim)]
            made.append(new_array(context, builder, kind, place, shape))
        return context.make_tuple(builder, kinds, made)

    at = nb.types.intp
    return kinds(count, ndim, dtype, places, sizes, at), generate


def _array(place: int, shape: Shape, dtype: DType) -> Array:
    """Return the C-ordered array at an address; the address 0 gives an array without elements."""
    return nb.carray(ctypes.c_void_p(int(place)), shape, dtype) if place else np.empty(shape, dtype)


def _arrays(
    count: int, ndim: int, dtype: DType, places: Array, sizes: Array, at: int
) -> tuple[Array, ...]:
    """Return `count` arrays that the table `sizes` describes from position `at` on.

    For each array, it has the position of the address in `places`, and then the sizes.
    """
    starts = range(at, at + count * (1 + ndim), 1 + ndim)
    return tuple(
        [_array(places[sizes[k]], tuple(sizes[k + 1 : k + 1 + ndim]), dtype) for k in starts]
    )


def _pointer(_typing: TypingContext, array: NumbaType) -> Intrinsic:
    def generate(context: Context, builder: Builder, _: Signature, arguments: Values) -> Value:
        data = context.make_array(array)(context, builder, arguments[0]).data
        return builder.ptrtoint(data, context.get_value_type(nb.types.intp))

    return nb.types.intp(array), generate


def _address(a: Array) -> int:
    """Return the address of an array's elements."""
    return a.ctypes.data


def _load(_typing: TypingContext, place: NumbaType) -> Intrinsic:
    def generate(context: Context, builder: Builder, _: Signature, arguments: Values) -> Value:
        pointer = context.get_value_type(nb.types.intp).as_pointer()
        return builder.load(builder.inttoptr(arguments[0], pointer))

    return nb.types.intp(place), generate


def _word(place: int) -> int:
    """Return the integer, of the size of an address, at an address."""
    return ctypes.c_ssize_t.from_address(int(place)).value


array, arrays = in_code(_at, _array), in_code(_several, _arrays)
address = in_code(_pointer, _address)
word = in_code(_load, _word)

# --- objects of Python --------------------------------------------------------------------------


def _item(arrays: int, i: int) -> int:
    """Return the address of array i in a list of arrays; arrays: the id() of the list."""
    found: int = word(word(arrays + HEAD + WORD) + WORD * i)
    return found


def _elements_in(arrays: int, i: int) -> int:
    """Return the address of the elements of array i in a list; arrays: the id() of the list."""
    found: int = word(item(arrays, i) + HEAD)
    return found


def _size_in(arrays: int, i: int) -> int:
    """Return the number of elements of array i in a list; arrays: the id() of the list."""
    found, size = item(arrays, i), 1
    for k in range(word(found + HEAD + WORD) & 0xFFFF):
        size *= word(word(found + HEAD + 2 * WORD) + WORD * k)
    return size


item = device_function(_item)
elements_in, size_in = device_function(_elements_in), device_function(_size_in)


def _reads_objects() -> bool:
    """Return whether lists and arrays are laid out as `_item` and `_size_in` expect."""
    a = np.arange(6.0).reshape(2, 3)
    arrays = [np.empty(0), a]
    items = (ctypes.c_ssize_t * 2).from_address(_word(id(arrays) + HEAD + WORD))
    data, dimensions, sizes = (ctypes.c_ssize_t * 3).from_address(id(a) + HEAD)
    fits = items[1] == id(a) and data == a.ctypes.data and dimensions & 0xFFFF == 2
    return fits and [*(ctypes.c_ssize_t * 2).from_address(sizes)] == [2, 3]


READS_OBJECTS = sys.implementation.name == "cpython" and _reads_objects()
