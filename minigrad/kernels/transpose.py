"""This kernel transposes a matrix in blocks, which LLVM holds in vector registers."""

import numba
import numba.core.cgutils

from ..types import Array
from .jit.decorators import kernel
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

types: Untyped = numba.types
ir: Untyped = numba.core.cgutils.ir  # type: ignore[attr-defined]  # llvmlite's
BLOCK = 8  # rows and columns of a block, a power of 2


def _write_block(
    _typing: TypingContext, a: NumbaType, i: NumbaType, j: NumbaType, out: NumbaType
) -> Intrinsic:
    def generate(context: Context, builder: Builder, _: Signature, arguments: Values) -> Value:
        source, row, column, target = arguments
        element = context.get_data_type(a.dtype)
        vector = ir.VectorType(element, BLOCK)

        def place(kind: NumbaType, matrix: Value, i: Value, j: Value, k: int) -> Value:
            """Return the address of the vector that begins at matrix[i + k, j]."""
            array = context.make_array(kind)(context, builder, matrix)
            width = builder.extract_value(array.shape, 1)
            position = builder.mul(builder.add(i, ir.Constant(i.type, k)), width)
            return builder.bitcast(
                builder.gep(array.data, [builder.add(position, j)]), vector.as_pointer()
            )

        def choice(positions: list[int]) -> Value:
            return ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), positions)

        align = context.get_abi_sizeof(element)
        rows = [builder.load(place(a, source, row, column, k), align=align) for k in range(BLOCK)]
        step = BLOCK // 2
        while step:  # swap the off-diagonal squares of this size in each square of twice the size
            columns = range(BLOCK)
            first = choice([j if not j & step else BLOCK + j - step for j in columns])
            second = choice([j + step if not j & step else BLOCK + j for j in columns])
            for k in range(BLOCK):
                if not k & step:
                    pair = rows[k], rows[k + step]
                    rows[k] = builder.shuffle_vector(*pair, first)
                    rows[k + step] = builder.shuffle_vector(*pair, second)
            step //= 2
        for k in range(BLOCK):
            builder.store(rows[k], place(out, target, column, row, k), align=align)
        return context.get_dummy_value()

    return types.void(a, types.int64, types.int64, out), generate


def _block(a: Array, i: int, j: int, out: Array) -> None:
    """Transpose the block of a that begins at row i and column j into `out`; both in C order."""
    out[j : j + BLOCK, i : i + BLOCK] = a[i : i + BLOCK, j : j + BLOCK].T


block = in_code(_write_block, _block)


def _transpose(a: Array, out: Array) -> None:
    """Set out[j, i] to a[i, j], for matrices in C order of at least BLOCK rows and columns.

    Where a block would go beyond the last row or column, it begins before.
    """
    n, c = a.shape
    for i in range(0, n, BLOCK):
        for j in range(0, c, BLOCK):
            block(a, min(i, n - BLOCK), min(j, c - BLOCK), out)


transpose = kernel(_transpose)
