"""Losses compare an input with a target: cross-entropies, log-likelihood and squared error."""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from .. import ops
from ..arrays import checked, to_ndarray
from ..checks import integer, number
from ..engine.tensor import Tensor, TensorLike, as_tensor
from ..engine.tracer import refuse_in_trace, runs_again
from ..errors import ArgumentError, DtypeError, OutOfRangeError, ShapeError
from ..types import Array, DType, Shape

Given: TypeAlias = Array | Tensor  # a constant input: a Tensor only while a compiler traces
_BOUNDS = -(2**63), 2**63 - 1
_INT64, _UINT64 = np.dtype(np.int64), np.dtype(np.uint64)  # np.int64 itself takes longer to compare


def cross_entropy(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return -log(softmax(input)) at the target class, fused and stable for any finite logits.

    input: logits (C,), (N, C) or (N, C, ...).
    target: class indices (labels), integers in the input's shape without C; or probabilities,
        floats in the input's shape.
    weight: a factor for each class, (C,), or None.
    ignore_index: rows with this label are left out.
    reduction: "mean", "sum" or "none". The mean over labels is weighted by `weight`, and NaN if no
        row is left; the mean over probabilities divides by the number of rows.
    label_smoothing: the fraction of each target, 0 to 1, that is spread evenly over all classes
        (Szegedy et al., 2015, arXiv:1512.00567).
    Returns the loss in nats: a scalar or, with "none", in the input's shape without C. Errors:
    ShapeError, DtypeError, ArgumentError; OutOfRangeError for a label that is not a class.

    >>> F.cross_entropy([[0, 0], [1000, 0]], [1, 0])  # log 2 and 0
    tensor(0.3465736)
    """
    name = "cross_entropy"
    _check_reduction(name, reduction)
    # Usual values pass these fast checks; for others, the functions convert or raise.
    if type(label_smoothing) is not float or not 0.0 <= label_smoothing <= 1.0:
        label_smoothing = number(name, "label_smoothing", label_smoothing, 0, 1)
    if type(ignore_index) is not int or not _BOUNDS[0] <= ignore_index <= _BOUNDS[1]:
        ignore_index = integer(name, "ignore_index", ignore_index, *_BOUNDS)
    x = as_tensor(input, name)
    shape = x._data.shape
    logits, restored = _rows(x, name)
    n_classes = logits._data.shape[1]
    factors = None if weight is None else _class_weight(name, weight, n_classes, logits.dtype)
    given = _given(target, name)
    if given.dtype.kind == "f" and given.shape == shape:
        q, _ = _rows(as_tensor(target, name), name)
        count: float | Tensor = float(logits.shape[0])
        if label_smoothing:
            q = q * (1.0 - label_smoothing) + label_smoothing / n_classes
        if factors is not None:
            q = q * factors
    else:
        labels = _labels(name, given, shape)
        if factors is None and not label_smoothing and reduction != "none":
            labels = labels if isinstance(labels, Tensor) else Tensor(labels)
            loss: Tensor = ops.label_cross_entropy(
                logits, labels, ignore_index=ignore_index, mean=reduction == "mean"
            )[0]
            return loss
        labels = ops.unsqueeze(ops.checked_indices(name, labels, n_classes, ignore_index), -1)
        kept = ops.astype(ops.not_equal(labels, ignore_index), dtype=logits.dtype)
        q = ops.astype(ops.equal(labels, np.arange(n_classes)), dtype=logits.dtype) * kept
        weighted = q if factors is None else q * factors
        count = _total(weighted)
        if label_smoothing:
            q = (1.0 - label_smoothing) * q + kept * (label_smoothing / n_classes)
            weighted = q if factors is None else q * factors
        q = as_tensor(weighted, name)
    if reduction == "none":
        return restored(ops.cross_entropy(logits, q, 1.0, per_row=True))
    if reduction == "sum":
        return ops.cross_entropy(logits, q, 1.0, per_row=False)
    return _mean(lambda divisor: ops.cross_entropy(logits, q, divisor, per_row=False), count)


def nll_loss(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Return -input at the target class, where input holds log-probabilities.

    target: class indices. Shapes and errors, weight, ignore_index and reduction are those of
    cross_entropy.
    """
    name = "nll_loss"
    _check_reduction(name, reduction)
    ignore_index = integer(name, "ignore_index", ignore_index, *_BOUNDS)
    x = as_tensor(input, name)
    log_p, restored = _rows(x, name)
    labels = _labels(name, _given(target, name), x.shape)
    labels = ops.checked_indices(name, labels, log_p.shape[1], ignore_index)
    kept = ops.not_equal(labels, ignore_index)
    labels = ops.where(kept, labels, 0)
    factors: Tensor = ops.astype(kept, dtype=log_p.dtype)
    if weight is not None:
        weights = _class_weight(name, weight, log_p.shape[1], log_p.dtype)
        factors = factors * ops.getitem(weights, labels)
    picked = log_p[np.arange(labels.size), labels]
    losses: Tensor = ops.where(ops.equal(factors, 0.0), 0.0, -picked) * factors
    if reduction == "none":
        return restored(losses)
    total: Tensor = losses.sum()
    if reduction == "sum":
        return total
    return _mean(lambda divisor: ops.astype(total / divisor, dtype=total.dtype), _total(factors))


def mse_loss(input: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """Return (input - target)^2, in the square of the input's unit.

    input, target: Tensors of equal shape; broadcasting is refused, since it is mostly a mistake.
    reduction: "mean" and "sum" give a scalar, "none" the input's shape. Errors: ShapeError,
    ArgumentError.
    """
    _check_reduction("mse_loss", reduction)
    a, b = as_tensor(input, "mse_loss"), as_tensor(target, "mse_loss")
    _check_same_shape("mse_loss", a, b)
    return _reduced(ops.square(a - b), reduction)


def binary_cross_entropy_with_logits(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    reduction: str = "mean",
    pos_weight: TensorLike | None = None,
) -> Tensor:
    """Return -(t * log sigmoid(x) + (1 - t) * log(1 - sigmoid(x))) in nats, stable for any x.

    x is the input and t the target, from 0 to 1; they have equal shapes. weight: a factor for each
    element. pos_weight: a factor for the first term. Both are broadcast. A term whose factor is 0
    is 0, also where x is infinite. reduction: "mean" and "sum" give a scalar, "none" the shape of
    x. Errors: ShapeError, ArgumentError.
    """
    name = "binary_cross_entropy_with_logits"
    _check_reduction(name, reduction)
    x, t = as_tensor(input, name), as_tensor(target, name)
    _check_same_shape(name, x, t)
    negative: float | Tensor = 1.0 if weight is None else as_tensor(weight, name)
    positive = negative if pos_weight is None else as_tensor(pos_weight, name) * negative
    return _reduced(ops.binary_cross_entropy(x, t, positive, negative), reduction)


# --- helpers ------------------------------------------------------------------------------------


def _check_reduction(name: str, reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(f"{name}: reduction is 'mean', 'sum' or 'none', got {reduction!r}")


def _check_same_shape(name: str, a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ShapeError(
            f"{name}: input {a.shape} and target {b.shape} must have one shape; reshape the target?"
        )


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def _given(x: TensorLike, name: str) -> Given:
    """Return the array of a constant input; while a compiler traces, return a Tensor.

    The step must read the values again in each call.
    """
    if not runs_again():
        return x._data if isinstance(x, Tensor) else to_ndarray(x, name)
    return x.detach() if isinstance(x, Tensor) else Tensor(to_ndarray(x, name))


def _total(factors: Given) -> float | Tensor:
    """Return the sum in float64: a Tensor for a Tensor, else a number."""
    total = factors.astype(np.float64).sum()
    return total if isinstance(total, Tensor) else float(total)


def _mean(divided: Callable[[float | Tensor], Tensor], count: float | Tensor) -> Tensor:
    """Return a sum divided by the count of its terms, or NaN with a gradient of 0 if that is 0.

    divided: a function that returns the sum divided by its argument. count: a number, or a Tensor
    whose value Python does not look at.
    """
    if not isinstance(count, Tensor):
        return divided(count) if count else divided(1.0) + math.nan
    nothing = ops.equal(count, 0.0)
    mean: Tensor = divided(ops.where(nothing, 1.0, count)) + ops.where(nothing, math.nan, 0.0)
    return mean


def _rows(x: Tensor, name: str) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return x of shape (C,), (N, C) or (N, C, ...) as rows (M, C), and a function.

    The function reshapes M results to the shape of x without C.
    """
    array = x._data
    shape, ndim = array.shape, array.ndim
    if array.dtype.kind != "f":
        raise DtypeError(
            f"{name}: expected floats as input, got {x.dtype}; convert with .astype('float32')"
        )
    if ndim == 0:
        raise ShapeError(
            f"{name}: expected an input of shape (N, C, ...), got (); it needs an axis of classes"
        )
    if shape[ndim > 1] == 0:
        raise ShapeError(f"{name}: input {shape} has no classes; it needs at least one")
    if ndim == 2:
        return x, lambda losses: losses
    if ndim == 1:
        return x.reshape(1, -1), lambda losses: losses.reshape(())
    rest = (shape[0], *shape[2:])
    rows = x.permute(0, *range(2, ndim), 1).reshape(math.prod(rest), shape[1])
    return rows, lambda losses: losses.reshape(rest)


def _labels(name: str, labels: Given, shape: Shape) -> Given:
    """Return a flat int64 copy of the labels, so that a later change cannot alter the gradient.

    Errors: DtypeError and ShapeError unless they are integers in the input's shape without C;
    OutOfRangeError for a uint64 that does not fit int64.
    """
    expected = (shape[0], *shape[2:]) if len(shape) > 1 else ()
    if labels.dtype.kind not in "iu":
        also = f", or pass probabilities of shape {shape}" if name == "cross_entropy" else ""
        raise DtypeError(
            f"{name}: labels must be integers of shape {expected}, got {labels.dtype} of shape "
            f"{labels.shape}; convert with .astype('int64'){also}"
        )
    if labels.shape != expected:
        raise ShapeError(
            f"{name}: labels have shape {labels.shape}, input {shape} wants {expected}, one class "
            "index for each row; reshape them, or take the argmax over the classes of one-hot rows"
        )
    if labels.dtype == _UINT64:
        refuse_in_trace(f"{name} of uint64 labels")
        values = labels._data if isinstance(labels, Tensor) else labels
        if values.size and values.max() > _BOUNDS[1]:
            raise OutOfRangeError(
                f"{name}: labels are class indices, got {values.max()}; number classes from 0"
            )
    return labels.astype(_INT64).reshape(-1)


def _class_weight(name: str, weight: TensorLike, n_classes: int, dtype: DType) -> Given:
    """Return the factor for each class, a constant of shape (n_classes,)."""
    factors = _given(weight, f"{name}: weight")
    checked(factors._data if isinstance(factors, Tensor) else factors, f"{name}: weight")
    if factors.shape != (n_classes,):
        raise ShapeError(
            f"{name}: weight has shape {factors.shape}, expected ({n_classes},), a factor for each "
            "class"
        )
    return factors.astype(dtype)
