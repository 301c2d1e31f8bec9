"""Updates in place are what a training step does besides applying primitives.

engine/tensor.py runs an update or, while mg.compile traces, reports it to the tracer.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import as_carray
from ..kernels import inplace as kernels
from .primitive import Operand


@dataclass(eq=False)
class Update:
    """An Update is a function of arrays and numbers that changes the arrays at positions `changes`.

    kernel: a compiled kernel for arrays in C order, which generated code calls, or a function of
        NumPy arrays, which runs between generated functions.
    numbers: the positions of the inputs that are numbers; all others are arrays.
    threads: whether the kernel's last argument is the pool of threads that share its work.
    flat: whether the kernel takes all arrays in one dimension.
    """

    name: str
    kernel: Callable[..., object]
    changes: tuple[int, ...]
    doc: str
    numbers: tuple[int, ...] = ()
    threads: bool = False
    flat: bool = False

    @functools.cached_property
    def in_any_order(self) -> "Update":
        """Return the same update for arrays in any memory order: it changes C-ordered copies of
        them and copies the results back."""
        kernel = self._change_copies
        return Update(self.name, kernel, self.changes, self.doc, self.numbers, self.threads)

    @staticmethod
    def flattened(inputs: Sequence[Operand]) -> list[Operand]:
        """Return the inputs of a kernel, with views of one dimension for arrays in C order."""
        return [x.reshape(-1) if isinstance(x, np.ndarray) else x for x in inputs]

    def _change_copies(self, *inputs: Operand) -> None:
        copies = [as_carray(x) if isinstance(x, np.ndarray) else x for x in inputs]
        self.kernel(*(self.flattened(copies) if self.flat else copies))
        for i in self.changes:
            if copies[i] is not inputs[i]:
                inputs[i][...] = copies[i]


def _copy(target: Operand, source: Operand) -> None:
    np.copyto(target, source, casting="same_kind")


RUNNING = Update(
    "running",
    kernels.running,
    (0, 1),
    "running <- (1 - momentum) * running + momentum * batch, with the unbiased variance",
    numbers=(4, 5),
)
TRACKED = Update(
    "tracked",
    kernels.tracked,
    (0, 1, 2),
    f"{RUNNING.doc}; counter <- counter + 1",
    numbers=(5, 6),
)
COPY = Update("copy", _copy, (0,), "target <- source, broadcast")
