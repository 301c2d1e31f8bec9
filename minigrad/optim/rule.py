"""A rule updates one parameter; a group's settings are a rule and the numbers for it."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..arrays import FLOAT32, FLOAT64
from ..checks import LARGEST
from ..engine.tensor import Tensor
from ..errors import ArgumentError, DtypeError
from ..kernels.memory import READS_OBJECTS
from ..ops.inplace import Update
from ..types import Array, DType

if TYPE_CHECKING:
    from .optimizer import Optimizer

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
    kernel_for_all: a kernel that updates many small parameters in one call, kernel_for_all(arrays,
        count, numbers): arrays is the id() of a list with the arrays of `count` calls of `kernel`,
        which must take arrays of one dimension. None: each parameter has a call of its own, with
        arrays of its shape.
    Errors: ArgumentError, DtypeError.
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
        kernel_for_all: Callable[..., object] | None = None,
    ) -> None:
        if not callable(kernel):
            raise DtypeError(f"Rule {name!r}: kernel must be a function, got {kernel!r:.60}")
        if kernel_for_all is not None and not callable(kernel_for_all):
            raise DtypeError(
                f"Rule {name!r}: kernel_for_all must be a function or None, got "
                f"{kernel_for_all!r:.60}"
            )
        for role, names in (("hyper", hyper), ("buffers", buffers), ("counters", counters)):
            listed = isinstance(names, (tuple, list))
            if not listed or not all(isinstance(each, str) for each in names):
                raise DtypeError(
                    f"Rule {name!r}: {role} must be a tuple of names, got {names!r:.60}; write "
                    "('lr',) for a single one"
                )
        self.hyper = tuple(hyper)
        self.buffers, self.counters = tuple(buffers), tuple(counters)
        self.state = (*self.buffers, *self.counters)
        if len(set(self.state)) < len(self.state):
            raise ArgumentError(
                f"Rule {name!r}: each buffer and counter must have a name of its own, got "
                f"{self.state}; rename one"
            )
        changes = (0, *range(2, 2 + len(self.state)))
        flat = kernel_for_all is not None
        super().__init__(name, kernel, changes, doc, threads=threads, flat=flat)
        self.for_all: Update | None = None
        if kernel_for_all is not None and READS_OBJECTS:
            self.for_all = Update(name, kernel_for_all, (), doc)

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

    def arrays(self, numbers: Sequence[float], optimizer: str) -> dict[DType, Array]:
        """Return the numbers in an array of each dtype that a parameter may have.

        optimizer: the name of the class whose `numbers` has returned them. Errors: ArgumentError
        unless the kernel, which does not check what it reads, takes them.
        """
        given = numbers.tolist() if isinstance(numbers, np.ndarray) else numbers
        listed = isinstance(given, (tuple, list)) and len(given) == len(self.hyper)
        if not listed or not all(map(_fits_float, given)):
            raise ArgumentError(
                f"{optimizer}.numbers: expected a tuple of {len(self.hyper)} numbers that fit a "
                f"float, which the rule {self.name} takes ({', '.join(self.hyper)}), got "
                f"{class_of(numbers)}"
            )
        return {dtype: np.array(numbers, dtype) for dtype in (FLOAT32, FLOAT64)}


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


@functools.lru_cache(maxsize=64, typed=True)
def settings_of(kind: "type[Optimizer]", names: tuple[str, ...], *values: object) -> Settings:
    """Return the settings of a group with these hyper-parameters, after checks."""
    group = dict(zip(names, values, strict=False))
    kind._check(group)
    rule = kind.rule(group)
    if rule not in kind.rules:
        raise ArgumentError(
            f"{kind.__name__}.rule: expected one of {kind.__name__}.rules, got {rule!r:.60}"
        )
    first = later = rule.arrays(kind.numbers(group, False), kind.__name__)
    if rule.state:
        first = rule.arrays(kind.numbers(group, True), kind.__name__)
    return Settings(rule, later if np.array_equal(first[FLOAT64], later[FLOAT64]) else first, later)


def class_of(value: object) -> str:
    """Return the class of a value, or the classes in a tuple; a trace cannot show Tensors."""
    kinds = ", ".join(map(class_of, value)) if isinstance(value, tuple) else ""
    return f"{type(value).__name__}({kinds})" if kinds else type(value).__name__


def _fits_float(x: object) -> bool:
    if isinstance(x, int):
        return abs(x) <= LARGEST
    return isinstance(x, (float, np.floating, np.integer))
