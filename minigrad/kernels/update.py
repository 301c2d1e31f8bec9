"""Updates in place: SGD and BatchNorm's running statistics."""

from typing import Any

from numpy.typing import NDArray

from .jit import kernel


def _sgd(p: NDArray[Any], g: NDArray[Any], lr: float, weight_decay: float, sign: float) -> None:
    """p <- p - lr * (sign * g + weight_decay * p), in C order; sign is -1 to maximise."""
    ps, gs = p.reshape(p.size), g.reshape(g.size)
    for i in range(ps.size):
        ps[i] -= lr * (sign * gs[i] + weight_decay * ps[i])


def _sgd_momentum(
    p: NDArray[Any],
    g: NDArray[Any],
    buffer: NDArray[Any],
    lr: float,
    momentum: float,
    damp: float,
    weight_decay: float,
    nesterov: bool,
    sign: float,
) -> None:
    """One SGD step with momentum, in one pass over memory; arrays of one shape, in C order.

    d = sign * g + weight_decay * p             sign is -1 to maximise
    buffer <- momentum * buffer + damp * d      damp = 1 - dampening, and 1 in the first step
    p <- p - lr * (d + momentum * buffer if nesterov else buffer)

    The scalars have the dtype of p, so that float32 is not computed as float64.
    """
    ps, gs, bs = p.reshape(p.size), g.reshape(g.size), buffer.reshape(buffer.size)
    for i in range(ps.size):
        d = sign * gs[i] + weight_decay * ps[i]
        b = momentum * bs[i] + damp * d
        bs[i] = b
        ps[i] -= lr * (d + momentum * b if nesterov else b)


def _running(
    running_mean: NDArray[Any],
    running_var: NDArray[Any],
    mean: NDArray[Any],
    var: NDArray[Any],
    factor: float,
    correction: float,
) -> None:
    """running <- (1 - factor) * running + factor * batch, var times correction n / (n - 1)."""
    for c in range(running_mean.size):
        running_mean[c] = (1.0 - factor) * running_mean[c] + factor * mean[c]
        running_var[c] = (1.0 - factor) * running_var[c] + factor * (var[c] * correction)


sgd = kernel(_sgd)
sgd_momentum = kernel(_sgd_momentum)
running = kernel(_running)
