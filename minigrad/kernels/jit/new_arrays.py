"""Compiled code makes arrays by intrinsics: functions that write the instructions of a call.

Numba compiles np.zeros, np.empty and a.reshape as functions, for each number of dimensions and each
dtype, which takes longer than some kernels.
"""

import importlib
from collections.abc import Callable

import numba
import numba.core.cgutils
import numpy as np
from numba.extending import intrinsic

from ...types import Array, Shape
from .numba_types import (
    Builder,
    Context,
    Dispatcher,
    Intrinsic,
    NumbaType,
    Signature,
    TypingContext,
    Untyped,
    Value,
    Values,
)

nb: Untyped = numba  # Numba has no types


def in_code(intrinsic_: Callable[..., Intrinsic], python: Callable[..., object]) -> Dispatcher:
    """Return a function that compiled code calls by an intrinsic; `python` does the same."""
    if nb.config.DISABLE_JIT:
        return python
    made: Dispatcher = intrinsic(prefer_literal=True)(intrinsic_)
    made.in_python = python
    return made


def new_array(
    context: Context, builder: Builder, kind: NumbaType, place: Value, sizes: Values
) -> Value:
    """Write the code that makes an array at an address."""
    arrayobj: Untyped = importlib.import_module("numba.np.arrayobj")  # only to compile
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    step = context.get_constant(nb.types.intp, size)
    steps: list[Value] = []
    for n in reversed(sizes):
        steps.insert(0, step)
        step = builder.mul(step, n)
    made = context.make_array(kind)(context, builder)
    arrayobj.populate_array(
        made,
        data=builder.inttoptr(place, made.data.type),
        shape=sizes,
        strides=steps,
        itemsize=size,
        meminfo=None,
    )
    return made._getvalue()


def _allocation(is_zero: bool) -> Callable[..., Intrinsic]:
    """Return the intrinsic for a new array, of zeros or with arbitrary content."""

    def new(_typing: TypingContext, shape: NumbaType, dtype: NumbaType) -> Intrinsic:
        kind = nb.types.Array(dtype.dtype, len(shape), "C")

        def generate(context: Context, builder: Builder, _: Signature, arguments: Values) -> Value:
            arrayobj: Untyped = importlib.import_module("numba.np.arrayobj")  # only to compile
            sizes = nb.core.cgutils.unpack_tuple(builder, arguments[0], kind.ndim)
            array = arrayobj._empty_nd_impl(context, builder, kind, sizes)
            if is_zero:
                size = builder.mul(array.itemsize, array.nitems)
                nb.core.cgutils.memset(builder, array.data, size, 0)
            return array._getvalue()

        return kind(shape, dtype), generate

    return new


def _reshape(_typing: TypingContext, a: NumbaType, shape: NumbaType) -> Intrinsic:
    assert a.layout == "C", a
    kind = nb.types.Array(a.dtype, len(shape), "C")

    def generate(context: Context, builder: Builder, _: Signature, arguments: Values) -> Value:
        data = context.make_array(a)(context, builder, arguments[0]).data
        place = builder.ptrtoint(data, context.get_value_type(nb.types.intp))
        sizes = nb.core.cgutils.unpack_tuple(builder, arguments[1], kind.ndim)
        return new_array(context, builder, kind, place, sizes)

    return kind(a, shape), generate


def _reshaped(a: Array, shape: Shape) -> Array:
    """Return a view of a C-ordered array in another shape of its size.

    Compiled code does not count the view as a reference, so the array must live longer.
    """
    return a.reshape(shape)


zeros, empty = in_code(_allocation(True), np.zeros), in_code(_allocation(False), np.empty)
reshaped = in_code(_reshape, _reshaped)
