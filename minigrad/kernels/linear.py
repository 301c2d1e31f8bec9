"""These kernels compute a linear layer, and its derivative, in one call each.

All matrices are in C order, and the layer is small (`is_small`). The kernels call others by their
machine code, so that these are compiled once.
"""

from ..types import Array
from .jit.decorators import external, kernel
from .jit.new_arrays import empty
from .product import PANEL, product
from .reductions import sum_few_rows
from .threading.blas import Limit
from .transpose import BLOCK
from .transpose import transpose as transpose_kernel

# With MANY rows and outputs or more, it is faster to transpose the weight first than to let BLAS do
# it inside the product.
MANY = 16


def is_small(rows: int, weights: int) -> bool:
    """Return whether no product of the layer has several panels; weights: the weight's elements."""
    return rows * weights < 2 * PANEL


def _add_bias(y: Array, b: Array) -> None:
    """Add b[j] to y[i, j], in place."""
    n, c = y.shape
    for i in range(n):
        for j in range(c):
            y[i, j] += b[j]


def _linear_forward(x: Array, w: Array, b: Array, y: Array, limit: Limit) -> None:
    """Set y to x @ w.T + b, or to x @ w.T if b is empty."""
    (outputs, inputs), rows, trans = w.shape, x.shape[0], 1
    if rows >= MANY and outputs >= MANY and inputs >= BLOCK:
        transposed = empty((inputs, outputs), w.dtype)
        transpose(w, transposed)
        w, trans = transposed, 0
    multiply(x, w, 0, trans, y, limit)
    if b.size > 0:
        add_to_rows(y, b)


def _linear_backward(
    g: Array, x: Array, w: Array, dx: Array, dw: Array, db: Array, limit: Limit
) -> None:
    """Set those that are not empty: dx = g @ w, dw = g.T @ x, db = sum of g over its rows.

    The rows of g are those of one block; see `reductions.is_one_block`.
    """
    if dx.size > 0:
        multiply(g, w, 0, 0, dx, limit)
    if dw.size > 0:
        multiply(g, x, 1, 0, dw, limit)
    if db.size > 0:
        sum_rows(g, db)


add_bias = kernel(_add_bias)
multiply, transpose = external(product), external(transpose_kernel)
add_to_rows, sum_rows = external(add_bias), external(sum_few_rows)
linear_forward = kernel(_linear_forward, allocates=True)
linear_backward = kernel(_linear_backward)
