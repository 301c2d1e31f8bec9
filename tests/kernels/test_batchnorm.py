"""The kernels of the fused BatchNorm agree, on plain arrays, with the loops of oracles.py."""

import math

import numpy as np
import oracles
import pytest
from batchnorm_kernels import (
    COMPILED,
    DTYPES,
    EPS,
    TOLERANCE,
    backward,
    close,
    forward,
    sample,
)

pytestmark = pytest.mark.usefixtures("two_threads")

# Rows: fewer and more than a block, with and without a rest, narrow and wide. Planes: short, long.
ROWS = [(2, 1), (5, 3), (32, 64), (40, 300), (259, 2), (600, 7), (1, 4), (300, 33)]
PLANES = [(2, 3, 1), (4, 5, 6), (3, 2, 50), (1, 3, 40), (7, 20, 3), (2, 2, 700)]
SHAPES = ROWS + PLANES


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("threaded")
def test_training_is_the_oracles(shape, dtype, relu):
    """Forward, running statistics and backward agree with the oracle."""
    x, g, gamma, beta = sample(shape, dtype)
    running = np.full(shape[1], 0.5, dtype), np.full(shape[1], 2.0, dtype)
    before = [a.copy() for a in (x, g, gamma, beta)]
    y, stats = forward(x, gamma, beta, running, 0.25, relu=relu)
    expected, mean, var, x_hat, inv_std = oracles.batch_norm(x, gamma, beta, EPS, relu)
    m = x.size // shape[1]
    close(y, expected)
    np.testing.assert_allclose(stats[0] + stats[1], mean, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(stats[2], inv_std, rtol=1e-13)
    np.testing.assert_allclose(stats[3], var, rtol=1e-13)
    close(running[0], 0.75 * 0.5 + 0.25 * mean)
    close(running[1], 0.75 * 2.0 + 0.25 * var * m / max(m - 1, 1))
    got = backward(g, x, stats, gamma, y if relu else None)
    wanted = oracles.batch_norm_backward(g, x_hat, inv_std, gamma, y=y if relu else None)
    scale = np.max(np.abs(gamma * inv_std)) * np.max(np.abs(g))
    assert np.max(np.abs(got[0] - wanted[0])) <= 3 * scale * TOLERANCE[x.dtype]
    total = np.abs(g).sum(axis=(0, *range(2, x.ndim)))
    assert np.all(np.abs(got[1] - wanted[1]) <= total * np.abs(x_hat).max() * TOLERANCE[x.dtype])
    assert np.all(np.abs(got[2] - wanted[2]) <= total * TOLERANCE[x.dtype])
    for a, b in zip((x, g, gamma, beta), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(32, 64), (300, 7), (4, 5, 6), (2, 3, 700)], ids=str)
@pytest.mark.usefixtures("threaded")
def test_evaluation_is_the_oracles(shape, dtype, relu):
    """The running statistics are used, and are constants to the gradient."""
    x, g, gamma, beta = sample(shape, dtype)
    rng = np.random.default_rng(1)
    running = rng.standard_normal(shape[1]).astype(dtype), rng.random(shape[1]).astype(dtype)
    before = running[0].copy(), running[1].copy()
    y, stats = forward(x, gamma, beta, running, relu=relu, eval=True)
    expected, *_, x_hat, inv_std = oracles.batch_norm(x, gamma, beta, EPS, relu, running)
    close(y, expected)
    got = backward(g, x, stats, gamma, y if relu else None, training=False)
    wanted = oracles.batch_norm_backward(
        g, x_hat, inv_std, gamma, training=False, y=y if relu else None
    )
    for a, b in zip(got, wanted, strict=True):
        close(a, b, 10.0)
    for a, b in zip(running, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(12, 5), (3, 5, 4)], ids=str)
@pytest.mark.parametrize("eval", [False, True])
def test_an_absent_gamma_is_one_and_an_absent_beta_zero(shape, eval):
    """An absent gamma is 1 and an absent beta 0, each by itself."""
    x, g, gamma, beta = sample(shape, np.float64)
    running = np.full(shape[1], 0.5), np.full(shape[1], 2.0)
    one, zero = np.ones(shape[1]), np.zeros(shape[1])
    for absent, present in (((None, beta), (one, beta)), ((gamma, None), (gamma, zero))):
        y, stats = forward(x, *absent, running, eval=eval)
        expected, stats_too = forward(x, *present, running if eval else None, eval=eval)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(stats, stats_too)
        got = backward(g, x, stats, absent[0], training=not eval)
        wanted = backward(g, x, stats, present[0], training=not eval)
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(40, 6), (5, 6, 8)], ids=str)
@pytest.mark.parametrize("relu", [False, True])
def test_gradient_is_the_derivative(shape, relu):
    """Central differences of a random functional, along random directions, agree with it."""
    x, g, gamma, beta = sample(shape, np.float64)
    y, stats = forward(x, gamma, beta, relu=relu)
    gradients = backward(g, x, stats, gamma, y if relu else None)
    rng = np.random.default_rng(2)
    h = 1e-6
    for i, gradient in enumerate(gradients):
        ends = []
        direction = rng.standard_normal(gradient.shape)
        for sign in (1.0, -1.0):
            moved = [x, gamma, beta]
            moved[i] = moved[i] + sign * h * direction
            ends.append(np.sum(g * forward(*moved, relu=relu)[0]))
        assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(np.sum(gradient * direction), 1e-7)


@pytest.mark.parametrize("shape", [(64, 9), (4, 9, 16)], ids=str)
def test_invariants_of_dx(shape):
    """With gamma 1, dx sums to 0, and dx * x_hat to a value that eps alone keeps from 0.

    The value is sum(g * x_hat) * inv_std * eps / (var + eps).
    """
    x, g, *_ = sample(shape, np.float64)
    x_hat, stats = forward(x, eps=0.5)
    dx, dgamma, _ = backward(g, x, stats)
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(dx.sum(axes), 0.0, atol=1e-13)
    expected = dgamma * stats[2] * 0.5 / (stats[3] + 0.5)
    np.testing.assert_allclose((dx * x_hat).sum(axes), expected, rtol=1e-12)


# Channels that do not fit L2 together, planes longer than one run of a sum; rows in several blocks,
# a rest among them, and enough of them that sums take long runs.
LARGE_SHAPES = (
    [(2, 5, 50_000), (1100, 257), (71, 1601), (70_000, 4), (2, 131_100)] if COMPILED else []
)


@pytest.mark.parametrize("shape", [(2, 3, 9_000), (530, 65), *LARGE_SHAPES], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_arrays_are_exact(shape, dtype):
    """Large arrays agree with the formulas in extended precision."""
    x, g, gamma, beta = sample(shape, dtype)
    y, stats = forward(x, gamma, beta)
    axes = (0, *range(2, x.ndim))
    gamma, beta = (p.reshape(-1, *[1] * (x.ndim - 2)) for p in (gamma, beta))
    wide = x.astype(np.longdouble)
    mean = wide.mean(axes, keepdims=True)
    var = ((wide - mean) ** 2).mean(axes, keepdims=True)
    inv_std = 1 / np.sqrt(var + EPS)
    x_hat = (wide - mean) * inv_std
    close(y, x_hat * gamma + beta)
    np.testing.assert_allclose(stats[3], var.ravel().astype(np.float64), rtol=1e-13)
    dx, dgamma, dbeta = backward(g, x, stats, gamma.ravel())
    dot, total = (g * x_hat).mean(axes, keepdims=True), g.mean(axes, np.longdouble, keepdims=True)
    close(dx, gamma * inv_std * (g - total - x_hat * dot))
    size = np.sqrt(x.size / x.shape[1])  # of a sum of as many random terms
    assert np.max(np.abs(dgamma - (g * x_hat).sum(axes))) <= size * TOLERANCE[x.dtype]
    assert np.max(np.abs(dbeta - g.sum(axes, np.longdouble))) <= size * TOLERANCE[x.dtype]


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (4, 3, 0), (4, 0), (2, 0, 5)], ids=str)
@pytest.mark.parametrize("eval", [False, True])
def test_an_empty_batch_has_zero_gradients(shape, eval):
    """dgamma and dbeta are 0, and running statistics stay."""
    x, c = np.empty(shape, np.float32), shape[1]
    running = np.full(c, 0.5, np.float32), np.full(c, 2.0, np.float32)
    y, stats = forward(x, np.ones(c, np.float32), None, running, eval=eval)
    dx, dgamma, dbeta = backward(x, x, stats, training=not eval)
    assert y.shape == dx.shape == shape
    np.testing.assert_array_equal(running, [[0.5] * c, [2.0] * c])
    np.testing.assert_array_equal([dgamma, dbeta], np.zeros((2, c)))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("shape", [(33, 10), (5, 7, 30)], ids=str)
def test_read_only_inputs_and_wide_buffers_are_taken(shape):
    """x, g, y may be read-only; running statistics may be float64 beside a float32 x."""
    x, g, gamma, beta = sample(shape, np.float32)
    expected, stats = forward(x, gamma, beta, relu=True)
    gradients = backward(g, x, stats, gamma, expected)
    running = np.zeros(shape[1]), np.ones(shape[1])
    for a in (x, g, expected):
        a.flags.writeable = False
    y, stats = forward(x, gamma, beta, running, 1.0, relu=True)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(running[0], stats[0] + stats[1])
    for a, b in zip(backward(g, x, stats, gamma, y), gradients, strict=True):
        np.testing.assert_array_equal(a, b)


def test_eps_of_an_exact_fraction():
    """Python's math gives the result for x = 1, 3, where x_hat is -+1 / sqrt(1 + eps)."""
    y, _ = forward(np.array([[1.0], [3.0]]), eps=0.44)
    np.testing.assert_allclose(y.ravel(), [-1 / 1.2, 1 / 1.2], rtol=1e-15)
    assert math.isclose(y[1, 0], 1 / 1.2, rel_tol=1e-15)
