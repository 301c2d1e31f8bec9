"""A rule updates one parameter; a group's settings are a rule and the numbers for it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..arrays import FLOAT32, FLOAT64
from ..engine.tensor import Tensor
from ..ops.inplace import Update
from ..types import Array, DType

__all__ = ["Rule"]


class Rule(Update):
    """A Rule updates one parameter by kernel(p, g, *buffers, *counters, numbers).

    name, doc: the name in listings of compiled steps, and the formula.
    kernel, threads: see Update. The kernel gets arrays in C order, the parameter and its gradient
        first; the numbers are an array of the parameter's dtype.
    hyper: the names of the numbers, in the order in which the kernel takes them.
    buffers: the names of state arrays with the parameter's shape and dtype.
    counters: the names of state arrays of int64 and shape (). Buffers and counters are zero before
        the first step, and the kernel changes them.
    """

    def __init__(
        self,
        name: str,
        kernel: Callable[..., object],
        doc: str,
        hyper: Sequence[str],
        buffers: Sequence[str] = (),
        counters: Sequence[str] = (),
        threads: bool = False,
    ) -> None:
        self.hyper = tuple(hyper)
        self.buffers, self.counters = tuple(buffers), tuple(counters)
        self.state = (*self.buffers, *self.counters)
        changes = (0, *range(2, 2 + len(self.state)))
        super().__init__(name, kernel, changes, doc, threads=threads)

    def new(self, name: str, p: Tensor) -> Array:
        """Return a new state array of this name, for the first step of p."""
        return np.zeros(p.shape, p.dtype) if name in self.buffers else np.zeros((), np.int64)

    def renewed(self, name: str, array: Array | None, p: Tensor) -> Array:
        """Return the state array of this name, or a new one if `array` is None.

        A buffer is converted to the dtype of p, which Module.to may have changed.
        """
        if array is None:
            return self.new(name, p)
        return array.astype(p.dtype, copy=False) if name in self.buffers else array


class Settings(NamedTuple):
    """Settings are the rule that a group's hyper-parameters select, and its numbers.

    first: the numbers for the first step of a parameter, by dtype; later: the numbers for all other
        steps, by dtype.
    """

    rule: Rule
    first: dict[DType, Array]
    later: dict[DType, Array]

    @property
    def differs(self) -> bool:
        """Return whether the first step of a parameter has different numbers."""
        return self.first is not self.later

    @property
    def structure(self) -> tuple[Rule, bool]:
        """Return what a compiled step depends on; a change means that it must be traced again."""
        return self.rule, self.differs


def arrays_of(numbers: Sequence[float]) -> dict[DType, Array]:
    """Return the numbers in an array of each dtype that a parameter may have."""
    return {dtype: np.array(numbers, dtype) for dtype in (FLOAT32, FLOAT64)}
