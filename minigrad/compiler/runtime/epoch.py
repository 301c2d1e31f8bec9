"""An epoch runs batches of one size together in compiled code, and other batches as calls."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any, TypeAlias

import numpy as np

from ...data import DataLoader
from ...engine.tensor import Tensor
from ...errors import ArgumentError
from ...types import Array
from ..ir.program import Value
from ..tracing.signature import native, plainly_stored
from .executable import Executable

# Limits to what runs before Python sees an interrupt: a number of batches, and seconds (about).
AT_ONCE, PATIENCE = 256, 0.05

OPTIONS = tuple(
    p.name for p in signature(DataLoader).parameters.values() if p.kind is p.KEYWORD_ONLY
)

# A function that calls the step on a batch, and returns the result (shape (1,)) and the executable.
Call: TypeAlias = Callable[[list[Array]], tuple[Array, Executable]]


def loader_of(data: Sequence[Any], options: Mapping[str, Any]) -> DataLoader:
    """Return the DataLoader in `data`, or a new one for the arrays in `data`.

    Errors: ArgumentError for a DataLoader with options or arrays, and for an unknown option; those
    of the DataLoader.
    """
    loader = next((x for x in data if isinstance(x, DataLoader)), None)
    if loader is not None:
        if len(data) > 1 or options:
            besides = ", ".join(options) or f"{len(data) - 1} more"
            raise ArgumentError(
                f"epoch: a DataLoader takes neither options nor arrays besides, got {besides}; it "
                "has its own"
            )
        return loader
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise ArgumentError(
            f"epoch: no option is named {', '.join(unknown)}; there are {', '.join(OPTIONS)}"
        )
    return DataLoader(*data, **options)


def refuse_unless_number(result: object, title: str) -> None:
    """Raise an ArgumentError unless a step's result, or the Value for it, is one number."""
    if not isinstance(result, (Tensor, Value)) or math.prod(result.shape) != 1:
        raise ArgumentError(
            f"epoch: expected {title} to return one number, the loss, got "
            f"{result.shape if isinstance(result, (Tensor, Value)) else type(result).__name__}"
        )


def run_epoch(call: Call, loader: DataLoader, whole: bool) -> Tensor:
    """Run the loader's next epoch, and return the results as a Tensor of shape (batches,).

    whole: whether several batches may run together in compiled code.
    """
    arrays = [plainly_stored(native(a)) for a in loader.arrays]
    values: list[Array] = []
    rows, seconds = loader.rows(), 0.0
    while batches := list(itertools.islice(rows, at_once(seconds))):
        began = time.perf_counter()
        values += _several(call, arrays, batches, whole)
        seconds = (time.perf_counter() - began) / len(batches)
    return Tensor(np.concatenate(values)) if values else Tensor(np.zeros(0, np.float32))


def at_once(seconds: float) -> int:
    """Return the number of batches to run together; seconds: the time of one batch, or 0."""
    return max(1, min(AT_ONCE, int(PATIENCE / seconds))) if seconds else 1


def _several(call: Call, arrays: list[Array], batches: list[Array], whole: bool) -> Iterator[Array]:
    """Yield the results of some batches, running those of one size together."""
    for _, same in itertools.groupby(batches, key=len):
        first, *others = same
        value, executable = call([a.take(first, axis=0) for a in arrays])
        yield value
        if others and whole and executable.guards_hold() and executable.takes_rows():
            yield executable.run_rows(arrays, np.array(others))
        else:
            yield from (call([a.take(rows, axis=0) for a in arrays])[0] for rows in others)
