"""Updates in place: what a training step does besides applying primitives.

`engine.tensor.change` runs them or, while a compiler traces, notes them.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels import inplace as kernels
from ..kernels.jit.decorators import plain
from ..kernels.threading.pool import pool_for


@dataclass(eq=False)
class Update:
    """A function of arrays and numbers that changes those of its arrays at positions `changes`.

    kernel: a compiled kernel, which generated code calls, or a function of NumPy arrays, which
        runs between generated functions.
    numbers: the positions of the inputs that are numbers; all others are arrays.
    threads: whether the kernel takes the threads that share its work as its last argument.
    """

    name: str
    kernel: Callable[..., Any]
    changes: tuple[int, ...]
    doc: str
    numbers: tuple[int, ...] = ()
    threads: bool = False

    def run(self, *inputs: Any) -> None:
        """Change the arrays, which lie in C order."""
        if self.threads:
            self.kernel(*inputs, pool_for(inputs[0].size))
        else:
            self.kernel(*inputs)

    @functools.cached_property
    def in_any_order(self) -> "Update":
        """The same update for arrays that may lie in memory in any order: it changes copies."""
        return Update(self.name, self._change_copies, self.changes, self.doc, self.numbers)

    def _change_copies(self, *inputs: Any) -> None:
        copies = [plain(x) if isinstance(x, np.ndarray) else x for x in inputs]
        self.run(*copies)
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
