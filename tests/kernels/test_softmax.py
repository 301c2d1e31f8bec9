"""The exponential of the softmax kernels agrees with that of Python's math module."""

import math

import numba
import numpy as np
import pytest

from minigrad.kernels import softmax


@numba.njit
def compiled(x, out):
    for i in range(x.size):
        out[i] = softmax.exp(x[i])


def plain(x, out):
    out[:] = [softmax._exp(value) for value in x]


X = -np.concatenate(
    [np.linspace(0, 1, 2000), np.linspace(1, 745, 20_000), np.logspace(-300, 2, 99)]
)


@pytest.mark.parametrize("function", [compiled, plain])
def test_the_exponential_is_exact_to_two_units(function):
    got = np.empty_like(X)
    function(X, got)
    expected = np.array([math.exp(x) for x in X])
    assert (np.abs(got - expected) <= 2 * np.spacing(expected)).all()


@pytest.mark.parametrize("function", [compiled, plain])
def test_limits_of_the_exponential(function):
    got = np.empty(5)
    function(np.array([0.0, -0.0, -746.0, -np.inf, np.nan]), got)
    np.testing.assert_array_equal(got, [1.0, 1.0, 0.0, 0.0, np.nan])
