"""Updates in place: what a training step does besides applying primitives.

engine/tensor.py runs them or, while a compiler traces, lets it note them.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels import inplace as kernels
from ..kernels.jit.decorators import plain


@dataclass(eq=False)
class Update:
    """A function of arrays and numbers that changes those of its arrays at positions `changes`.

    kernel: a compiled kernel for arrays in C order, which generated code calls, or a function of
        NumPy arrays, which runs between generated functions.
    numbers: the positions of the inputs that are numbers; all others are arrays.
    threads: whether the kernel takes the threads that share its work as its last argument.
    """

    name: str
    kernel: Callable[..., Any]
    changes: tuple[int, ...]
    doc: str
    numbers: tuple[int, ...] = ()
    threads: bool = False

    @functools.cached_property
    def in_any_order(self) -> "Update":
        """The same update for arrays that may lie in memory in any order: it changes copies."""
        kernel = self._change_copies
        return Update(self.name, kernel, self.changes, self.doc, self.numbers, self.threads)

    def _change_copies(self, *inputs: Any) -> None:
        copies = [plain(x) if isinstance(x, np.ndarray) else x for x in inputs]
        self.kernel(*copies)
        for i in self.changes:
            if copies[i] is not inputs[i]:
                inputs[i][...] = copies[i]


def _copy(target: Any, source: Any) -> None:
    np.copyto(target, source, casting="same_kind")


RUNNING = Update(
    "running",
    kernels.running,
    (0, 1),
    "running <- (1 - momentum) * running + momentum * batch, the variance unbiased",
    numbers=(4, 5),
)
INCREMENT = Update("increment", kernels.increment, (0,), "counter <- counter + 1")
COPY = Update("copy", _copy, (0,), "target <- source, broadcast")
