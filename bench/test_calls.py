"""These benchmarks time calls of compiled functions that do almost nothing, and JAX's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench import machine
from bench.conftest import Measure

X = np.ones((2, 3), np.float32)
# Each function is compiled, and called with these arguments; the array is always NumPy's.
CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "empty": (lambda: None, ()),
    "one array": (lambda x: None, (X,)),
    "one array, one result": (lambda x: x + x, (X,)),
}


@pytest.mark.parametrize("name", ["minigrad", "jax"])
@pytest.mark.parametrize("call", CALLS)
def test_call(measure: Measure, benchmark: Any, call: str, name: str) -> None:
    """Time one call; JAX may return before the result is computed."""
    if not machine.installed(name):
        pytest.skip(f"{name} is not installed")
    benchmark.group = f"compiled call, {call}"
    function, arguments = CALLS[call]
    if name == "minigrad":
        import minigrad as mg

        compiled: Callable[..., Any] = mg.compile(function)
    else:
        import jax

        compiled = jax.jit(function)
    measure(lambda: compiled(*arguments))
