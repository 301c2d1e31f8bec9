"""Random primitives; each call draws anew from the generator that manual_seed sets."""

from typing import Any

import numpy as np

from ..random import generator
from .primitive import primitive


def _keep_mask_forward(a: Any, p: float) -> Any:
    drawn = generator().random(a.shape, dtype=np.float32)
    dtype = a.dtype if a.dtype.kind == "f" else np.float32
    return (drawn >= p).astype(dtype) * (1.0 / (1.0 - p) if p < 1.0 else 0.0)


keep_mask = primitive(
    "keep_mask",
    _keep_mask_forward,
    None,
    "1 / (1 - p) with probability 1 - p, else 0, in the shape of a",
)
