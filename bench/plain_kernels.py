"""These are the kernels of a training step in their plainest form, as a yardstick for minigrad's.

Each is a loop over rows and columns that Numba compiles at its first call, or loads from the disk.
They check nothing, use one thread, and write their results into arrays that the caller gives.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

kernel: Any = numba.njit(cache=True, error_model="numpy")


@kernel
def add_bias(y: Any, bias: Any) -> None:
    """Add the bias to each row of y (rows, columns)."""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] += bias[j]


@kernel
def batch_norm(
    x: Any, weight: Any, bias: Any, eps: float, y: Any, mean: Any, var: Any, scale: Any
) -> None:
    """Normalize the columns of x; write y, their means and variances, and 1 / sqrt(var + eps)."""
    rows, columns = x.shape
    sums = np.zeros(columns)
    for i in range(rows):
        for j in range(columns):
            sums[j] += x[i, j]
    squares = np.zeros(columns)
    for j in range(columns):
        mean[j] = sums[j] / rows
    for i in range(rows):
        for j in range(columns):
            squares[j] += (x[i, j] - mean[j]) ** 2
    for j in range(columns):
        var[j] = squares[j] / rows
        scale[j] = 1.0 / math.sqrt(var[j] + eps)
    for i in range(rows):
        for j in range(columns):
            y[i, j] = (x[i, j] - mean[j]) * scale[j] * weight[j] + bias[j]


@kernel
def batch_norm_backward(
    dy: Any, x: Any, weight: Any, mean: Any, scale: Any, dx: Any, dweight: Any, dbias: Any
) -> None:
    """Write the gradients of batch_norm, from that of its result."""
    rows, columns = x.shape
    sums, products = np.zeros(columns), np.zeros(columns)
    for i in range(rows):
        for j in range(columns):
            sums[j] += dy[i, j]
            products[j] += dy[i, j] * (x[i, j] - mean[j]) * scale[j]
    for j in range(columns):
        dbias[j], dweight[j] = sums[j], products[j]
    for i in range(rows):
        for j in range(columns):
            normalized = (x[i, j] - mean[j]) * scale[j]
            centred = dy[i, j] - (sums[j] + normalized * products[j]) / rows
            dx[i, j] = weight[j] * scale[j] * centred


@kernel
def cross_entropy(logits: Any, labels: Any, probabilities: Any) -> float:
    """Write the softmax of each row, and return the mean of -log(probability of the label)."""
    rows, columns = logits.shape
    loss = 0.0
    for i in range(rows):
        largest = logits[i, 0]
        for j in range(1, columns):
            largest = max(largest, logits[i, j])
        total = 0.0
        for j in range(columns):
            probabilities[i, j] = math.exp(logits[i, j] - largest)
            total += probabilities[i, j]
        for j in range(columns):
            probabilities[i, j] /= total
        loss += math.log(total) - (logits[i, labels[i]] - largest)
    return loss / rows


@kernel
def cross_entropy_backward(probabilities: Any, labels: Any, dx: Any) -> None:
    """Write the gradient of cross_entropy with respect to the logits."""
    rows, columns = probabilities.shape
    for i in range(rows):
        for j in range(columns):
            dx[i, j] = probabilities[i, j] / rows
        dx[i, labels[i]] -= 1.0 / rows


@kernel
def sgd(parameter: Any, gradient: Any, velocity: Any, lr: float, momentum: float) -> None:
    """Update a parameter and its velocity; all are one-dimensional."""
    for i in range(parameter.shape[0]):
        velocity[i] = momentum * velocity[i] + gradient[i]
        parameter[i] -= lr * velocity[i]
