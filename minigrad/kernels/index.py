"""Loops over integer indices and labels."""

from typing import Any

from numpy.typing import NDArray

from .jit import kernel


def _scatter_rows(rows: NDArray[Any], g: NDArray[Any], out: NDArray[Any]) -> None:
    """out[rows[i], :] += g[i, :], in order, so that the sum is the same in every run."""
    for i in range(rows.size):
        r = rows[i]
        for j in range(out.shape[1]):
            out[r, j] += g[i, j]


def _one_hot(labels: NDArray[Any], ignore_index: int, out: NDArray[Any]) -> tuple[int, int]:
    """out[i, labels[i]] = 1, into zeros, but for rows whose label is ignore_index.

    Returns the number of rows set, and the first row whose label is out of range, or -1.
    """
    n = 0
    for i in range(labels.size):
        label = labels[i]
        if label == ignore_index:
            continue
        if label < 0 or label >= out.shape[1]:
            return n, i
        out[i, label] = 1.0
        n += 1
    return n, -1


scatter_rows = kernel(_scatter_rows)
one_hot = kernel(_one_hot)
