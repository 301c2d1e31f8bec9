"""This kernel adds the bias of a linear layer to the product from BLAS."""

from ..types import Array
from .jit.decorators import kernel


def _add_bias(y: Array, b: Array) -> None:
    """Add b[j] to y[i, j], in place."""
    n, c = y.shape
    for i in range(n):
        for j in range(c):
            y[i, j] += b[j]


add_bias = kernel(_add_bias)
