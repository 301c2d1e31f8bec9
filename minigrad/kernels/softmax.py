"""These kernels compute the cross-entropy of softmax by rows, and its derivative, in float64."""

import math

import numpy as np

from ..types import Array
from .jit.decorators import device_function, kernel

# e**x is 0 below TINIEST. The sum of ROUND and a small number is an integer of 52 bits. The product
# of LOG_2_HIGH and an integer of ten bits is exact. ONE: the bits of 1.0.
TINIEST, ROUND, ONE = -745.2, 6755399441055744.0, 1023 << 52
# The coefficients of the Taylor series of e**r, of the highest power first.
TAYLOR = tuple([1.0 / math.factorial(k) for k in range(13, -1, -1)])
LOG_2, LOG_2_HIGH, LOG_2_LOW = math.log(2.0), 0.6931471803691238, 1.9082149292705877e-10


def _shifted(x: float, top: float) -> float:
    """Return x - top, or 0 if both are the same infinity."""
    return 0.0 if x == top else x - top


def _nan_if_undefined(total: float, top: float) -> float:
    """Return `total`, the sum of exp(x - top), or NaN if several x are inf or all are -inf."""
    return math.nan if math.isinf(top) and total > 1.0 else total


def _exp(x: float) -> float:
    """Return e**x for x <= 0, exact to about a unit in the last place; LLVM vectorises it.

    With x = n * log(2) + r, where n is an integer, e**x = 2**n * e**r. Two powers of 2 are
    multiplied, since n may be below the exponent of any normal number.
    """
    x = TINIEST if x < TINIEST else x
    sum_ = x * (1.0 / LOG_2) + ROUND  # its last bits hold n
    n = sum_ - ROUND
    r = (x - n * LOG_2_HIGH) - n * LOG_2_LOW
    y = 0.0
    for coefficient in TAYLOR:
        y = y * r + coefficient
    bits = np.float64(sum_).view(np.int64)
    half = (bits << 12) >> 13  # n // 2: the bits of n that ROUND shows, with their sign
    rest = bits - half
    power = np.int64((half << 52) + ONE).view(np.float64)
    return y * power * np.int64((rest << 52) + ONE).view(np.float64)


exp = device_function(_exp, exact=True)


def _exponentials(a: Array, i: int, top: float, out: Array) -> float:
    """Set out[i, j] to exp(a[i, j] - top), and return the sum over j."""
    total = 0.0
    for j in range(a.shape[1]):
        e = exp(shifted(np.float64(a[i, j]), top))
        out[i, j] = e
        total += e
    return total


def _sum_exponentials(a: Array, i: int, top: float) -> float:
    """Return the sum over j of exp(a[i, j] - top)."""
    total = 0.0
    for j in range(a.shape[1]):
        total += exp(shifted(np.float64(a[i, j]), top))
    return total


shifted = device_function(_shifted, exact=True)
exponentials = device_function(_exponentials)
sum_exponentials = device_function(_sum_exponentials)
nan_if_undefined = device_function(_nan_if_undefined, exact=True)


def _cross_entropy_forward(a: Array, q: Array, out: Array) -> None:
    """Set out[i] to the sum over j of q[i, j] * (log(sum of exp(a[i])) - a[i, j]).

    a, q: (n, c); out: (n,). A term whose q is 0 counts as 0, even if a is -inf.
    """
    n, c = a.shape
    for i in range(n):
        top = -np.inf
        for j in range(c):
            top = max(top, np.float64(a[i, j]))
        total = nan_if_undefined(sum_exponentials(a, i, top), top)
        log_total = math.log(total)
        loss = 0.0
        for j in range(c):
            if q[i, j] != 0.0:
                loss += np.float64(q[i, j]) * (log_total - shifted(np.float64(a[i, j]), top))
        out[i] = loss


def _cross_entropy_backward(g: Array, a: Array, q: Array, divisor: float, out: Array) -> None:
    """Set out[i, j] to g[i] / divisor * (softmax(a[i])[j] * (sum of q[i]) - q[i, j]).

    g: (n,), or (1,) for one cotangent of all rows. A row whose q is 0 gets 0, for any a.
    """
    n, c = a.shape
    for i in range(n):
        top = -np.inf
        weight = 0.0
        counts = False
        for j in range(c):
            top = max(top, np.float64(a[i, j]))
            weight += np.float64(q[i, j])
            counts = counts or q[i, j] != 0.0
        total = nan_if_undefined(exponentials(a, i, top, out), top)
        scale = np.float64(g[i if g.size > 1 else 0]) / divisor
        for j in range(c):
            out[i, j] = scale * (out[i, j] * (weight / total) - q[i, j]) if counts else 0.0


def _label_cross_entropy_forward(
    a: Array,
    labels: Array,
    ignore_index: int,
    mean: bool,
    loss: Array,
    p: Array,
) -> int:
    """Compute p = softmax(a) and loss, the sum or mean of -log p[i, labels[i]].

    Rows whose label is ignore_index are left out; the mean over no rows is NaN. Return the first
    row whose label is out of range, or -1.
    """
    n, c = a.shape
    count = 0
    losses = 0.0
    for i in range(n):
        top = -np.inf
        for j in range(c):
            top = max(top, np.float64(a[i, j]))
        total = nan_if_undefined(exponentials(a, i, top, p), top)
        for j in range(c):
            p[i, j] /= total
        label = labels[i]
        if label != ignore_index:
            if label < 0 or label >= c:
                return i
            count += 1
            losses += math.log(total) - shifted(np.float64(a[i, label]), top)
    if mean:
        losses = losses / count if count else np.nan
    loss[()] = losses
    return -1


def _label_cross_entropy_backward(
    g: float,
    labels: Array,
    p: Array,
    ignore_index: int,
    mean: bool,
    out: Array,
) -> None:
    """Set out[i] to g * (p[i] - one-hot of labels[i]), or to 0 for an ignored row.

    With `mean`, divide by the number of rows that are not ignored. At the label, p - 1 is computed
    as minus the sum of the other p, which is accurate for p near 1.
    """
    n, c = p.shape
    count = 0
    for i in range(n):
        count += labels[i] != ignore_index
    scale = p.dtype.type(g / count if mean and count else g)
    for i in range(n):
        label = labels[i]
        if label == ignore_index:
            for j in range(c):
                out[i, j] = 0
        else:
            others = 0.0
            for j in range(c):
                others += 0.0 if j == label else p[i, j]
                out[i, j] = scale * p[i, j]
            out[i, label] = -scale * others


# Exact, since log(total) - (a - top) must not become (log(total) + top) - a.
cross_entropy_forward = kernel(_cross_entropy_forward, exact=True)
cross_entropy_backward = kernel(_cross_entropy_backward, exact=True)
label_cross_entropy_forward = kernel(_label_cross_entropy_forward, exact=True)
label_cross_entropy_backward = kernel(_label_cross_entropy_backward)
