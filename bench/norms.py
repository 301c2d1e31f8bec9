"""These functions time BatchNorm in training, forward and backward, with PyTorch in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minigrad as mg
from bench import libraries, machine
from bench.steps import compare_in_turn

# Each row is a variant: its name, its library, and its options of the call.
Variants = dict[str, tuple[str, dict[str, Any]]]
VARIANTS: Variants = {
    "fused": ("minigrad", {"fused": True}),
    "composed": ("minigrad", {"fused": False}),
    "compiled": ("minigrad", {}),
    "torch": ("torch", {}),
    "passes": ("numpy", {}),
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


def make_passes(shape: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    """Return calls of NumPy that read and write what any form must, by direction.

    Forward reads x and writes y; backward reads x and the cotangent and writes dx.
    """
    # Arrays of zeros would have no memory before the first write.
    x, y, g, dx = (np.ones(shape, np.float32) for _ in range(4))

    def forward() -> None:
        np.copyto(y, x)

    def backward() -> None:
        np.add(x, g, out=dx)

    def both() -> None:
        forward()
        backward()

    return {"forward": forward, "backward": backward, "both": both}


def make_call(variant: str, shape: tuple[int, ...], direction: str = "both") -> Callable[[], Any]:
    """Return the call to time for a variant."""
    library, options = VARIANTS[variant]
    calls = make_passes(shape) if library == "numpy" else make_calls(library, options, shape)
    call = calls[direction]
    return mg.compile(call) if variant == "compiled" else call


def compare_norms(shapes: Sequence[str], rounds: int) -> dict[str, Any]:
    """Return, by shape, the quartiles of each variant in microseconds, and its ratio to the fused.

    shapes: such as 32x64. Variants whose library is not installed are left out.
    """
    known = [name for name, (library, _) in VARIANTS.items() if machine.installed(library)]
    result = {}
    for text in shapes:
        shape = tuple(map(int, text.split("x")))
        result[text] = compare_in_turn(
            text, {name: make_call(name, shape) for name in known}, rounds
        )
    return {"norms": result, "threads": machine.threads()}
