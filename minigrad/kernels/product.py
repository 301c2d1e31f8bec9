"""Each call of BLAS for a matrix product runs on one thread; the pool shares large products.

OpenBLAS's own threads wait for each other by spinning, so that a product may take a hundred times
as long as soon as another program runs. Here, NumPy gets only products that OpenBLAS computes on
one thread by itself (`is_alone`). The kernel `product` sets OpenBLAS to one thread meanwhile
(threading/blas.py), and `large_product` also shares panels of rows or columns among the pool. The
shape alone determines the panels, so that the results have the same bits for any number of threads.
A BLAS that minigrad cannot control computes a product in one call, with its own threads.
"""

import ctypes
from typing import Any

import numba
import numba.core.cgutils
import numpy as np

from ..types import Array
from .allocator import SMALL, empty
from .jit.decorators import device_function, kernel
from .jit.new_arrays import in_code
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
from .memory import address
from .threading.blas import SET, Limit, blas_limit, enter, leave
from .threading.parallel_for import Pool, parallel_for
from .threading.pool import current_pool

# OpenBLAS uses one thread for a product of matrices with at most ALONE multiplications, and for a
# product of a matrix of fewer than VECTORS elements with a vector.
ALONE, VECTORS = 1 << 18, 9 << 10
# A panel has about PANEL multiplications, at least WIDTH rows or columns, and a multiple of GRAIN.
# A product has at most PANELS.
PANEL, WIDTH, GRAIN, PANELS = 1 << 20, 64, 16, 8
# An element of other loops, in which a pool counts work, takes as long as WORK multiplications.
WORK = 16
# Sizes and steps of BLAS are 32-bit integers.
LARGEST = (1 << 31) - 1

# --- products of arrays ---------------------------------------------------------------------------


def dot(a: Array, b: Array, out: Array | None = None) -> Array:
    """Return a @ b for two matrices, in `out` if that is given: a C-ordered array of its dtype.

    Without `out`, a large result lies in memory that the allocator reuses.
    """
    (m, inner), n = a.shape, b.shape[1]
    dtype = a.dtype
    if dtype is not b.dtype or not dtype.isnative:
        dtype = np.result_type(a, b)
    is_float = dtype.char in "fd"
    if out is None and m * n >= SMALL and is_float:
        out = empty((m, n), dtype)
    if is_alone(m, n, inner) or not is_float or inner != len(b) or max(m, n, inner) > LARGEST:
        return np.dot(a, b, out=out)
    out = np.empty((m, n), dtype) if out is None else out
    (left, a_trans), (right, b_trans) = _oriented(a, dtype), _oriented(b, dtype)
    if panels(m, n, inner) > 1:
        large_product(left, right, a_trans, b_trans, out, blas_limit(), current_pool())
    else:
        product(left, right, a_trans, b_trans, out, blas_limit())
    return out


def is_alone(m: int, n: int, inner: int) -> bool:
    """Return whether OpenBLAS uses one thread for a product of (m, inner) and (inner, n).

    NumPy calls another function for a @ a.T, which counts one more row.
    """
    if m == 1 or n == 1:
        return m * n * inner < VECTORS
    return (m + 1) * n * inner <= ALONE


def panels(m: int, n: int, inner: int) -> int:
    """Return the number of panels of a product of (m, inner) and (inner, n)."""
    return max(1, min(m * n * inner // PANEL, max(m, n) // WIDTH, PANELS))


def _oriented(a: Array, dtype: np.dtype[np.generic]) -> tuple[Array, int]:
    """Return a and 0, or a.T and 1, whichever is in C order; it may be a copy."""
    if a.dtype is dtype:
        flags = a.flags
        if flags.carray:
            return a, 0
        if flags.f_contiguous and flags.behaved:
            return a.T, 1
    a = np.require(a, dtype, "A")
    return (a.T, 1) if a.flags.f_contiguous else (np.ascontiguousarray(a), 0)


DISABLE_JIT = numba.config.DISABLE_JIT  # type: ignore[attr-defined]

# --- one call of BLAS -----------------------------------------------------------------------------

types: Untyped = numba.types
cgutils: Untyped = numba.core.cgutils
ir = cgutils.ir  # llvmlite's, which comes with Numba
CHAR, INT64, POINTER = ir.IntType(8), ir.IntType(64), ir.IntType(8).as_pointer()


class Writer:
    """A Writer writes the instructions of a call of BLAS, for elements of a size in bytes."""

    def __init__(self, builder: Builder, size: Value) -> None:
        self._builder = builder
        self._is_single = builder.icmp_signed("==", size, ir.Constant(INT64, 4))

    def call(self, function: str, *arguments: Value) -> Value:
        """Call Numba's entry point to a function of BLAS; the first argument is the dtype's."""
        given = [self._choice(self._is_single, "s", "d"), *arguments]
        kind = ir.FunctionType(ir.IntType(32), [value.type for value in given])
        found = cgutils.get_or_insert_function(self._builder.module, kind, function)
        self._builder.call(found, given)
        return ir.Constant(INT64, 0)

    def letter(self, trans: Value) -> Value:
        """Return the letter for a matrix that counts as transposed or not."""
        flag = self._builder.icmp_signed("!=", trans, ir.Constant(INT64, 0))
        return self._choice(flag, "t", "n")

    def number(self, x: float) -> Value:
        """Return the address of a number of the dtype."""
        places = (
            self._builder.bitcast(
                cgutils.alloca_once_value(self._builder, ir.Constant(kind, x)), POINTER
            )
            for kind in (ir.FloatType(), ir.DoubleType())
        )
        return self._builder.select(self._is_single, *places)

    def pointer(self, place: Value) -> Value:
        """Return an address as a pointer."""
        return self._builder.inttoptr(place, POINTER)

    def _choice(self, flag: Value, yes: str, no: str) -> Value:
        return self._builder.select(flag, ir.Constant(CHAR, ord(yes)), ir.Constant(CHAR, ord(no)))


# In the functions below, a matrix is given by its address, by the number of elements from each row
# to the next, and by 1 if these are the rows of the transposed matrix, else 0. What is a row here
# is a column for BLAS. size: the bytes of an element.


def _write_gemm(_typing: TypingContext, *kinds: NumbaType) -> Intrinsic:
    def generate(_: Context, builder: Builder, _signature: Signature, packed: Values) -> Value:
        size, m, n, inner, *matrices = cgutils.unpack_tuple(builder, packed[0])
        a, a_step, a_trans, b, b_step, b_trans, out, out_step = matrices
        w = Writer(builder, size)
        sizes = w.letter(b_trans), w.letter(a_trans), n, m, inner  # out.T = b.T @ a.T
        factors = w.number(1.0), w.pointer(b), b_step, w.pointer(a), a_step
        return w.call("numba_xxgemm", *sizes, *factors, w.number(0.0), w.pointer(out), out_step)

    return types.int64(types.StarArgTuple.from_types([types.int64] * len(kinds))), generate


def _write_gemv(_typing: TypingContext, *kinds: NumbaType) -> Intrinsic:
    def generate(_: Context, builder: Builder, _signature: Signature, packed: Values) -> Value:
        given = cgutils.unpack_tuple(builder, packed[0])
        size, m, n, a, a_step, a_trans, x, out = given
        w = Writer(builder, size)
        is_row = builder.icmp_signed("==", a_trans, ir.Constant(INT64, 0))
        sizes = builder.select(is_row, n, m), builder.select(is_row, m, n)
        factors = w.number(1.0), w.pointer(a), a_step, w.pointer(x)
        letter = w.letter(builder.sub(ir.Constant(INT64, 1), a_trans))
        return w.call("numba_xxgemv", letter, *sizes, *factors, w.number(0.0), w.pointer(out))

    return types.int64(types.StarArgTuple.from_types([types.int64] * len(kinds))), generate


def _gemm(
    size: int,
    m: int,
    n: int,
    inner: int,
    a: int,
    a_step: int,
    a_trans: int,
    b: int,
    b_step: int,
    b_trans: int,
    out: int,
    out_step: int,
) -> None:
    """Set the matrix `out` of shape (m, n) to a @ b."""
    x, y = _matrix(size, m, inner, a, a_step, a_trans), _matrix(size, inner, n, b, b_step, b_trans)
    _matrix(size, m, n, out, out_step, 0)[...] = x @ y


def _gemv(size: int, m: int, n: int, a: int, a_step: int, a_trans: int, x: int, out: int) -> None:
    """Set m elements from `out` to the product of a, of shape (m, n), and n elements from x."""
    column = _matrix(size, n, 1, x, 1, 0)
    _matrix(size, m, 1, out, 1, 0)[...] = _matrix(size, m, n, a, a_step, a_trans) @ column


def _matrix(size: int, m: int, n: int, place: int, step: int, trans: int) -> Array:
    if trans:
        return _matrix(size, n, m, place, step, 0).T
    memory: Any = (ctypes.c_char * (size * (step * (m - 1) + n))).from_address(place)
    return np.ndarray((m, n), np.dtype(f"f{size}"), memory, strides=(size * step, size))


gemm, gemv = in_code(_write_gemm, _gemm), in_code(_write_gemv, _gemv)

# --- kernels --------------------------------------------------------------------------------------


def _multiply(
    size: int,
    m: int,
    n: int,
    inner: int,
    a: int,
    a_step: int,
    a_trans: int,
    b: int,
    b_step: int,
    b_trans: int,
    out: int,
    out_step: int,
) -> None:
    """Compute `_gemm`, or `_gemv` for a vector whose elements are neighbours.

    BLAS is more exact for vectors.
    """
    if out_step == 1:
        gemv(size, m, inner, a, a_step, a_trans, b, out)
    elif m == 1 and (a_trans == 0 or a_step == 1):
        gemv(size, n, inner, b, b_step, 1 - b_trans, a, out)
    else:
        gemm(size, m, n, inner, a, a_step, a_trans, b, b_step, b_trans, out, out_step)


def _panel(
    part: int,
    _thread: int,
    size: int,
    m: int,
    n: int,
    inner: int,
    a: int,
    a_step: int,
    a_trans: int,
    b: int,
    b_step: int,
    b_trans: int,
    out: int,
    width: int,
) -> None:
    """Compute `width` rows of out, or columns if out has more columns than rows."""
    start, step = part * width, n
    if n > m:
        width = min(width, n - start)
        b, out = b + size * start * (b_step if b_trans != 0 else 1), out + size * start
        n = width
    else:
        width = min(width, m - start)
        a, out = a + size * start * (1 if a_trans != 0 else a_step), out + size * start * n
        m = width
    multiply(size, m, n, inner, a, a_step, a_trans, b, b_step, b_trans, out, step)


def _product(a: Array, b: Array, a_trans: int, b_trans: int, out: Array, limit: Limit) -> None:
    """Set out to a @ b; a_trans, b_trans: 1 if the transposed matrix is the factor, else 0.

    All are matrices in C order.
    """
    (m, n), inner = out.shape, a.shape[1 - a_trans]
    if m * n * inner == 0:
        for i in range(m):
            for j in range(n):
                out[i, j] = 0
        return
    is_limited = not alone(m, n, inner)
    if is_limited:
        enter(limit)
    factors = address(a), a.shape[1], a_trans, address(b), b.shape[1], b_trans
    multiply(out.itemsize, m, n, inner, *factors, address(out), n)
    if is_limited:
        leave(limit)


def _large_product(
    a: Array, b: Array, a_trans: int, b_trans: int, out: Array, limit: Limit, pool: Pool
) -> None:
    """Compute `_product` in panels that the pool shares, for sizes that are not 0."""
    (m, n), inner = out.shape, a.shape[1 - a_trans]
    longer, parts = max(m, n), panels_of(m, n, inner) if limit[SET] != 0 else 1
    width = (longer + parts * GRAIN - 1) // (parts * GRAIN) * GRAIN
    parts = (longer + width - 1) // width
    sizes = out.itemsize, m, n, inner
    factors = address(a), a.shape[1], a_trans, address(b), b.shape[1], b_trans
    enter(limit)
    panel(pool, parts, m * n * inner // WORK, (*sizes, *factors, address(out), width))
    leave(limit)


alone, panels_of = device_function(is_alone), device_function(panels)
multiply: Untyped = device_function(_multiply)
panel: Untyped = parallel_for(device_function(_panel))
product, large_product = kernel(_product), kernel(_large_product)
