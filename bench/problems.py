"""A Problem is the same task for all libraries: a net, a batch of data, and initial weights."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

LR, MOMENTUM = 0.01, 0.9
BN_EPS, BN_MOMENTUM = 1e-5, 0.1


@dataclass(frozen=True)
class Net:
    """A Net has blocks of Linear, BatchNorm1d (with `norm`) and ReLU, and a last Linear."""

    inputs: int
    hidden: tuple[int, ...]
    classes: int
    batch: int
    norm: bool = True

    @property
    def block(self) -> int:
        """Return the number of modules in a block."""
        return 3 if self.norm else 2


NETS = {
    "tiny": Net(64, (64,), 10, 32),
    "digits": Net(64, (128, 64), 10, 64),
    "mnist": Net(784, (256, 128), 10, 64),
    "wide": Net(784, (1024, 1024), 10, 256),
    "bare": Net(64, (128, 64), 10, 64, norm=False),  # digits, for libraries without BatchNorm
}

# Shapes of inputs to BatchNorm.
SHAPES = [
    *[(32, 64), (64, 256), (128, 1024), (4096, 256), (1024, 4096), (65536, 64)],
    *[(32, 64, 28, 28), (16, 256, 14, 14), (8, 64, 56, 56)],
]


@dataclass(frozen=True)
class Problem:
    """A Problem has a net, one batch of data, and weights by PyTorch's names in a Sequential."""

    net: Net
    x: np.ndarray
    labels: np.ndarray
    weights: dict[str, np.ndarray]


def make_problem(net: Net, seed: int = 0) -> Problem:
    """Return random data, and Linear weights as PyTorch draws them: U(-1, 1) / sqrt(fan_in)."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    sizes = (net.inputs, *net.hidden, net.classes)
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        bound = fan_in**-0.5
        linear, norm = net.block * i, net.block * i + 1
        weights[f"{linear}.weight"] = rng.uniform(-bound, bound, (fan_out, fan_in))
        weights[f"{linear}.bias"] = rng.uniform(-bound, bound, fan_out)
        if net.norm and i < len(net.hidden):
            weights[f"{norm}.weight"] = np.ones(fan_out)
            weights[f"{norm}.bias"] = np.zeros(fan_out)
            weights[f"{norm}.running_mean"] = np.zeros(fan_out)
            weights[f"{norm}.running_var"] = np.ones(fan_out)
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    if net.norm:
        for i in range(len(net.hidden)):
            weights[f"{net.block * i + 1}.num_batches_tracked"] = np.array(0, dtype=np.int64)
    x = rng.standard_normal((net.batch, net.inputs)).astype(np.float32)
    return Problem(net, x, rng.integers(0, net.classes, net.batch), weights)
