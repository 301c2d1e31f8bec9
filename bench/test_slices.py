"""This benchmark times the backward pass of a Python loop over rows; it should be linear in n."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.conftest import Measure
from bench.libraries import Library


@pytest.mark.parametrize("n", [1000, 2000, 4000])
def test_slices(measure: Measure, benchmark: Any, library: Library, n: int) -> None:
    """Time the gradient of the sum of x[i] * x[i] over the rows of x (n, 64), in float32."""
    benchmark.group = f"slices {n}"
    rows = np.linspace(0.0, 1.0, n * 64, dtype=np.float32).reshape(n, 64)
    x = library.tensor(rows, requires_grad=True)
    total: Any = 0.0
    for i in range(n):
        total = total + x[i] * x[i]
    g = library.tensor(np.ones(64, np.float32))
    measure(lambda: library.grad(total, [x], g, retain_graph=True))
