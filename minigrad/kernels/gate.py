"""Elementwise gates, which NumPy needs two passes and a mask for."""

from typing import Any

from numpy.typing import NDArray

from .jit import kernel


def _gate(g: NDArray[Any], y: NDArray[Any], out: NDArray[Any]) -> None:
    """out[i] = 0 where y[i] <= 0, else g[i], also where y[i] is NaN; all flat."""
    for i in range(g.size):
        out[i] = 0.0 if y[i] <= 0.0 else g[i]


gate = kernel(_gate)
