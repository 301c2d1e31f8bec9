"""Updates in place: what a training step does besides applying primitives, as a compiler meets it.

Who makes one runs its kernel, and tells a trace, if there is one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..kernels import inplace as kernels
from ..kernels.threading.pool import pool_for


class Update(NamedTuple):
    """A function of arrays and numbers that changes those of the arrays at positions `changes`."""

    name: str
    kernel: Callable[..., Any]
    changes: tuple[int, ...]
    doc: str


def _copy(target: Any, source: Any) -> None:
    np.copyto(target, source, casting="same_kind")


def _sgd(p: Any, g: Any, hyper: Any) -> None:
    kernels.sgd(p, g, hyper, pool_for(p.size))


def _sgd_momentum(p: Any, g: Any, buffer: Any, hyper: Any, nesterov: bool, first: bool) -> None:
    kernels.sgd_momentum(p, g, buffer, hyper, nesterov, first, pool_for(p.size))


SGD = Update("sgd", _sgd, (0,), "p <- p - lr * (sign * g + weight_decay * p)")
SGD_MOMENTUM = Update(
    "sgd_momentum",
    _sgd_momentum,
    (0, 2),
    "buffer <- momentum * buffer + (1 - dampening) * d, p <- p - lr * buffer",
)
RUNNING = Update(
    "running",
    kernels.running,
    (0, 1),
    "running <- (1 - momentum) * running + momentum * batch, the variance unbiased",
)
INCREMENT = Update("increment", kernels.increment, (0,), "counter <- counter + 1")
COPY = Update("copy", _copy, (0,), "target <- source, broadcast")
