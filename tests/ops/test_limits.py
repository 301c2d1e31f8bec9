"""Values and derivatives at infinity, NaN, zeros and the largest and smallest numbers are right.

One table holds them, with that of kinks.py: mathematical limits, NaN where there is none. Each
row is computed eagerly and by compiled code, in both dtypes.
"""

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import kinks
import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import ops
from minigrad.compiler import compile
from minigrad.ops import TABLE

pytestmark = pytest.mark.usefixtures("as_python")

nan, inf = math.nan, math.inf
log2, half = math.log(2.0), [0.5] * 3


class Row(NamedTuple):
    """A Row says that function(*inputs) is y, with these gradients of its sum."""

    function: Callable[..., Any]
    inputs: list[Any]
    y: Any
    gradients: list[Any]


def bce(**weights: Any) -> Any:
    """Return the binary cross-entropy of each element."""
    return lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none", **weights)


def by_row(a: Any) -> Any:
    """Return the cross-entropy with label 0 of each row, by the fused kernel."""
    return mg.stack([F.cross_entropy(a[i], np.array(0), reduction="sum") for i in range(len(a))])


def table(dtype: Any) -> dict[str, Row]:
    """Return all rows."""
    info = np.finfo(dtype)
    big, small = float(info.max), float(info.smallest_subnormal)

    def unary(function: Any, y: list[float], derivative: list[float]) -> Row:
        points = [-inf, -big, -0.0, 0.0, small, big, inf, nan]
        return Row(function, [points], y, [derivative])

    rows = {
        "abs": unary(abs, [inf, big, 0, 0, small, big, inf, nan], [-1, -1, 0, 0, 1, 1, 1, nan]),
        "sign": unary(mg.sign, [-1, -1, 0, 0, 1, 1, 1, nan], [0] * 8),
        "square": unary(
            mg.square,
            [inf, inf, 0, 0, 0, inf, inf, nan],
            [-inf, -inf, 0, 0, 2 * small, inf, inf, nan],
        ),
        "exp": unary(mg.exp, [0, 0, 1, 1, 1, inf, inf, nan], [0, 0, 1, 1, 1, inf, inf, nan]),
        "erf": unary(
            mg.erf,
            [-1, -1, 0, 0, small, 1, 1, nan],
            [0, 0, *[2 / math.sqrt(math.pi)] * 3, 0, 0, nan],
        ),
        "tanh": unary(mg.tanh, [-1, -1, 0, 0, small, 1, 1, nan], [0, 0, 1, 1, 1, 0, 0, nan]),
        "sigmoid": unary(mg.sigmoid, [0, 0, *half, 1, 1, nan], [0, 0, *[0.25] * 3, 0, 0, nan]),
        "softplus": unary(
            F.softplus, [0, 0, *[log2] * 3, big, inf, nan], [0, 0, *half, 1, 1, nan]
        ),
        "softplus with beta": unary(
            lambda a: F.softplus(a, 2.0),
            [0, 0, *[log2 / 2] * 3, big, inf, nan],
            [0, 0, *half, 1, 1, nan],
        ),
        "gelu": unary(F.gelu, [0, 0, 0, 0, 0, big, inf, nan], [0, 0, *half, 1, 1, nan]),
        "gelu by tanh": unary(
            lambda a: F.gelu(a, "tanh"), [0, 0, 0, 0, 0, big, inf, nan], [0, 0, *half, 1, 1, nan]
        ),
        "relu": unary(F.relu, [0, 0, 0, 0, small, big, inf, nan], [0, 0, 0, 0, 1, 1, 1, 1]),
        "leaky_relu": unary(
            lambda a: F.leaky_relu(a, 0.25),
            [-inf, -big / 4, 0, 0, small, big, inf, nan],
            [0.25] * 4 + [1, 1, 1, 0.25],
        ),
        "leaky_relu of slope 0": unary(
            lambda a: F.leaky_relu(a, 0.0),
            [0, 0, 0, 0, small, big, inf, nan],
            [0, 0, 0, 0, 1, 1, 1, 0],
        ),
        "clip": unary(
            lambda a: a.clip(-1, 1), [-1, -1, 0, 0, small, 1, 1, nan], [0, 0, 1, 1, 1, 0, 0, 0]
        ),
        "x ** -1": unary(
            lambda a: a**-1,
            [0, -1 / big, -inf, inf, inf, 1 / big, 0, nan],
            [0, 0, -inf, -inf, -inf, 0, 0, nan],
        ),
        "x ** 0": unary(lambda a: a**0, [1] * 8, [0] * 8),
        "log": Row(
            mg.log,
            [[-0.0, 0.0, 1.0, inf, nan]],
            [-inf, -inf, 0.0, inf, nan],
            [[-inf, inf, 1.0, 0.0, nan]],
        ),
        "sqrt": Row(
            mg.sqrt,
            [[-0.0, 0.0, 1.0, inf, nan]],
            [0.0, 0.0, 1.0, inf, nan],
            [[-inf, inf, 0.5, 0.0, nan]],
        ),
        "rsqrt": Row(
            mg.rsqrt, [[0.0, 1.0, inf, nan]], [inf, 1.0, 0.0, nan], [[-inf, -0.5, 0.0, nan]]
        ),
        "inv_std": Row(
            lambda a: TABLE["inv_std"](a, eps=1e-5), [[big, inf, nan]],
            [float(1 / np.sqrt(dtype(big))), 0.0, nan], [[0.0, 0.0, nan]],
        ),
        "x ** 0.5": Row(
            lambda a: a**0.5, [[0.0, 1.0, inf, nan]], [0.0, 1.0, inf, nan], [[inf, 0.5, 0.0, nan]]
        ),
        "x ** inf": Row(
            lambda a: a**inf, [[0.5, 2.0, inf, nan]], [0.0, inf, inf, nan], [[0.0, inf, inf, nan]]
        ),
        "x ** -inf": Row(
            lambda a: a**-inf, [[0.5, 2.0, inf, nan]], [inf, 0.0, 0.0, nan], [[-inf, 0.0, 0.0, nan]]
        ),
        "inf ** x": Row(
            lambda b: inf**b,
            [[-inf, -1.0, 0.0, 1.0, inf, nan]],
            [0.0, 0.0, 1.0, inf, inf, nan],
            [[0.0, 0.0, inf, inf, inf, nan]],
        ),
        "a ** b": Row(
            operator.pow,
            [[0.5, 2.0, 0.5, 2.0, inf, inf, 0.0, inf, nan, 2.0],
             [inf, inf, -inf, -inf, -1.0, -inf, inf, 0.0, 1.0, nan]],
            [0.0, inf, inf, 0.0, 0.0, 0.0, 0.0, 1.0, nan, nan],
            [[0.0, inf, -inf, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, nan],
             [0.0, inf, -inf, 0.0, 0.0, 0.0, 0.0, inf, nan, nan]],
        ),
        "a * b": Row(
            operator.mul,
            [[inf, inf, nan, big], [0.0, -2.0, 1.0, 2.0]],
            [nan, -inf, nan, inf],
            [[0.0, -2.0, 1.0, 2.0], [inf, inf, nan, big]],
        ),
        "a / b": Row(
            operator.truediv,
            [[1.0, 1.0, 1.0, 0.0, inf, 1.0, nan], [inf, 0.0, -0.0, 0.0, inf, small, 1.0]],
            [0.0, inf, -inf, nan, nan, inf, nan],
            [[0.0, inf, -inf, inf, 0.0, inf, 1.0], [0.0, -inf, -inf, nan, nan, -inf, nan]],
        ),
        "sum": Row(
            lambda a: a.sum(1),
            [[[inf, 1.0], [inf, -inf], [nan, 1.0]]],
            [inf, nan, nan],
            [[[1.0, 1.0]] * 3],
        ),
        "mean": Row(lambda a: a.mean(1), [[[inf, 1.0], [nan, 1.0]]], [inf, nan], [[half[:2]] * 2]),
        # Of what holds infinity variance and normalisation are NaN, as NumPy's and PyTorch's.
        "var": Row(
            lambda a: mg.var(a, 1),
            [[[inf, 1.0], [nan, 1.0]]],
            [nan, nan],
            [[[nan, -inf], [nan, nan]]],
        ),
        "max": Row(
            lambda a: a.max(1),
            [[[-inf, -inf], [inf, big], [nan, inf], [inf, inf], [-0.0, 0.0]]],
            [-inf, inf, nan, inf, 0.0],
            [[half[:2], [1.0, 0.0], [nan, nan], half[:2], half[:2]]],
        ),
        "min": Row(
            lambda a: a.min(1),
            [[[inf, inf], [-inf, -big], [1.0, nan], [small, 0.0]]],
            [inf, -inf, nan, 0.0],
            [[half[:2], [1.0, 0.0], [nan, nan], [0.0, 1.0]]],
        ),
        "mse_loss": Row(
            lambda a, b: F.mse_loss(a, b, "none"),
            [[inf, -inf, inf, nan, big], [0.0, 0.0, inf, 0.0, 0.0]],
            [inf, inf, nan, nan, inf],
            [[inf, -inf, nan, nan, inf], [-inf, inf, nan, nan, -inf]],
        ),
        "layer_norm": Row(
            lambda a: F.layer_norm(a, 2)[:, 0],
            [[[inf, 1.0], [1.0, nan], [2.0, 2.0]]],
            [nan, nan, 0.0],
            [[[nan, nan], [nan, nan], [0.5 / math.sqrt(1e-5), -0.5 / math.sqrt(1e-5)]]],
        ),
        "nll_loss": Row(
            lambda a: F.nll_loss(a, np.array([0, 0, 0, 1]), np.array([1.0, 0.0]), reduction="none"),
            [[[-inf, -1.0], [nan, -1.0], [-1.0, nan], [-1.0, -inf]]],
            [inf, nan, 1.0, 0.0],
            [[[-1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]],
        ),
        "binary cross-entropy": Row(
            bce(),
            [[inf, inf, -inf, -inf, nan, big, -big, 0.0, small],
             [0.5, 1.0, 0.0, 0.5, 0.0, 0.0, 1.0, 0.5, 0.0]],
            [inf, 0.0, 0.0, inf, nan, big, big, log2, log2],
            [[0.5, 0.0, 0.0, -0.5, nan, 1.0, -1.0, 0.0, 0.5],
             [-inf, -inf, inf, inf, nan, -big, big, 0.0, -small]],
        ),
        "binary cross-entropy, positives of weight 0": Row(
            bce(pos_weight=[0.0]),
            [[-inf, -inf, inf, inf, nan], [1.0, 0.5, 0.5, 1.0, 1.0]],
            [0.0, 0.0, inf, 0.0, nan],
            [[0.0, 0.0, 0.5, 0.0, nan], [0.0, 0.0, -inf, -inf, nan]],
        ),
        "binary cross-entropy of weight 0": Row(
            bce(weight=[0.0]),
            [[-inf, inf, nan], [1.0, 0.0, 1.0]],
            [0.0, 0.0, nan],
            [[0.0, 0.0, nan], [0.0, 0.0, nan]],
        ),
        "binary cross-entropy, weighted": Row(
            bce(weight=[2.0], pos_weight=[3.0]),
            [[inf, -inf, inf, -inf], [0.5, 0.5, 1.0, 0.0]],
            [inf, inf, 0.0, 0.0],
            [[1.0, -3.0, 0.0, 0.0], [-inf, inf, -inf, inf]],
        ),
    }  # fmt: skip
    logits = [[inf, 0.0], [0.0, inf], [-inf, 0.0], [inf, inf], [-inf, -inf], [nan, 0.0],
              [big, -big], [-0.0, 0.0]]  # fmt: skip
    none = [nan, nan]
    p_0 = [[0, 0], [0, 0], [0, 0], none, none, none, [0, 0], [0.25, -0.25]]
    log_p_0 = [[0, 0], [1, -1], [1, -1], none, none, none, [0, 0], [0.5, -0.5]]
    loss_0, loss_gradient = [0, inf, inf, nan, nan, nan, 0, log2], (-np.array(log_p_0)).tolist()
    one_hot = np.tile([1.0, 0.0], (8, 1)).astype(dtype)
    return rows | {
        "softmax": Row(
            lambda a: F.softmax(a, 1)[:, 0], [logits], [1, 0, 0, nan, nan, nan, 1, 0.5], [p_0]
        ),
        "log_softmax": Row(
            lambda a: F.log_softmax(a, 1)[:, 0],
            [logits],
            (-np.array(loss_0)).tolist(),
            [log_p_0],
        ),
        "cross_entropy": Row(by_row, [logits], loss_0, [loss_gradient]),
        "cross_entropy of each row": Row(
            lambda a: F.cross_entropy(a, np.zeros(8, np.int64), reduction="none"),
            [logits],
            loss_0,
            [loss_gradient],
        ),
        "cross_entropy with probabilities": Row(
            lambda a: F.cross_entropy(a, one_hot, reduction="none"),
            [logits],
            loss_0,
            [loss_gradient],
        ),
        "cross_entropy of ignored rows": Row(
            lambda a: F.cross_entropy(a, np.full(3, -100), reduction="none"),
            [[[nan, 1.0], [inf, inf], [-inf, -inf]]],
            [0.0] * 3,
            [[[0.0, 0.0]] * 3],
        ),
    }


KINKS = {
    f"kink: {name}": Row(row.ours, row.inputs, row.y, row.gradients)
    for name, row in kinks.ROWS.items()
}
NAMES = [*table(np.float64), *KINKS]


def check(row: Row, y: Any, gradients: Any, dtype: Any) -> None:
    """Check value and gradients of a row, to 4 units in the last place."""
    tolerance = 4 * float(np.finfo(dtype).eps)
    for got, expected in zip((y, *gradients), (row.y, *row.gradients), strict=True):
        assert got.dtype == dtype
        expected = narrowed(expected, dtype)
        np.testing.assert_allclose(got.data, expected, rtol=tolerance, atol=0.0)


def narrowed(numbers: Any, dtype: Any) -> np.ndarray:
    """Return numbers in a dtype, where the smallest of float64 stays above 0."""
    a, smallest = np.array(numbers, np.float64), np.finfo(dtype).smallest_subnormal
    with np.errstate(over="ignore"):
        return np.where((a > 0) & (a < smallest), smallest, a).astype(dtype)


def leaves(row: Row, dtype: Any) -> list[Any]:
    """Return the row's inputs in a dtype."""
    return [mg.Tensor(narrowed(x, dtype)).requires_grad_() for x in row.inputs]


def computed(row: Row) -> Any:
    """Return the row's result and gradients."""

    def function(*inputs: Any) -> Any:
        y = row.function(*inputs)
        return y, mg.grad(y, inputs, mg.Tensor(np.ones(y.shape, y.dtype)))

    return function


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_limits_are_those_of_the_table(name: str, dtype: Any) -> None:
    """Forward and backward give the numbers of the row."""
    row = (table(dtype) | KINKS)[name]
    with np.errstate(all="ignore"):
        y, gradients = computed(row)(*leaves(row, dtype))
    check(row, y, gradients, dtype)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_compiled_limits_are_those_of_the_table(name: str, dtype: Any) -> None:
    """A function that is traced at ones gives them, too."""
    row = (table(dtype) | KINKS)[name]
    step = compile(computed(row))
    inputs = leaves(row, dtype)
    with np.errstate(all="ignore"):
        step(*[mg.Tensor(np.ones(x.shape, dtype)).requires_grad_() for x in inputs])
        y, gradients = step(*inputs)
    check(row, y, gradients, dtype)


def second(function: Any, points: list[float]) -> list[float]:
    """Return the second derivative at each point."""
    x = mg.tensor(np.array(points), requires_grad=True)
    (first,) = mg.grad(function(x).sum(), x, create_graph=True)
    found: list[float] = mg.grad(first.sum(), x)[0].tolist()
    return found


def test_second_derivatives_at_infinity() -> None:
    """They are 0, and at 0 what the formula says."""
    points = [-inf, 0.0, inf]
    targets = np.full(3, 0.25)
    assert second(lambda x: bce()(x, targets), points) == [0.0, 0.25, 0.0]
    assert second(lambda x: bce(pos_weight=[3.0])(x, targets), points) == [0.0, 0.375, 0.0]
    np.testing.assert_allclose(second(F.gelu, points), [0, 2 / math.sqrt(2 * math.pi), 0])
    assert second(F.softplus, points) == [0.0, 0.25, 0.0]
    assert second(ops.tanh, points) == [0.0, 0.0, 0.0]
