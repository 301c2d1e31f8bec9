"""These benchmarks time BatchNorm in training mode, by shape and by direction.

The variants are fused, composed, compiled (both directions under mg.compile) and PyTorch's.
BatchNorm with a ReLU after it is one operation, two operations, or PyTorch's two. `gb_per_s` counts
what any implementation must move: forward reads x and writes y, backward reads x and the cotangent
and writes dx. The variant `passes` does only that, in NumPy. Time beyond that of `passes` is
arithmetic, or passes over memory that could be saved; kernels with several threads may take
less.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench import machine
from bench.conftest import Measure
from bench.norms import VARIANTS, Variants, make_call, make_calls
from bench.workloads import SHAPES

ARRAYS_MOVED = {"forward": 2, "backward": 3, "both": 5}
RELU_VARIANTS: Variants = {
    "one op": ("minigrad", {"activation": "relu"}),
    "two ops": ("minigrad", {}),
    "torch": ("torch", {}),
}


by_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))


def bytes_moved(direction: str, shape: tuple[int, ...]) -> int:
    """Return the bytes that any implementation must read and write."""
    return ARRAYS_MOVED[direction] * np.dtype(np.float32).itemsize * int(np.prod(shape))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("direction", ARRAYS_MOVED)
@by_shape
def test_batchnorm(
    measure: Measure, benchmark: Any, shape: tuple[int, ...], direction: str, variant: str
) -> None:
    """Time one direction of one BatchNorm; arrays are in the cache if they fit into it."""
    library, _ = VARIANTS[variant]
    if not machine.installed(library):
        pytest.skip(f"{library} is not installed")
    benchmark.group = f"batchnorm {direction} {'x'.join(map(str, shape))}"
    if variant == "compiled" and direction != "both":
        pytest.skip("compiled, both directions are one function")
    measure(make_call(variant, shape, direction), bytes_moved(direction, shape))


@pytest.mark.parametrize("variant", RELU_VARIANTS)
@by_shape
def test_batchnorm_relu(
    measure: Measure, benchmark: Any, shape: tuple[int, ...], variant: str
) -> None:
    """Time forward and backward; one kernel for both saves ReLU's passes over memory."""
    library, options = RELU_VARIANTS[variant]
    if not machine.installed(library):
        pytest.skip(f"{library} is not installed")
    benchmark.group = f"batchnorm-relu both {'x'.join(map(str, shape))}"
    calls = make_calls(library, options, shape, relu="activation" not in options)
    measure(calls["both"], bytes_moved("both", shape))
