"""The generator behind initialisation and dropout; imports numpy and checks only."""

import numpy as np

from .checks import integer

_generator = np.random.default_rng()


def manual_seed(seed: int) -> None:
    """Make every later random draw of minigrad (initial weights, dropout) follow from `seed`.

    Errors: ArgumentError for anything but a non-negative integer.

    >>> mg.manual_seed(0)
    >>> first = nn.Linear(2, 1).weight
    >>> mg.manual_seed(0)
    >>> nn.Linear(2, 1).weight.tolist() == first.tolist()
    True
    """
    global _generator
    _generator = np.random.default_rng(integer("manual_seed", "seed", seed, 0))


def generator() -> np.random.Generator:
    """The generator in force, shared by all threads (NumPy's generators lock themselves)."""
    return _generator
