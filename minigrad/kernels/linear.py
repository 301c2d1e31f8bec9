"""The bias of a linear layer, which is added to the product that BLAS computes."""

from typing import Any

from numpy.typing import NDArray

from .jit.decorators import kernel


def _add_bias(y: NDArray[Any], b: NDArray[Any]) -> None:
    """y[i, j] += b[j], in place."""
    n, c = y.shape
    for i in range(n):
        for j in range(c):
            y[i, j] += b[j]


add_bias = kernel(_add_bias)
