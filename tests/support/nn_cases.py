"""A module with a bit of everything, shared by the tests of modules."""

import minigrad as mg
from minigrad import nn


class Block(nn.Module):
    """A Block has parameters, buffers, children and plain values, made in a mixed order."""

    def __init__(self):
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.scale = nn.Parameter([1.0, 2.0, 3.0])
        self.register_buffer("offset", mg.tensor([0.5, 0.5, 0.5]))
        self.register_buffer("absent", None)
        self.constant = mg.tensor([1.0])
        self.shift = nn.Parameter([[0.0]])
        self.note = "plain"

    def forward(self, x):
        return self.inner(x * self.scale + self.offset + self.shift)


BLOCK_PARAMETERS = ["scale", "shift"]
BLOCK_PARAMETERS += ["inner.0.weight", "inner.0.bias", "inner.1.weight", "inner.1.bias"]
BLOCK_STATE = ["scale", "shift", "offset", "inner.0.weight", "inner.0.bias", "inner.1.weight"]
BLOCK_STATE += ["inner.1.bias", "inner.1.running_mean", "inner.1.running_var"]
BLOCK_STATE += ["inner.1.num_batches_tracked"]
