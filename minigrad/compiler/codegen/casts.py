"""Generated code casts floats to integers only where its results are those of NumPy."""

import functools

import numpy as np

from ...kernels import codegen_runtime
from ...types import DType

# Floats around the ends of the range of each integer dtype, and far beyond.
_EDGES = [
    *(sign * (2.0**bits + more) for bits in (7, 8, 15, 16, 31, 32) for sign in (1, -1)
      for more in (-1.0, -0.5, 0.0, 0.5, 1.0, 300.7)),
    *(sign * 2.0**bits * factor for bits in (40, 53, 62, 63, 64) for sign in (1, -1)
      for factor in (1.0, 1.0 + 2.0**-20, 1.5)),
    *(0.0, -0.0, 0.5, -0.5, -1.0, 1e30, -1e30, np.inf, -np.inf, np.nan),
]  # fmt: skip


@functools.cache
def casts_as_numpy(source: DType, target: DType) -> bool:
    """Return whether generated code converts floats of dtype `source` to integers of dtype `target`
    exactly as NumPy does on this machine.

    If the integer dtype cannot hold a number, the processor decides the result in NumPy, and
    NumPy's code for several elements at once may give another result than its code for one.
    """
    cast = getattr(codegen_runtime, f"to_{target}")
    cast = getattr(cast, "py_func", cast)
    values = np.array(_EDGES, source)
    with np.errstate(all="ignore"):
        expected = np.array([cast(x) for x in values])
        alone = [np.array_equal(x.astype(target), y) for x, y in zip(values, expected, strict=True)]
        many, wanted = np.repeat(values, 256), np.repeat(expected, 256)
        together = [np.array_equal(many[::n].astype(target), wanted[::n]) for n in (1, 2)]
    return all(alone) and all(together)
