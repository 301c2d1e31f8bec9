"""Cross-entropy of softmax by rows, and its derivative; sums are in float64."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit.decorators import kernel, part


def _shifted(x: float, top: float) -> float:
    """x - top, which is 0 also where both are infinite."""
    return 0.0 if x == top else x - top


def _settled(total: float, top: float) -> float:
    """Return the sum of exp(x - top), or NaN where several x are inf, or all are -inf."""
    return math.nan if math.isinf(top) and total > 1.0 else total


shifted = part(_shifted, exact=True, bare=False)
settled = part(_settled, exact=True, bare=False)


def _cross_entropy(a: NDArray[Any], q: NDArray[Any], out: NDArray[Any]) -> None:
    """out[i] = sum over j of q[i, j] * (log(sum of exp(a[i])) - a[i, j]), (n, c) to (n,).

    A weight q of 0 takes its term away even where a is -inf.
    """
    n, c = a.shape
    for i in range(n):
        top = -np.inf
        for j in range(c):
            top = max(top, np.float64(a[i, j]))
        total = 0.0
        for j in range(c):
            total += math.exp(shifted(np.float64(a[i, j]), top))
        total = settled(total, top)
        log_total = math.log(total)
        loss = 0.0
        for j in range(c):
            if q[i, j] != 0.0:
                loss += np.float64(q[i, j]) * (log_total - shifted(np.float64(a[i, j]), top))
        out[i] = loss


def _cross_entropy_grad(
    g: NDArray[Any], a: NDArray[Any], q: NDArray[Any], divisor: float, out: NDArray[Any]
) -> None:
    """out[i, j] = g[i] / divisor * (softmax(a[i])[j] * (sum of q[i]) - q[i, j]).

    g: (n,), or (1,) for one cotangent that all rows share. A row of q that is 0 gives 0, whatever
    that of a holds.
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
        total = 0.0
        for j in range(c):
            e = math.exp(shifted(np.float64(a[i, j]), top))
            out[i, j] = e
            total += e
        total = settled(total, top)
        scale = np.float64(g[i if g.size > 1 else 0]) / divisor
        for j in range(c):
            out[i, j] = scale * (out[i, j] * (weight / total) - q[i, j]) if counts else 0.0


def _label_cross_entropy(
    a: NDArray[Any],
    labels: NDArray[Any],
    ignore_index: int,
    mean: bool,
    loss: NDArray[Any],
    p: NDArray[Any],
) -> int:
    """loss[0] = sum, or mean, of -log p[i, labels[i]] over the rows not ignored, p = softmax(a).

    The mean over nothing is NaN. Returns the first row whose label is out of range, or -1.
    """
    n, c = a.shape
    count = 0
    losses = 0.0
    for i in range(n):
        top = -np.inf
        for j in range(c):
            top = max(top, np.float64(a[i, j]))
        total = 0.0
        for j in range(c):
            e = math.exp(shifted(np.float64(a[i, j]), top))
            p[i, j] = e
            total += e
        total = settled(total, top)
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
    loss.reshape(1)[0] = losses
    return -1


def _label_cross_entropy_grad(
    g: float,
    labels: NDArray[Any],
    p: NDArray[Any],
    ignore_index: int,
    mean: bool,
    out: NDArray[Any],
) -> None:
    """out[i] = g * (p[i] - one-hot of labels[i]), over their number with mean; 0 where ignored.

    p - 1 at the label is computed as minus the sum of the others, which loses nothing at p near 1.
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
cross_entropy = kernel(_cross_entropy, exact=True)
cross_entropy_grad = kernel(_cross_entropy_grad, exact=True)
label_cross_entropy = kernel(_label_cross_entropy, exact=True)
label_cross_entropy_grad = kernel(_label_cross_entropy_grad)
