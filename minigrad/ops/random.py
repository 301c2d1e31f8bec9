"""Random primitives draw from one generator of the process in each call."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from ..types import Shape
from .builder import Builder, Value
from .elementwise import greater_equal, mul
from .primitive import Operand, Primitive, primitive

State: TypeAlias = tuple[np.random.Generator, Mapping[str, Any]]  # a generator and its state

_generator = np.random.default_rng()


def reseed(seed: int) -> None:
    """Replace the generator by a new one with this seed."""
    global _generator
    _generator = np.random.default_rng(seed)


def generator() -> np.random.Generator:
    """Return the generator in use; all threads share it, since NumPy's generators are locked."""
    return _generator


def get_state() -> State:
    """Return the generator and its state, for `set_state`."""
    return _generator, _generator.bit_generator.state


def set_state(saved: State) -> None:
    """Restore a state from `get_state`, so that the numbers drawn since then are drawn again."""
    generator, state = saved
    generator.bit_generator.state = state


def _uniform_forward(shape: Shape) -> Operand:
    return generator().random(shape, dtype=np.float32)


def _keep_mask_forward(a: Operand, p: float) -> Operand:
    drawn = _uniform_forward(a.shape)
    dtype = a.dtype if a.dtype.kind == "f" else np.float32
    return (drawn >= p).astype(dtype) * (1.0 / (1.0 - p) if p < 1.0 else 0.0)


# Not in the table, since only compiled steps use it; they draw before generated code runs.
uniform = Primitive(
    "uniform",
    _uniform_forward,
    None,
    "random numbers of at least 0 and less than 1, in float32",
    random=True,
)


def _write_keep_mask(write: Builder, a: Value, p: float) -> bool:
    """Write a mask as a loop over uniform numbers, which are drawn before compiled code runs."""
    drawn = write(uniform, like=(a.shape, np.float32), shape=a.shape)
    kept = write.cast(write(greater_equal, drawn, p), write.result.dtype)
    write(mul, kept, 1.0 / (1.0 - p) if p < 1.0 else 0.0, to=write.result)
    return True


keep_mask = primitive(
    "keep_mask",
    _keep_mask_forward,
    None,
    "a mask in the shape of a: 1 / (1 - p) with probability 1 - p, otherwise 0",
    decompose=_write_keep_mask,
    random=True,
)
