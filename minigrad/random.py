"""The generator behind initialisation and dropout; imports numpy and errors only."""

import numpy as np

from .errors import ArgumentError

_generator = np.random.default_rng()


def manual_seed(seed: int) -> None:
    """Make every later random draw of minigrad (initial weights, dropout) follow from `seed`.

    Errors: ArgumentError for anything but a non-negative integer.
    """
    global _generator
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ArgumentError(f"manual_seed: seed must be an integer of at least 0, got {seed!r}")
    _generator = np.random.default_rng(int(seed))


def generator() -> np.random.Generator:
    """The generator in force, shared by all threads (NumPy's generators lock themselves)."""
    return _generator
