"""The random generator, and the primitives that draw from it anew in each call."""

from typing import Any

import numpy as np

from .primitive import Primitive, primitive

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


def _uniform_forward(shape: tuple[int, ...]) -> Any:
    return generator().random(shape, dtype=np.float32)


def _keep_mask_forward(a: Any, p: float) -> Any:
    drawn = _uniform_forward(a.shape)
    dtype = a.dtype if a.dtype.kind == "f" else np.float32
    return (drawn >= p).astype(dtype) * (1.0 / (1.0 - p) if p < 1.0 else 0.0)


# Not in the table: only what is compiled has a place for it, before generated code runs.
uniform = Primitive("uniform", _uniform_forward, None, "numbers from 0 to below 1, in float32")
keep_mask = primitive(
    "keep_mask",
    _keep_mask_forward,
    None,
    "1 / (1 - p) with probability 1 - p, else 0, in the shape of a",
)
