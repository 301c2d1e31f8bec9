"""Losses agree with their formulas in NumPy, and with PyTorch where it is importable.

Values and gradients agree in float64 to 1e-12.
"""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy import special

import minigrad as mg
from minigrad import functional as F
from minigrad.errors import ArgumentError

rng = np.random.default_rng(11)
WEIGHT = np.array([0.5, 2.0, 1.25, 0.0])
REDUCTIONS = ["mean", "sum", "none"]
SHAPES = [(4,), (5, 4), (1, 4), (3, 4, 2), (2, 4, 3, 2)]
# Ignored labels, and with WEIGHT one that weighs nothing, are among them.
LABELS = {
    (4,): np.array(2),
    (5, 4): np.array([0, 1, -100, 3, 2]),
    (1, 4): np.array([1]),
    (3, 4, 2): np.array([[0, 1], [-100, 2], [1, 1]]),
    (2, 4, 3, 2): rng.integers(0, 4, (2, 3, 2)),
}
close = {"rtol": 1e-12, "atol": 1e-13}


def logits(shape: tuple[int, ...]) -> np.ndarray:
    """Return the same logits for the same shape."""
    return np.random.default_rng(len(shape)).standard_normal(shape) * 3.0


def probabilities(shape: tuple[int, ...]) -> np.ndarray:
    """Return probabilities over the classes, which are axis 1, or 0 without a batch."""
    axis = 1 if len(shape) > 1 else 0
    return special.softmax(np.random.default_rng(7).standard_normal(shape), axis)


def classes_last(x: np.ndarray) -> np.ndarray:
    """Return (N, C, ...) as rows (M, C)."""
    return x.reshape(1, -1) if x.ndim == 1 else np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def loop_cross_entropy(
    x: np.ndarray, target: np.ndarray, weight: Any, ignore: int, reduction: str, smoothing: float
) -> Any:
    """Return the loss by its definition, row by row and class by class."""
    log_p = special.log_softmax(classes_last(x), 1)
    n_classes = log_p.shape[1]
    w = np.ones(n_classes) if weight is None else weight
    soft = target.dtype.kind == "f"
    targets = classes_last(target) if soft else target.reshape(-1)
    losses, total_weight = [], 0.0
    for row, t in zip(log_p, targets, strict=True):
        if not soft and t == ignore:
            losses.append(0.0)
            continue
        q = t if soft else np.eye(n_classes)[t]
        q = (1.0 - smoothing) * q + smoothing / n_classes
        losses.append(-sum(w[k] * q[k] * row[k] for k in range(n_classes)))
        total_weight += 1.0 if soft else w[t]
    if reduction == "none":
        return np.reshape(losses, x.shape[:1] + x.shape[2:] if x.ndim > 1 else ())
    return sum(losses) / (total_weight if reduction == "mean" else 1.0)


def check(ours: Any, theirs: Any, arrays: list[Any]) -> None:
    """Check values and gradients of ours(*Tensors) against theirs(torch, *tensors)."""
    torch = pytest.importorskip("torch")
    a = [mg.tensor(x, requires_grad=True) for x in arrays]
    b = [torch.tensor(x, requires_grad=True) for x in arrays]
    y, z = ours(*a), theirs(torch.nn.functional, *b)
    np.testing.assert_allclose(y.data, z.detach().numpy(), **close)
    g = np.random.default_rng(3).standard_normal(y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    for s, t in zip(a, b, strict=True):
        np.testing.assert_allclose(s.grad.data, t.grad.numpy(), **close)


OPTIONS = list(itertools.product(REDUCTIONS, [None, WEIGHT], [0.0, 0.1, 1.0]))


@pytest.mark.parametrize(("reduction", "weight", "smoothing"), OPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_is_its_definition(
    soft: bool, shape: Any, reduction: str, weight: Any, smoothing: float
) -> None:
    """It takes indices and probabilities, each option with each other, in all shapes."""
    x, target = logits(shape), probabilities(shape) if soft else LABELS[shape]
    t = mg.tensor(x, requires_grad=True)
    y = F.cross_entropy(t, target, weight, reduction=reduction, label_smoothing=smoothing)
    expected = loop_cross_entropy(x, target, weight, -100, reduction, smoothing)
    assert y.shape == np.shape(expected)
    np.testing.assert_allclose(y.data, expected, **close)
    assert mg.gradcheck(lambda t: F.cross_entropy(t, target, weight, -100, reduction, smoothing), t)


@pytest.mark.parametrize(("reduction", "weight", "smoothing"), OPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_is_pytorchs(
    shape: Any, reduction: str, weight: Any, smoothing: float
) -> None:
    """Gradients of the probabilities agree as well."""
    torch = pytest.importorskip("torch")
    options = {"reduction": reduction, "label_smoothing": smoothing}
    w = None if weight is None else torch.tensor(weight)
    labels = LABELS[shape]
    check(lambda x: F.cross_entropy(x, labels, weight, **options),
          lambda f, x: f.cross_entropy(x, torch.tensor(labels), w, **options),
          [logits(shape)])  # fmt: skip
    check(lambda x, q: F.cross_entropy(x, q, weight, **options),
          lambda f, x, q: f.cross_entropy(x, q, w, **options),
          [logits(shape), probabilities(shape)])  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_nll_loss_of_log_probabilities_is_cross_entropy(
    shape: Any, reduction: str, weight: Any
) -> None:
    """nll_loss of log-probabilities is cross_entropy of logits, and is PyTorch's."""
    labels = LABELS[shape]
    log_p = special.log_softmax(logits(shape), 1 if len(shape) > 1 else 0)
    y = F.nll_loss(mg.tensor(log_p), labels, weight, reduction=reduction)
    expected = loop_cross_entropy(logits(shape), labels, weight, -100, reduction, 0.0)
    np.testing.assert_allclose(y.data, expected, **close)
    torch = pytest.importorskip("torch")
    w = None if weight is None else torch.tensor(weight)
    check(lambda x: F.nll_loss(x, labels, weight, reduction=reduction),
          lambda f, x: f.nll_loss(x, torch.tensor(labels), w, reduction=reduction),
          [logits(shape)])  # fmt: skip


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_ignored_labels_count_nowhere(loss: Any) -> None:
    """They count in neither loss, gradient nor divisor; if all are ignored, the mean is NaN."""
    x = mg.tensor(logits((5, 4)), requires_grad=True)
    labels = np.array([0, 7, 2, 7, 1])
    kept = [0, 2, 4]
    y = loss(x, labels, ignore_index=7)
    expected = loss(x[kept], labels[kept])
    np.testing.assert_allclose(y.item(), expected.item(), rtol=1e-14)
    y.backward()
    assert not x.grad.data[[1, 3]].any()
    assert np.count_nonzero(x.grad.data) == (12 if loss is F.cross_entropy else 3)
    none = np.full(5, 7)
    for reduction, value in (("mean", math.nan), ("sum", 0.0), ("none", np.zeros(5))):
        x.grad = None
        y = loss(x, none, ignore_index=7, reduction=reduction)
        np.testing.assert_array_equal(y.data, value)
        y.backward(np.ones(y.shape))
        np.testing.assert_array_equal(x.grad.data, np.zeros((5, 4)))
    # A class of the ordinary range may be ignored too.
    np.testing.assert_allclose(
        loss(x, np.array([0, 1, 2, 1, 3]), ignore_index=1).item(),
        loss(x[[0, 2, 4]], np.array([0, 2, 3])).item(),
        rtol=1e-14,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_mse_loss_is_its_definition(reduction: str) -> None:
    """It is the mean, the sum or each of (a - b)^2, with gradients for both."""
    a, b = logits((3, 4)), probabilities((3, 4))
    square = (a - b) ** 2
    expected = {"mean": square.sum() / 12, "sum": square.sum(), "none": square}[reduction]
    x, t = mg.tensor(a, requires_grad=True), mg.tensor(b, requires_grad=True)
    y = F.mse_loss(x, t, reduction)
    np.testing.assert_allclose(y.data, expected, **close)
    y.backward(np.ones(y.shape))
    gradient = 2.0 * (a - b) / (12 if reduction == "mean" else 1)
    np.testing.assert_allclose(x.grad.data, gradient, **close)
    np.testing.assert_allclose(t.grad.data, -gradient, **close)
    check(lambda x, t: F.mse_loss(x, t, reduction),
          lambda f, x, t: f.mse_loss(x, t, reduction=reduction), [a, b])  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, (3, 4), (4,), (3, 1)])
@pytest.mark.parametrize("pos_weight", [None, (4,), (3, 4)])
def test_binary_cross_entropy_with_logits_is_its_definition(
    reduction: str, weight: Any, pos_weight: Any
) -> None:
    """For small logits in float64, it equals its definition by logarithms of probabilities."""
    loss = F.binary_cross_entropy_with_logits
    a, t = logits((3, 4)), probabilities((3, 4))
    w = None if weight is None else rng.random(weight) + 0.5
    pw = None if pos_weight is None else rng.random(pos_weight) * 3.0
    s = special.expit(a)
    terms = -((1.0 if pw is None else pw) * t * np.log(s) + (1.0 - t) * np.log1p(-s))
    terms = terms * (1.0 if w is None else w)
    expected = {"mean": terms.mean(), "sum": terms.sum(), "none": terms}[reduction]
    got = loss(mg.tensor(a), t, w, reduction, pw)
    np.testing.assert_allclose(got.data, expected, **close)
    torch = pytest.importorskip("torch")

    def theirs(f: Any, x: Any, t: Any) -> Any:
        given = {"weight": w, "pos_weight": pw}
        given = {k: None if v is None else torch.tensor(v) for k, v in given.items()}
        return f.binary_cross_entropy_with_logits(x, t, reduction=reduction, **given)

    check(lambda x, t: loss(x, t, w, reduction, pw), theirs, [a, t])


@pytest.mark.parametrize("pos_weight", [None, np.array(3.0)])
def test_binary_cross_entropy_is_stable(pos_weight: Any) -> None:
    """Logits of 1e4, where exp would overflow, give 0 or 1e4, and gradients 0 and 1."""
    x = mg.tensor(np.array([1e4, -1e4, -1e4, 1e4]), requires_grad=True)
    y = F.binary_cross_entropy_with_logits(
        x, np.array([1.0, 0.0, 1.0, 0.0]), None, "none", pos_weight
    )
    factor = 1.0 if pos_weight is None else 3.0
    np.testing.assert_array_equal(y.data, [0.0, 0.0, factor * 1e4, 1e4])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [0.0, 0.0, -factor, 1.0])


def test_losses_keep_float32_and_leave_inputs_alone() -> None:
    """float64 weights and targets given as arrays do not widen a float32 loss of labels."""
    a = logits((5, 4)).astype(np.float32)
    x, labels, weight = mg.tensor(a, requires_grad=True), LABELS[(5, 4)].copy(), WEIGHT.copy()
    for loss in (F.cross_entropy, F.nll_loss):
        x.grad = None
        y = loss(x, labels, weight)
        y.backward()
        assert y.dtype == x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.data, a)
    np.testing.assert_array_equal(labels, LABELS[(5, 4)])
    np.testing.assert_array_equal(weight, WEIGHT)


@pytest.mark.parametrize("options", [{}, {"weight": [1.0, 2.0, 3.0]}, {"label_smoothing": 0.1}])
def test_the_mean_over_no_label_is_nan_with_derivatives_of_zero(options: dict[str, Any]) -> None:
    """All labels are ignored, with and without a one-hot matrix; derivatives are of any order."""
    x = mg.tensor(np.ones((2, 3)), requires_grad=True)
    loss = F.cross_entropy(x, [7, 7], ignore_index=7, **options)
    assert np.isnan(loss.item())
    (first,) = mg.grad(loss, x, create_graph=True)
    np.testing.assert_array_equal(first.data, np.zeros((2, 3)))
    (second,) = mg.grad((first * x).sum(), x)
    np.testing.assert_array_equal(second.data, np.zeros((2, 3)))


def test_what_ignored_rows_hold_does_not_matter() -> None:
    """Even infinity and NaN reach neither the loss nor the gradient."""
    rows = np.array([[-1.0, -2.0], [-np.inf, np.nan]])
    x = mg.tensor(rows, requires_grad=True)
    loss = F.nll_loss(x, [1, -100])
    loss.backward()
    assert loss.item() == 2.0
    np.testing.assert_array_equal(x.grad.data, [[0, -1], [0, 0]])


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax])
def test_softmax_over_nothing_is_empty(function: Any) -> None:
    """PyTorch does the same; a scalar has no axis for it."""
    x = mg.tensor(np.zeros((3, 0)), requires_grad=True)
    y = function(x, axis=1)
    y.sum().backward()
    assert y.shape == x.grad.shape == (3, 0)
    with pytest.raises(ArgumentError, match="a scalar has no axes"):
        function(np.float32(1.0))
