"""Oracles of the cases of primitives: definitions in NumPy, without stability or speed."""

from typing import Any

import numpy as np
from scipy import special

GAMMA, BETA = np.array([0.7, -1.3, 2.0]), np.array([0.3, 0.2, -0.4])


def np_var(a: Any, axis: Any = None, keepdims: bool = False, correction: float = 0) -> Any:
    """Return np.var with minigrad's argument names; `correction` is NumPy's ddof."""
    return np.var(a, axis=axis, keepdims=keepdims, ddof=correction)


def np_matmul(a: Any, b: Any) -> Any:
    """Return the matrix product as a sum of products, with vectors as rows or columns."""
    x, y = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    out = (x[..., :, :, None] * y[..., None, :, :]).sum(-2)
    out = out[..., 0, :] if a.ndim == 1 else out
    return out[..., 0] if b.ndim == 1 else out


def np_linear(x: Any, w: Any, b: Any) -> Any:
    """Return the product by its definition, plus the bias unless it is None."""
    return (x[..., None, :] * w).sum(-1) + (0.0 if b is None else b)


def np_scatter(a: Any, index: Any, shape: Any) -> Any:
    """Add each element at its place, which is read from an indexed array of positions."""
    positions = np.arange(int(np.prod(shape))).reshape(shape)[index]
    flat = np.bincount(positions.ravel(), a.ravel(), int(np.prod(shape)))
    return flat.astype(a.dtype).reshape(shape)


def np_ties(a: Any, y: Any, axis: Any) -> Any:
    """Return 1 / number of ties where a equals y, 0 elsewhere, and NaN where y is NaN."""
    hits = np.count_nonzero(a == y, axis=axis, keepdims=True)
    return np.where(hits == 0, np.nan, np.where(a == y, 1.0 / np.maximum(hits, 1), 0.0))


def np_cross_entropy(a: Any, q: Any, divisor: float, per_row: bool) -> Any:
    """Return the cross-entropy by its definition, without stability."""
    return -(q * np.log(special.softmax(a, 1))).sum(1 if per_row else None) / divisor


def np_batch_norm(x: Any, gamma: Any, beta: Any, statistics: Any, eps: float, relu: bool) -> Any:
    """Return y by the formula, channel by channel; None stands for the batch's statistics."""
    y = np.empty(x.shape)
    for c in range(x.shape[1]):
        v = x[:, c]
        mean, var = (v.mean(), v.var()) if statistics is None else (p[c] for p in statistics)
        y[:, c] = (v - mean) / np.sqrt(var + eps)
        y[:, c] = y[:, c] * (1 if gamma is None else gamma[c]) + (0 if beta is None else beta[c])
    return np.maximum(y, 0) if relu else y


def np_batch_norm_grad(g: Any, x: Any, gamma: Any, statistics: Any, relu: bool, eps: float) -> Any:
    """Return dx, which is g times the Jacobian, channel by channel."""
    dx = np.empty(x.shape)
    gated = g * (np_batch_norm(x, gamma, BETA, statistics, eps, False) > 0) if relu else g
    for c in range(x.shape[1]):
        v, n = x[:, c].ravel(), x[:, c].size
        var = v.var() if statistics is None else statistics[1][c]
        x_hat = (v - v.mean()) / np.sqrt(var + eps)
        jacobian = np.eye(n)
        if statistics is None:
            jacobian -= 1 / n + np.outer(x_hat, x_hat) / n
        scale = (1 if gamma is None else gamma[c]) / np.sqrt(var + eps)
        dx[:, c] = (scale * jacobian @ gated[:, c].ravel()).reshape(x[:, c].shape)
    return dx


def np_binary_cross_entropy(x: Any, t: Any, positive: Any, negative: Any) -> Any:
    """Return the loss by its definition, from logarithms of probabilities."""
    p = special.expit(x)
    return -positive * t * np.log(p) - negative * (1.0 - t) * np.log1p(-p)


def np_label_cross_entropy(a: Any, labels: Any, ignore_index: int, mean: bool) -> Any:
    """Return the loss by its definition, row by row."""
    p = special.softmax(a, 1)
    losses = [-np.log(p[i, k]) for i, k in enumerate(labels) if k != ignore_index]
    return np.mean(losses) if mean else np.sum(losses)


def np_label_cross_entropy_grad(g: Any, a: Any, labels: Any, ignore_index: int, mean: bool) -> Any:
    """Return the gradient: softmax, minus one at the label."""
    kept = np.array(labels) != ignore_index
    rows = (special.softmax(a, 1) - np.eye(a.shape[1])[labels]) * kept[:, None]
    return g * rows / (kept.sum() if mean else 1)


def np_linear_grad(g: Any, x: Any, w: Any, which: int) -> Any:
    """Return a gradient as sums of products of elements."""
    rows, xs = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])
    if which == 0:
        return np.einsum("no,oi->ni", rows, w).reshape(x.shape)
    return np.einsum("no,ni->oi", rows, xs) if which == 1 else np.einsum("no->o", rows)


def np_cross_entropy_grad(g: Any, a: Any, q: Any, divisor: float, per_row: bool) -> Any:
    """Return, row by row, the logarithm's derivative times the Jacobian of softmax."""
    p = special.softmax(a, 1)
    rows = [
        (np.diag(p_i) - np.outer(p_i, p_i)) @ (-q_i / p_i) for p_i, q_i in zip(p, q, strict=True)
    ]
    return np.stack(rows) * (g[:, None] if per_row else g) / divisor
