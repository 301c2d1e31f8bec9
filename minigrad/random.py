"""The generator behind initialisation and dropout; imports numpy only."""

from typing import Any

import numpy as np

_generator = np.random.default_rng()


def start(seed: int) -> None:
    """A new generator is in force."""
    global _generator
    _generator = np.random.default_rng(seed)


def generator() -> np.random.Generator:
    """The generator in force, shared by all threads (NumPy's generators lock themselves)."""
    return _generator


def place() -> tuple[np.random.Generator, Any]:
    """Where the generator is, for `go_back`."""
    return _generator, _generator.bit_generator.state


def go_back(there: tuple[np.random.Generator, Any]) -> None:
    """What was drawn since will be drawn again."""
    drawn, state = there
    drawn.bit_generator.state = state
