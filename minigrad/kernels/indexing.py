"""These kernels loop over integer indices and labels."""

from ..types import Array
from .jit.decorators import kernel


def _scatter_rows(rows: Array, g: Array, out: Array) -> None:
    """Add g[i, :] to out[rows[i], :], in order, so that the sums are the same in every run."""
    for i in range(rows.size):
        r = rows[i]
        for j in range(out.shape[1]):
            out[r, j] += g[i, j]


def _find_outside(indices: Array, n: int, ignore_index: int, ignoring: bool, out: Array) -> int:
    """Copy indices to out, and return the position of the first one out of range, or -1.

    In range are 0 to n - 1 and, if ignoring, ignore_index.
    """
    for i in range(indices.size):
        index = indices[i]
        out[i] = index
        if (index < 0 or index >= n) and not (ignoring and index == ignore_index):
            return i
    return -1


scatter_rows = kernel(_scatter_rows)
find_outside = kernel(_find_outside)
