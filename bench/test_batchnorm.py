"""These benchmarks time BatchNorm in training mode, by shape and by direction.

The variants are fused, composed, compiled (both directions under mg.compile) and PyTorch's.
BatchNorm with a ReLU after it is one operation, two operations, or PyTorch's two. `gb_per_s` counts
what any implementation must move: forward reads x and writes y, backward reads x and the cotangent
and writes dx. The variant `copies` moves as many bytes with np.copyto. Time beyond that of `copies`
is arithmetic, or passes over memory that could be saved; kernels with several threads may take
less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from bench import libraries, machine
from bench.conftest import Measure
from bench.workloads import SHAPES

ARRAYS_MOVED = {"forward": 2, "backward": 3, "both": 5}
# Each row is a variant: its name, its library, and its options of the call.
Variants = dict[str, tuple[str, dict[str, Any]]]
VARIANTS: Variants = {
    "fused": ("minigrad", {"fused": True}),
    "composed": ("minigrad", {"fused": False}),
    "compiled": ("minigrad", {}),
    "torch": ("torch", {}),
    "copies": ("numpy", {}),
}
RELU_VARIANTS: Variants = {
    "one op": ("minigrad", {"activation": "relu"}),
    "two ops": ("minigrad", {}),
    "torch": ("torch", {}),
}


def make_calls(
    library: str, options: dict[str, Any], shape: tuple[int, ...], relu: bool = False
) -> dict[str, Callable[[], Any]]:
    """Return the calls to time, by direction; relu: whether to call ReLU separately.

    All inputs need a gradient.
    """
    lib = libraries.load(library)
    rng = np.random.default_rng(0)
    array, cotangent = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
    zeros, ones = np.zeros(shape[1], np.float32), np.ones(shape[1], np.float32)
    inputs = [lib.tensor(a, requires_grad=True) for a in (array, ones, zeros)]
    x, weight, bias = inputs
    running = lib.tensor(zeros), lib.tensor(ones)
    g = lib.tensor(cotangent)

    def forward() -> Any:
        y = lib.functional.batch_norm(x, *running, weight, bias, training=True, **options)
        return lib.functional.relu(y) if relu else y

    y = forward()
    return {
        "forward": forward,
        "backward": lambda: lib.grad(y, inputs, g, retain_graph=True),
        "both": lambda: lib.grad(forward(), inputs, g),
    }


def make_copies(shape: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    """Return calls that move the same number of bytes by copies, by direction.

    The copies are between four arrays, like x, y, the cotangent and dx, since two arrays might stay
    in the cache when four do not.
    """
    # Arrays of zeros would have no memory before the first write.
    x, y, g, dx = (np.ones(int(np.prod(shape)), np.float32) for _ in range(4))
    half = x.size // 2

    def forward() -> None:
        np.copyto(y, x)

    def backward() -> None:  # moves three arrays, the third as two halves
        np.copyto(dx, g)
        np.copyto(dx[:half], x[half : 2 * half])

    def both() -> None:
        forward()
        backward()

    return {"forward": forward, "backward": backward, "both": both}


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
    library, options = VARIANTS[variant]
    if not machine.installed(library):
        pytest.skip(f"{library} is not installed")
    benchmark.group = f"batchnorm {direction} {'x'.join(map(str, shape))}"
    if variant == "compiled" and direction != "both":
        pytest.skip("compiled, both directions are one function")
    calls = make_copies(shape) if library == "numpy" else make_calls(library, options, shape)
    call = calls[direction]
    measure(mg.compile(call) if variant == "compiled" else call, bytes_moved(direction, shape))


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
