"""These kernels update arrays in place, for SGD and BatchNorm's running statistics."""

import numpy as np

from ..types import Array
from .jit.decorators import device_function, kernel
from .memory import array, elements_in, size_in
from .threading.parallel_for import Pool, parallel_for

# SGD's hyper-parameters in this order, in one array of the parameters' dtype: passing an array is
# faster than passing scalars, and float32 is not computed as float64. sign is -1 to maximise, else
# 1; nesterov is 1 or 0.
HYPER = ("lr", "weight_decay", "sign", "momentum", "1 - dampening", "nesterov")

# The number of values in a part.
PART = 1 << 16


def _sgd_values(p: Array, g: Array, hyper: Array) -> None:
    """Update the values of p, of one dimension, as `_sgd` describes."""
    lr, weight_decay, sign = hyper[0], hyper[1], hyper[2]
    for i in range(p.size):
        d = sign * g[i]
        p[i] -= lr * (d + weight_decay * p[i] if weight_decay else d)


def _momentum_values(p: Array, g: Array, buffer: Array, hyper: Array) -> None:
    """Update the values of p and buffer, of one dimension, as `_sgd_momentum` describes."""
    lr, weight_decay, sign, momentum = hyper[0], hyper[1], hyper[2], hyper[3]
    damp, nesterov = hyper[4], hyper[5] != 0
    for i in range(p.size):
        d = sign * g[i]
        if weight_decay:
            d += weight_decay * p[i]
        b = momentum * buffer[i] + damp * d
        buffer[i] = b
        p[i] -= lr * (d + momentum * b if nesterov else b)


sgd_values, momentum_values = device_function(_sgd_values), device_function(_momentum_values)


def _sgd_part(part: int, _thread: int, p: Array, g: Array, hyper: Array) -> None:
    start = part * PART
    sgd_values(p[start : start + PART], g[start : start + PART], hyper)


def _momentum_part(
    part: int,
    _thread: int,
    p: Array,
    g: Array,
    buffer: Array,
    hyper: Array,
) -> None:
    start, end = part * PART, part * PART + PART
    momentum_values(p[start:end], g[start:end], buffer[start:end], hyper)


sgd_part = parallel_for(device_function(_sgd_part))
momentum_part = parallel_for(device_function(_momentum_part))


def _sgd(p: Array, g: Array, hyper: Array, pool: Pool) -> None:
    """Set p to p - lr * (sign * g + weight_decay * p), for arrays of one dimension and size."""
    sgd_part(pool, (p.size + PART - 1) // PART, p.size, (p, g, hyper))


def _sgd_momentum(p: Array, g: Array, buffer: Array, hyper: Array, pool: Pool) -> None:
    """Do an SGD step with momentum, in one pass over arrays of one dimension and size.

    d = sign * g + weight_decay * p
    buffer <- momentum * buffer + (1 - dampening) * d
    p <- p - lr * (d + momentum * buffer if nesterov else buffer)
    """
    momentum_part(pool, (p.size + PART - 1) // PART, p.size, (p, g, buffer, hyper))


def _sgd_all(arrays: int, count: int, hyper: Array) -> None:
    """Do `count` SGD steps; arrays: the id() of a list with p and g for each."""
    for k in range(0, 2 * count, 2):
        shape = (size_in(arrays, k),)
        p = array(elements_in(arrays, k), shape, hyper.dtype)
        g = array(elements_in(arrays, k + 1), shape, hyper.dtype)
        sgd_values(p, g, hyper)


def _sgd_momentum_all(arrays: int, count: int, hyper: Array) -> None:
    """Do `count` steps with momentum; arrays: the id() of a list with p, g and buffer for each."""
    for k in range(0, 3 * count, 3):
        shape = (size_in(arrays, k),)
        p = array(elements_in(arrays, k), shape, hyper.dtype)
        g = array(elements_in(arrays, k + 1), shape, hyper.dtype)
        momentum_values(p, g, array(elements_in(arrays, k + 2), shape, hyper.dtype), hyper)


def _running(
    running_mean: Array,
    running_var: Array,
    mean: Array,
    var: Array,
    factor: float,
    correction: float,
) -> None:
    """Set running to (1 - factor) * running + factor * batch, for mean and var.

    correction: n / (n - 1), which makes the batch's variance unbiased.
    """
    for c in range(running_mean.size):
        running_mean[c] = (1.0 - factor) * np.float64(running_mean[c]) + factor * mean[c]
        running_var[c] = (1.0 - factor) * np.float64(running_var[c]) + factor * (
            var[c] * correction
        )


update_running = device_function(_running)


def _tracked(
    running_mean: Array,
    running_var: Array,
    counter: Array,
    mean: Array,
    var: Array,
    factor: float,
    correction: float,
) -> None:
    """Do what `_running` does, and add 1 to an array of one integer."""
    update_running(running_mean, running_var, mean, var, factor, correction)
    counter[()] += 1


sgd = kernel(_sgd)
sgd_momentum = kernel(_sgd_momentum)
sgd_all, sgd_momentum_all = kernel(_sgd_all), kernel(_sgd_momentum_all)
running = kernel(_running)
tracked = kernel(_tracked)
