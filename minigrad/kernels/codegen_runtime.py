"""Generated code calls the functions here: kernels, memory access, and scalar functions.

Generated code may also run as Python, so no device function here is `bare`.
"""

import math
from collections.abc import Sequence

import numba
import numba.core.cgutils
import numpy as np

from ..types import Array, Number, Shape
from . import indexing, linear, memory, reductions, softmax
from . import product as products
from .batchnorm import planes, rows, small_rows
from .jit import new_arrays
from .jit.decorators import F, device_function, external
from .jit.new_arrays import in_code
from .jit.numba_types import (
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
from .threading.parallel_for import Pool
from .threading.pool import THREADED

nb: Untyped = numba  # Numba has no types

_OWN = set(globals())  # the names that this module imports

# --- kernels ------------------------------------------------------------------------------------

row_train, row_eval = external(rows.row_train), external(rows.row_eval)
row_backward = external(rows.row_backward)
small_train, small_eval = external(small_rows.small_train), external(small_rows.small_eval)
small_backward = external(small_rows.small_backward)
plane_train, plane_eval = external(planes.plane_train), external(planes.plane_eval)
plane_backward = external(planes.plane_backward)
find_outside = external(indexing.find_outside)
cross_entropy_forward = external(softmax.cross_entropy_forward)
cross_entropy_backward = external(softmax.cross_entropy_backward)
label_cross_entropy_forward = external(softmax.label_cross_entropy_forward)
label_cross_entropy_backward = external(softmax.label_cross_entropy_backward)
add_bias = external(linear.add_bias)
linear_forward, linear_backward = external(linear.linear_forward), external(linear.linear_backward)
sum_rows, sum_few_rows = external(reductions.sum_rows), external(reductions.sum_few_rows)

# --- memory -------------------------------------------------------------------------------------


def _elements(_typing: TypingContext, array: NumbaType) -> Intrinsic:
    def generate(context: Context, builder: Builder, _: Signature, arguments: Values) -> Value:
        return context.make_array(array)(context, builder, arguments[0]).data

    return nb.types.CPointer(array.dtype)(array), generate


def _table(a: Array) -> Array:
    """Return the elements of a C-ordered array, for reads at indices that are known to be valid.

    Numba compiles such reads faster than those of an array.
    """
    return a


def _view(
    context: Context,
    builder: Builder,
    a: NumbaType,
    kind: NumbaType,
    value: Value,
    order: Sequence[int],
) -> Value:
    """Return a view, of type `kind`, of an array of type a, with its dimensions in this order."""
    cgutils = nb.core.cgutils
    given = context.make_array(a)(context, builder, value)
    array = context.make_array(kind)(context, builder)
    for name in ("meminfo", "parent", "nitems", "itemsize", "data"):
        setattr(array, name, getattr(given, name))
    for name in ("shape", "strides"):
        parts = cgutils.unpack_tuple(builder, getattr(given, name), a.ndim)
        setattr(array, name, cgutils.pack_array(builder, [parts[axis] for axis in order]))
    return array._getvalue()


def _moved(_typing: TypingContext, a: NumbaType, axes: NumbaType) -> Intrinsic:
    order = [axis.literal_value for axis in axes.types]
    kind = nb.types.Array(a.dtype, a.ndim, "A")

    def generate(context: Context, builder: Builder, _: Signature, arguments: Values) -> Value:
        return _view(context, builder, a, kind, arguments[0], order)

    return kind(a, axes), generate


def _permuted(a: Array, axes: Shape) -> Array:
    """Return a view of a with permuted dimensions, without the allocation of Numba's transpose."""
    return a.transpose(axes)


def _write_in_c_order(_typing: TypingContext, a: NumbaType) -> Intrinsic:
    assert a.layout in "CF", a  # a view in another order is read by loops only
    kind = nb.types.Array(a.dtype, 2, "C")

    def generate(context: Context, builder: Builder, _: Signature, arguments: Values) -> Value:
        if a.layout == "C":
            return arguments[0]
        return _view(context, builder, a, kind, arguments[0], (1, 0))

    return kind(a), generate


def _in_c_order(a: Array) -> Array:
    """Return a matrix or its transpose, whichever is in C order; `trans` tells which.

    Numba knows that the transpose of a matrix in C order is in Fortran order.
    """
    return a if a.flags.c_contiguous else a.T


def _write_trans(_typing: TypingContext, a: NumbaType) -> Intrinsic:
    def generate(context: Context, _builder: Builder, _: Signature, _arguments: Values) -> Value:
        return context.get_constant(nb.types.int64, int(a.layout == "F"))

    return nb.types.int64(a), generate


def _trans(a: Array) -> int:
    """Return 1 if `in_c_order` returns the transpose of a, else 0."""
    return int(not a.flags.c_contiguous)


def _copy(source: Array, target: Array) -> None:
    """Copy the elements of source in order to target, which may have another shape.

    Both arrays are in C order.
    """
    sources, targets = reshaped(source, (source.size,)), reshaped(target, (target.size,))
    for i in range(targets.size):
        targets[i] = sources[i]


def _gather(source: Array, rows: Array, target: Array) -> None:
    """Set target[i] to source[rows[i]], for arrays in C order."""
    width = target.size // max(rows.size, 1)
    sources, targets = reshaped(source, (source.size,)), reshaped(target, (target.size,))
    for i in range(rows.size):
        start = rows[i] * width
        row, into = sources[start : start + width], targets[i * width : (i + 1) * width]
        for j in range(into.size):
            into[j] = row[j]


array, arrays, address = memory.array, memory.arrays, memory.address
reshaped = new_arrays.reshaped
table, permuted = in_code(_elements, _table), in_code(_moved, _permuted)
in_c_order, trans = in_code(_write_in_c_order, _in_c_order), in_code(_write_trans, _trans)
copy, gather = device_function(_copy, bare=False), device_function(_gather, bare=False)
product, large_product = external(products.product), external(products.large_product)

# --- threads ------------------------------------------------------------------------------------


def _serial_for_few(_typing: TypingContext, pool: NumbaType, values: NumbaType) -> Intrinsic:
    def generate(context: Context, builder: Builder, _: Signature, arguments: Values) -> Value:
        array = context.make_array(pool)(context, builder, arguments[0])
        few = builder.icmp_signed("<", arguments[1], context.get_constant(values, THREADED))
        none = context.get_constant(nb.types.intp, 0)
        array.nitems = builder.select(few, none, array.nitems)
        array.shape = nb.core.cgutils.pack_array(builder, [array.nitems])
        return array._getvalue()

    return pool(pool, values), generate


def _pool_for(pool: Pool, values: int) -> Pool:
    """Return the pool, or one without workers for an array of few values."""
    return pool if values >= THREADED else pool[:0]


pool_for = in_code(_serial_for_few, _pool_for)

# --- indices ------------------------------------------------------------------------------------


def _locate(indices: Array, n: int, places: Array) -> int:
    """Set places[i] to places[i] * n + indices[i]; a negative index counts from the end.

    Return the position of the first index that is out of range, or -1.
    """
    for i in range(indices.size):
        index = indices[i] if indices[i] >= 0 else indices[i] + n
        if index < 0 or index >= n:
            return i
        places[i] = places[i] * n + index
    return -1


def _take(a: Array, places: Array, y: Array) -> None:
    """Set y[i, j] to a[i, places[j]], for arrays of three dimensions."""
    for i in range(a.shape[0]):
        for j in range(places.size):
            source, target = a[i, places[j]], y[i, j]
            for k in range(target.size):
                target[k] = source[k]


def _put(g: Array, places: Array, out: Array) -> None:
    """Set out to zeros, then add g[i, j] to out[i, places[j]] in order, for three dimensions."""
    out[...] = 0
    for i in range(out.shape[0]):
        for j in range(places.size):
            source, target = g[i, j], out[i, places[j]]
            for k in range(target.size):
                target[k] += source[k]


def _first_extreme(a: Array, largest: bool, y: Array) -> None:
    """Set y[i, k] to the first j where a[i, j, k] is NaN or, if none is, largest or smallest."""
    for i in range(a.shape[0]):
        for k in range(a.shape[2]):
            first, best = 0, a[i, 0, k]
            for j in range(1, a.shape[1]):
                x = a[i, j, k]
                if best == best and (x != x or (x > best if largest else x < best)):
                    first, best = j, x
            y[i, k] = first


locate, take = device_function(_locate, bare=False), device_function(_take, bare=False)
put, first_extreme = device_function(_put, bare=False), device_function(_first_extreme, bare=False)

# --- scalar functions ---------------------------------------------------------------------------


def _element(function: F) -> F:
    return device_function(function, literal=True, bare=False)


def _of_math(name: str) -> Dispatcher:
    """Return Python's math function of this name, with a result of the argument's dtype."""
    function = getattr(math, name)
    # Plain Python uses NumPy's function: math's raises where compiled code gives inf or NaN.
    numpys = getattr(np, name, getattr(np, name.replace("a", "arc", 1), function))

    def element(a: Number) -> Number:
        return type(a)(function(a))

    def in_python(a: Number) -> Number:
        return type(a)(numpys(a))

    if nb.config.DISABLE_JIT:
        return in_python
    element.__name__ = element.__qualname__ = f"_{name}"  # Numba distinguishes functions by name
    made: Dispatcher = _element(element)
    made.in_python = in_python
    return made


acos, acosh, asin, asinh = map(_of_math, ("acos", "acosh", "asin", "asinh"))
atan, atanh, cos, cosh = map(_of_math, ("atan", "atanh", "cos", "cosh"))
erf, erfc, exp, expm1 = map(_of_math, ("erf", "erfc", "exp", "expm1"))
log, log10, log1p = map(_of_math, ("log", "log10", "log1p"))
sin, sinh, sqrt, tan, tanh = map(_of_math, ("sin", "sinh", "sqrt", "tan", "tanh"))


def _maximum(a: Number, b: Number) -> Number:
    """Return the larger of a and b, or NaN if one is NaN."""
    return a if a >= b or a != a else b


def _minimum(a: Number, b: Number) -> Number:
    """Return the smaller of a and b, or NaN if one is NaN."""
    return a if a <= b or a != a else b


def _sign(a: Number) -> Number:
    """Return the sign of a: -1, 0, 1 or NaN."""
    zero = type(a)(0)
    return a if a != a else type(a)(int(a > zero) - int(a < zero))


maximum, minimum, sign = _element(_maximum), _element(_minimum), _element(_sign)

# --- floats as integers -------------------------------------------------------------------------

# These convert as NumPy does on x86-64, also if the number does not fit the integer, where LLVM's
# conversion is undefined. minigrad.compiler compares them with NumPy before it uses them.


def _to_int64(a: float) -> np.int64:
    """Return a as int64, or the smallest int64 if a does not fit."""
    return np.int64(a if -(2.0**63) <= a < 2.0**63 else -(2.0**63))


def _to_int32(a: float) -> np.int32:
    """Return a as int32, or the smallest int32 if a does not fit."""
    return np.int32(a if -(2.0**31) <= a < 2.0**31 else -(2.0**31))


def _to_int16(a: float) -> np.int16:
    """Return the low bits of `_to_int32(a)`."""
    return np.int16(np.int32(a if -(2.0**31) <= a < 2.0**31 else -(2.0**31)))


def _to_int8(a: float) -> np.int8:
    """Return the low bits of `_to_int32(a)`."""
    return np.int8(np.int32(a if -(2.0**31) <= a < 2.0**31 else -(2.0**31)))


def _to_uint16(a: float) -> np.uint16:
    """Return the low bits of `_to_int32(a)`."""
    return np.uint16(np.int32(a if -(2.0**31) <= a < 2.0**31 else -(2.0**31)))


def _to_uint8(a: float) -> np.uint8:
    """Return the low bits of `_to_int32(a)`."""
    return np.uint8(np.int32(a if -(2.0**31) <= a < 2.0**31 else -(2.0**31)))


def _to_uint32(a: float) -> np.uint32:
    """Return the low bits of `_to_int64(a)`."""
    return np.uint32(np.int64(a if -(2.0**63) <= a < 2.0**63 else -(2.0**63)))


def _to_uint64(a: float) -> np.uint64:
    """Return a as uint64, 0 for a >= 2**64, and the bits of `_to_int64(a)` for a < 2**63."""
    if a >= 2.0**63:
        return np.uint64(a if a < 2.0**64 else 0.0)
    return np.uint64(np.int64(a if a >= -(2.0**63) else -(2.0**63)))


to_int64, to_int32, to_int16, to_int8 = map(_element, (_to_int64, _to_int32, _to_int16, _to_int8))
to_uint64, to_uint32 = map(_element, (_to_uint64, _to_uint32))
to_uint16, to_uint8 = map(_element, (_to_uint16, _to_uint8))

# The names that generated code may import: those defined here, without an underscore.
OFFERED = {name for name in globals() if name[0] != "_"} - _OWN
# Those that call BLAS, and the one among them that uses the pool.
PRODUCTS = {"product", "large_product", "linear_forward", "linear_backward"}
LARGE_PRODUCT = "large_product"
