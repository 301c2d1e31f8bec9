"""Objects whose changes a compiled step must notice, and a comparison of its calls."""

import numpy as np

import minigrad as mg
from minigrad import nn

X = np.arange(1.0, 4.0)


def agree(compiled, function, x=X, calls=3):
    """Check that compiled calls return what the function does."""
    for _ in range(calls):
        np.testing.assert_array_equal(compiled(x).data, function(mg.tensor(x)).data)


class Rated:
    """A Rated has a rate, and nothing else."""

    def __init__(self):
        self.rate = 2.0


class Scaled(nn.Module):
    scale = 1.5  # of the class

    def __init__(self):
        self.scale = 2.0

    def forward(self, x):
        return x * self.scale
