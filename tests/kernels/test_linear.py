"""The kernels of a linear layer give what NumPy gives, for sizes in and between blocks."""

import numpy as np
import pytest

from minigrad.kernels.linear import linear_backward, linear_forward
from minigrad.kernels.threading.blas import blas_limit
from minigrad.kernels.transpose import transpose

SIZES = [(16, 8, 16), (17, 9, 19), (40, 31, 23), (16, 7, 16), (15, 9, 16), (16, 9, 15), (1, 1, 1)]


def made(*shape):
    return np.random.default_rng(shape).standard_normal(shape)


@pytest.mark.parametrize("shape", [(8, 8), (9, 8), (8, 15), (17, 31), (64, 40)])
def test_a_transpose_has_every_element(shape):
    a, out = made(*shape), np.full(shape[::-1], np.nan)
    transpose(a, out)
    np.testing.assert_array_equal(out, a.T)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), SIZES)
@pytest.mark.parametrize("bias", [True, False])
def test_forward(rows, inputs, outputs, bias):
    x, w = made(rows, inputs), made(outputs, inputs)
    b, y = made(outputs if bias else 0), np.full((rows, outputs), np.nan)
    linear_forward(x, w, b, y, blas_limit())
    np.testing.assert_allclose(y, x @ w.T + (b if bias else 0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), SIZES)
def test_backward(rows, inputs, outputs):
    g, x, w = made(rows, outputs), made(rows, inputs), made(outputs, inputs)
    dx, dw, db = (np.full(shape, np.nan) for shape in (x.shape, w.shape, outputs))
    linear_backward(g, x, w, dx, dw, db, blas_limit())
    for found, expected in ((dx, g @ w), (dw, g.T @ x), (db, g.sum(0))):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
