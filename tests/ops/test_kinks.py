"""Derivatives at kinks and ties, and those of NaN, are PyTorch's values, written out.

The same rows are run through PyTorch itself where it is importable.
"""

from math import nan
from typing import Any

import numpy as np
import pytest
from kinks import ROWS, Row

import minigrad as mg
from minigrad import functional as F


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_values_and_gradients(row: Row) -> None:
    """Forward and gradient are exactly those of the row."""
    inputs = [mg.tensor(np.array(x), requires_grad=True) for x in row.inputs]
    with np.errstate(all="ignore"):  # poles are the point here
        y = row.ours(*inputs)
    np.testing.assert_array_max_ulp(y.data, np.array(row.y), 1)
    y.backward(np.ones(y.shape))
    for x, expected in zip(inputs, row.gradients, strict=True):
        np.testing.assert_array_equal(x.grad.data, np.array(expected))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_rows_are_what_pytorch_computes(row: Row) -> None:
    """PyTorch gives the numbers of the table."""
    torch = pytest.importorskip("torch")
    inputs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in row.inputs]
    names = dict(zip("ab", inputs, strict=False))
    y = eval(row.torch, {"torch": torch, "F": torch.nn.functional, **names})
    np.testing.assert_allclose(y.detach().numpy(), row.y, rtol=1e-15)
    y.sum().backward()
    for x, expected in zip(inputs, row.gradients, strict=True):
        np.testing.assert_array_equal(x.grad.numpy(), np.array(expected))


@pytest.mark.parametrize(
    ("n", "second"), [(0, 0.0), (1, 0.0), (2, 2.0), (3, 0.0), (1.0, 0.0), (2.0, 2.0)]
)
@pytest.mark.parametrize("as_array", [False, True])
def test_second_derivative_of_a_power_at_zero(n: float, second: float, as_array: bool) -> None:
    """n (n - 1) x^(n - 2) at 0 is finite for these n, and must not come out as 0 * inf."""
    x = mg.tensor(np.array(0.0), requires_grad=True)
    exponent = mg.tensor(np.array(float(n))) if as_array else n
    (first,) = mg.grad(x**exponent, x, create_graph=True)
    assert first.item() == (1.0 if n == 1 else 0.0)
    # x * x, because the first derivative may be constant.
    (found,) = mg.grad(first + x * x, x)
    assert found.item() == second


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_ties_share_equally_in_float32(shape: tuple[int, ...]) -> None:
    """The parts are equal and add up to the cotangent, in the dtype of the input."""
    x = mg.tensor(np.ones(shape, np.float32), requires_grad=True)
    x.max().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad.data, np.full(shape, 1.0 / x.size, np.float32))


@pytest.mark.parametrize(
    "fn",
    [
        abs,
        mg.relu,
        F.leaky_relu,
        mg.exp,
        mg.sigmoid,
        mg.softplus,
        F.gelu,
        mg.tanh,
        mg.sqrt,
        mg.log,
        lambda x: x.clip(-1, 1),
        F.softmax,
        F.log_softmax,
        mg.sum,
        mg.mean,
        mg.var,
        mg.max,
        mg.min,
    ],
)
def test_nan_passes_through(fn: Any) -> None:
    """One NaN poisons what depends on it, without a warning, in both dtypes."""
    for dtype in (np.float32, np.float64):
        y = fn(mg.tensor(np.array([1.0, nan, 2.0], dtype)))
        assert np.isnan(y.data if y.ndim == 0 else y.data[1])
