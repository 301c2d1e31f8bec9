"""Random primitives; each call draws anew from the generator that manual_seed sets."""

from typing import Any

import numpy as np

from ..random import generator
from .primitive import Primitive, primitive


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
