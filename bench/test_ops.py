"""These benchmarks time single functions, forward and backward, and SGD, in float32.

The forward pass records a tape, as in training, since its inputs need gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from bench.conftest import Measure
from bench.libraries import Library

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Op:
    """An Op is a call on a functional module, on tensors of these shapes, and on labels."""

    call: Callable[..., Any]
    shapes: tuple[Shape, ...]
    classes: int = 0  # if above 0, each row of the first operand has an integer label


BLOCK = (256, 1024)  # activations of the net `wide`
OPS = {
    "add": Op(lambda F, a, b: a + b, (BLOCK, BLOCK)),
    "mul": Op(lambda F, a, b: a * b, (BLOCK, BLOCK)),
    "mul_broadcast": Op(lambda F, a, b: a * b, (BLOCK, BLOCK[1:])),
    "div": Op(lambda F, a, b: a / b, (BLOCK, BLOCK)),
    "exp": Op(lambda F, a: a.exp(), (BLOCK,)),
    "tanh": Op(lambda F, a: a.tanh(), (BLOCK,)),
    "relu": Op(lambda F, a: F.relu(a), (BLOCK,)),
    "relu_small": Op(lambda F, a: F.relu(a), ((32, 64),)),
    "gelu": Op(lambda F, a: F.gelu(a), (BLOCK,)),
    "sum_axis0": Op(lambda F, a: a.sum(0), (BLOCK,)),
    "sum_last": Op(lambda F, a: a.sum(-1), (BLOCK,)),
    "sum_all": Op(lambda F, a: a.sum(), (BLOCK,)),
    "transpose": Op(lambda F, a, b: a.T * b, (BLOCK, BLOCK[::-1])),
    "getitem": Op(lambda F, a: a[::2, 1:], (BLOCK,)),
    "matmul": Op(lambda F, a, b: a @ b, ((256, 512), (512, 256))),
    "matmul_batched": Op(lambda F, a, b: a @ b, ((16, 64, 64), (16, 64, 64))),
    "linear": Op(lambda F, x, w, b: F.linear(x, w, b), ((64, 784), (256, 784), (256,))),
    "linear_small": Op(lambda F, x, w, b: F.linear(x, w, b), ((32, 64), (64, 64), (64,))),
    "softmax": Op(lambda F, a: F.softmax(a, -1), (BLOCK,)),
    "log_softmax": Op(lambda F, a: F.log_softmax(a, -1), (BLOCK,)),
    "cross_entropy": Op(lambda F, a, y: F.cross_entropy(a, y), ((256, 1000),), classes=1000),
    "cross_entropy_small": Op(lambda F, a, y: F.cross_entropy(a, y), ((64, 10),), classes=10),
}


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", OPS)
def test_op(measure: Measure, benchmark: Any, library: Library, name: str, direction: str) -> None:
    """Time one direction; the backward pass is for all operands, with a random cotangent."""
    benchmark.group = f"{name} {direction}"
    op = OPS[name]
    rng = np.random.default_rng(0)
    operands = [
        library.tensor(rng.standard_normal(shape, dtype=np.float32), requires_grad=True)
        for shape in op.shapes
    ]
    labels = []
    if op.classes:
        labels = [library.tensor(rng.integers(0, op.classes, op.shapes[0][0]))]

    def forward() -> Any:
        return op.call(library.functional, *operands, *labels)

    if direction == "forward":
        measure(forward)
        return
    y = forward()
    g = library.tensor(rng.standard_normal(tuple(y.shape), dtype=np.float32))
    measure(lambda: library.grad(y, operands, g, retain_graph=True))


SGD_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "decay": {"momentum": 0.9, "weight_decay": 1e-4},
    "nesterov": {"momentum": 0.9, "nesterov": True},
}
# Weights and biases of two nets: in `tiny` calls cost most, and in `wide` memory does.
SGD_SHAPES: dict[str, list[Shape]] = {
    "tiny": [(64, 64), (64,), (64,), (64,), (10, 64), (10,)],
    "wide": [(1024, 784), (1024, 1024), (10, 1024), *[(1024,)] * 6, (10,)],
}


@pytest.mark.parametrize("options", SGD_OPTIONS)
@pytest.mark.parametrize("net", SGD_SHAPES)
def test_sgd(measure: Measure, benchmark: Any, library: Library, net: str, options: str) -> None:
    """Time one update of all parameters of a net, with the same gradients each time."""
    benchmark.group = f"sgd {options} {net}"
    rng = np.random.default_rng(0)
    parameters = []
    for shape in SGD_SHAPES[net]:
        p = library.tensor(rng.standard_normal(shape, dtype=np.float32), requires_grad=True)
        p.grad = library.tensor(1e-3 * rng.standard_normal(shape, dtype=np.float32))
        parameters.append(p)
    measure(library.sgd(parameters, lr=1e-6, **SGD_OPTIONS[options]).step)
