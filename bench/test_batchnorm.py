"""BatchNorm in training mode, forward and backward, per shape: composed, and PyTorch's.

`gb_per_s` counts what any implementation must move: forward reads x and writes y, backward reads
x and the cotangent and writes dx. Time beyond that is passes over memory that could be saved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench import libraries, machine
from bench.conftest import Measure

SHAPES = [
    *[(32, 64), (64, 256), (128, 1024), (4096, 256), (1024, 4096), (65536, 64)],
    *[(32, 64, 28, 28), (16, 256, 14, 14), (8, 64, 56, 56)],
]
ARRAYS_MOVED = {"forward": 2, "backward": 3, "both": 5}
# A variant is one more row: its name, its library, and what it adds to the call.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "fused": ("minigrad", {"fused": True}),
    "composed": ("minigrad", {"fused": False}),
    "torch": ("torch", {}),
}


def make_calls(variant: str, shape: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    """The calls to time, per direction; all inputs need a gradient."""
    name, options = VARIANTS[variant]
    lib = libraries.load(name)
    rng = np.random.default_rng(0)
    array, cotangent = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
    zeros, ones = np.zeros(shape[1], np.float32), np.ones(shape[1], np.float32)
    inputs = [lib.tensor(a, requires_grad=True) for a in (array, ones, zeros)]
    x, weight, bias = inputs
    running = lib.tensor(zeros), lib.tensor(ones)
    g = lib.tensor(cotangent)

    def forward() -> Any:
        return lib.functional.batch_norm(x, *running, weight, bias, training=True, **options)

    y = forward()
    return {
        "forward": forward,
        "backward": lambda: lib.grad(y, inputs, g, retain_graph=True),
        "both": lambda: lib.grad(forward(), inputs, g),
    }


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("direction", ARRAYS_MOVED)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_batchnorm(
    measure: Measure, benchmark: Any, shape: tuple[int, ...], direction: str, variant: str
) -> None:
    """One direction of one BatchNorm over arrays that are in the cache where they fit there."""
    if not machine.installed(VARIANTS[variant][0]):
        pytest.skip(f"{VARIANTS[variant][0]} is not installed")
    benchmark.group = f"batchnorm {direction} {'x'.join(map(str, shape))}"
    itemsize = np.dtype(np.float32).itemsize
    moved = ARRAYS_MOVED[direction] * itemsize * int(np.prod(shape))
    measure(make_calls(variant, shape)[direction], moved)
