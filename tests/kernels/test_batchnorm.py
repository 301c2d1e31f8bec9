"""The kernels of the fused BatchNorm agree, on plain arrays, with the loops of oracles.py."""

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import oracles
import pytest

from minigrad.kernels import inplace
from minigrad.kernels.batchnorm import entry_points
from minigrad.kernels.threading import pool

ROOT = Path(__file__).parents[2]
COMPILED = not numba.config.DISABLE_JIT
DTYPES = [np.float32, np.float64]
TOLERANCE = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-12}
EPS = 1e-5
# Rows: fewer and more than a block, with and without a rest, narrow and wide. Planes: short, long.
ROWS = [(2, 1), (5, 3), (32, 64), (40, 300), (259, 2), (600, 7), (1, 4), (300, 33)]
PLANES = [(2, 3, 1), (4, 5, 6), (3, 2, 50), (1, 3, 40), (7, 20, 3), (2, 2, 700)]
SHAPES = ROWS + PLANES


@pytest.fixture(autouse=True)
def two_threads():
    """As many as are set in every test; back to the default afterwards."""
    before = pool.get_num_threads()
    pool.set_num_threads(2)
    yield
    pool.set_num_threads(before)


@pytest.fixture(params=[False, True], ids=["whole", "threaded"])
def threaded(request, monkeypatch):
    """Both ways of doing the same: in one call, as below THREADED, or in steps and in threads."""
    monkeypatch.setattr(pool, "THREADED", 1 if request.param else 1 << 60)


def sample(shape, dtype, seed=0):
    """x, g, gamma, beta; some of gamma negative."""
    rng = np.random.default_rng(seed)
    c = shape[1]
    x = 3.0 * rng.standard_normal(shape) + rng.standard_normal((c,) + (1,) * (len(shape) - 2))
    return (*(a.astype(dtype) for a in (x, rng.standard_normal(shape))),
            *(rng.standard_normal(c).astype(dtype) for _ in range(2)))  # fmt: skip


def empty(x, ndim=1):
    return np.empty((0,) * ndim, x.dtype)


def forward(x, gamma=None, beta=None, running=None, factor=0.1, eps=EPS, relu=False, eval=False):
    """y and stats; running: mean and var."""
    gamma, beta = (empty(x) if p is None else p for p in (gamma, beta))
    mean, var = (empty(x), empty(x)) if running is None else running
    y, stats = np.full(x.shape, 77, x.dtype), np.full((5, x.shape[1]), 77.0)
    with np.errstate(all="ignore"):
        if eval:
            entry_points.forward_eval(x, gamma, beta, mean, var, eps, relu, y, stats)
        else:
            entry_points.forward_train(x, gamma, beta, eps, relu, y, stats)
            n = x.size // max(x.shape[1], 1)
            if running is not None and n:
                inplace.running(mean, var, stats[4], stats[3], factor, n / max(n - 1, 1))
    return y, stats


def backward(g, x, stats, gamma=None, y=None, training=True, wanted=(True, True, True)):
    """dx, dgamma, dbeta; an empty array for what is not needed."""
    gamma = empty(x) if gamma is None else gamma
    y = empty(x, x.ndim) if y is None else y
    dx = np.full(x.shape, 77, x.dtype) if wanted[0] else empty(x, x.ndim)
    dgamma, dbeta = (np.full(x.shape[1], 77, x.dtype) if n else empty(x) for n in wanted[1:])
    with np.errstate(all="ignore"):
        entry_points.backward(g, x, y, gamma, stats, training, dx, dgamma, dbeta)
    return dx, dgamma, dbeta


def close(got, expected, factor=1.0):
    """The largest error, measured by the largest value, is within the dtype's tolerance."""
    scale = np.max(np.abs(expected)) + np.finfo(got.dtype).tiny
    error = np.max(np.abs(got.astype(np.float64) - expected)) / scale
    assert error <= factor * TOLERANCE[got.dtype], error


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("threaded")
def test_training(shape, dtype, relu):
    """Forward, running statistics and backward."""
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
def test_evaluation(shape, dtype, relu):
    """The running statistics count, and are constants to the gradient."""
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
def test_without_gamma_or_beta(shape, eval):
    """An absent gamma is 1, an absent beta 0; each for itself."""
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
    """Central differences of a random functional, along random directions of x, gamma, beta."""
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
    """With gamma 1: sum(dx) = 0, sum(dx * x_hat) = sum(g * x_hat) * inv_std * eps / (var + eps)."""
    x, g, *_ = sample(shape, np.float64)
    x_hat, stats = forward(x, eps=0.5)
    dx, dgamma, _ = backward(g, x, stats)
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(dx.sum(axes), 0.0, atol=1e-13)
    expected = dgamma * stats[2] * 0.5 / (stats[3] + 0.5)
    np.testing.assert_allclose((dx * x_hat).sum(axes), expected, rtol=1e-12)


# Channels that do not fit L2 together, planes longer than one run of a sum; rows in several blocks,
# a rest among them, and so many that sums take long runs.
LARGE_SHAPES = (
    [(2, 5, 50_000), (1100, 257), (71, 1601), (70_000, 4), (2, 131_100)] if COMPILED else []
)


@pytest.mark.parametrize("shape", [(2, 3, 9_000), (530, 65), *LARGE_SHAPES], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large(shape, dtype):
    """Against the formulas in extended precision."""
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


# --- numbers at their limits ----------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64, 4), (700, 3), (8, 3, 50)], ids=str)
def test_mean_far_from_zero(shape, dtype, ratio):
    """Measured by exact arithmetic on the stored input; PyTorch's float32 loses 5e-2 at 1e6."""
    x = (np.random.default_rng(3).standard_normal(shape) + ratio).astype(dtype)
    y, stats = forward(x)
    expected, _, var, x_hat, inv_std = oracles.batch_norm(x, None, None, EPS)
    close(y, expected)
    np.testing.assert_allclose(stats[3], var, rtol=1e-12)
    g = (2.0 + np.random.default_rng(4).standard_normal(shape)).astype(dtype)
    wanted = oracles.batch_norm_backward(g, x_hat, inv_std, None)
    for a, b in zip(backward(g, x, stats), wanted, strict=True):
        close(a, b, 10.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("far", [1e6, -1e12])
@pytest.mark.parametrize("shape", [(700, 3), (1, 3, 700), (70, 3, 10)], ids=str)
def test_first_value_is_an_outlier(shape, dtype, far):
    """K, taken of the first values, is then far from the mean: var may lose 256 units, no more."""
    x = np.random.default_rng(4).standard_normal(shape).astype(dtype)
    x[0] = far
    y, stats = forward(x)
    expected, _, var, _, _ = oracles.batch_norm(x, None, None, EPS)
    close(y, expected)
    np.testing.assert_allclose(stats[3], var, rtol=1e-12)


@pytest.mark.sampled(3)
@pytest.mark.skipif(not COMPILED, reason="takes long as Python")
@pytest.mark.parametrize("shape", [(200_000, 1), (1, 1, 200_000), (50_000, 1, 4)], ids=str)
def test_a_first_value_alone_would_not_do(shape):
    """As the shift of 200 000 values it would lose 1e-11 of the variance."""
    x = np.random.default_rng(4).standard_normal(shape)
    x.ravel()[0] = 1e9
    _, stats = forward(x)
    np.testing.assert_allclose(stats[3], float(oracles.statistics(x.ravel())[1]), rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("constant", [0.0, -0.0, 0.1, 1e6 + 0.1, -1e-40, 1e30, 1 / 3])
@pytest.mark.parametrize("shape", [(3, 2), (49, 2), (1000, 2), (7, 2, 13), (1, 2, 5000)], ids=str)
def test_constant_channel_gives_beta(shape, constant, dtype):
    """Exactly, with a variance of exactly 0, whatever the constant and the number of values."""
    x = np.full(shape, constant, dtype)
    gamma, beta = np.array([3.7, -1e3], dtype), np.array([0.3, -2.1], dtype)
    running = np.full(2, 5.0, dtype), np.full(2, 5.0, dtype)
    y, stats = forward(x, gamma, beta, running, 1.0)
    expected = np.broadcast_to(beta.reshape(2, *[1] * (x.ndim - 2)), shape)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(stats[3], 0.0)
    np.testing.assert_array_equal(running[0], dtype(constant))
    np.testing.assert_array_equal(running[1], 0.0)


NIST = {
    "NumAcc1": [10000001.0, 10000003.0, 10000002.0],
    "NumAcc2": [1.2] + [1.1, 1.3] * 500,
    "NumAcc3": [1000000.2] + [1000000.1, 1000000.3] * 500,
    "NumAcc4": [10000000.2] + [10000000.1, 10000000.3] * 500,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("name", NIST)
def test_nists_sets(name, planes, dtype):
    """No digit is lost beyond rounding."""
    x = np.array(NIST[name], dtype)
    x = x.reshape(1, 1, -1) if planes else x.reshape(-1, 1)
    y, stats = forward(x)
    expected, mean, var, _, _ = oracles.batch_norm(x, None, None, EPS)
    np.testing.assert_allclose(stats[3], var, rtol=2e-14)
    np.testing.assert_allclose(stats[0] + stats[1], mean, rtol=2.3e-16)
    # In NumAcc2 the first element is the mean but for 2e-16.
    np.testing.assert_allclose(y, expected, rtol=1e-14 if dtype is np.float64 else 4e-7, atol=1e-14)


@pytest.mark.parametrize(
    ("dtype", "size"),
    [(np.float32, 1e30), (np.float32, 1e37), (np.float64, 1e150), (np.float64, 1e-150)],
)
@pytest.mark.parametrize("shape", [(300, 3), (3, 3, 100)], ids=str)
def test_huge_and_tiny_values(shape, dtype, size):
    """Finite and right where squares leave the dtype's range."""
    x = (size * np.random.default_rng(5).standard_normal(shape)).astype(dtype)
    g = np.random.default_rng(6).standard_normal(shape).astype(dtype)
    eps = EPS if size > 1.0 else 1e-305
    y, stats = forward(x, eps=eps)
    expected, *_, x_hat, inv_std = oracles.batch_norm(x, None, None, eps)
    close(y, expected)
    for a, b in zip(backward(g, x, stats), oracles.batch_norm_backward(g, x_hat, inv_std, None),
                    strict=True):  # fmt: skip
        if size < 1e37 or a.ndim == 1:  # there dx is among the subnormal numbers
            close(a, b, 20.0)
    assert np.isfinite(y).all()


def test_subnormal_values():
    """Those of float32 are centred exactly."""
    x = np.array([[1e-45], [3e-45], [0.0], [-4e-45]], np.float32)
    y, _ = forward(x, eps=1e-20)
    np.testing.assert_allclose(y, oracles.batch_norm(x, None, None, 1e-20)[0], rtol=1e-6)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 3, -1])
@pytest.mark.parametrize("shape", [(40, 7), (700, 2), (5, 7, 4)], ids=str)
@pytest.mark.parametrize("relu", [False, True])
def test_poison_stays_in_its_channel(shape, where, poison, relu):
    """All of that channel becomes NaN, also after relu, and no bit of another one changes."""
    x, g, gamma, beta = sample(shape, np.float32)
    clean, clean_stats = forward(x, gamma, beta, relu=relu)
    clean_dx = backward(g, x, clean_stats, gamma, clean if relu else None)[0]
    x[where, 1] = poison
    y, stats = forward(x, gamma, beta, relu=relu)
    dx, dgamma, dbeta = backward(g, x, stats, gamma, y if relu else None)
    rest = np.arange(shape[1]) != 1
    assert np.isnan(y[:, 1]).all()
    assert np.isnan(dx[:, 1]).all()
    assert np.isnan(dgamma[1])
    assert np.isfinite(dbeta).all()
    np.testing.assert_array_equal(y[:, rest], clean[:, rest])
    np.testing.assert_array_equal(dx[:, rest], clean_dx[:, rest])


@pytest.mark.parametrize("shape", [(64, 4), (300, 3), (8, 3, 50)], ids=str)
@pytest.mark.usefixtures("threaded")
def test_constant_g_and_constant_channel_give_no_dx(shape):
    """g - mean(g) comes before any factor: exactly 0, of a g that no power of two divides."""
    x, g = np.full(shape, 0.3, np.float32), np.full(shape, 0.7, np.float32)
    gamma = np.linspace(0.1, 3.7, shape[1]).astype(np.float32)
    _, stats = forward(x, gamma)
    np.testing.assert_array_equal(backward(g, x, stats, gamma)[0], 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64, 4), (300, 3), (8, 3, 50)], ids=str)
@pytest.mark.usefixtures("threaded")
def test_mean_of_g_far_from_zero(shape, dtype):
    """The mean of g counts in two parts; in a channel where x_hat, which may round, is 0."""
    x, g, gamma, _ = sample(shape, dtype)
    x[...] = 0.3
    g += dtype(1e4)
    _, stats = forward(x, gamma)
    *_, x_hat, inv_std = oracles.batch_norm(x, gamma, None, EPS)
    dx = backward(g, x, stats, gamma)[0]
    close(dx, oracles.batch_norm_backward(g, x_hat, inv_std, gamma)[0], 10.0)


@pytest.mark.parametrize("shape", [(40, 3), (8, 3, 50)], ids=str)
@pytest.mark.parametrize("eval", [False, True])
@pytest.mark.usefixtures("threaded")
def test_eps_whose_root_leaves_the_dtype(shape, eval):
    """1 / sqrt(1e-80) is no float32: a constant channel gives beta even so, and finite stats."""
    x = np.full(shape, 0.3, np.float32)
    gamma, beta = np.array([3.7, -1e3, 0.1], np.float32), np.array([0.3, -2.1, 0], np.float32)
    running = x[0].reshape(3, -1)[:, 0].copy(), np.zeros(3, np.float32)
    y, stats = forward(x, gamma, beta, running, eps=1e-80, eval=eval)
    np.testing.assert_array_equal(y, np.broadcast_to(beta.reshape(3, *[1] * (x.ndim - 2)), shape))
    assert np.isfinite(stats).all()
    g = np.ones(shape, np.float32)
    dx, dgamma, _ = backward(g, x, stats, gamma, training=not eval)
    np.testing.assert_array_equal(dgamma, 0.0)
    assert not np.isnan(dx).any()
    if not eval:
        np.testing.assert_array_equal(dx, 0.0)


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_at_the_limits_of_evaluation(dtype, planes):
    """NaN and inf just where x - mean, over the square root, times gamma, plus beta has them."""
    x = np.array([1.0, 0.0, -1.0], dtype).reshape((1, 1, 3) if planes else (3, 1))
    one, half, inf = np.array([1.0], dtype), np.array([0.5], dtype), np.array([np.inf], dtype)
    zero, g = np.zeros(1, dtype), np.ones_like(x)
    for mean, var, eps, expected in (
        (zero, zero, 0.0, [np.inf, np.nan, -np.inf]),
        (np.array([1 / 3]), zero, 0.0, [np.inf, -np.inf, -np.inf]),
        (inf, one, EPS, [-np.inf] * 3),
        (-inf, one, EPS, [np.inf] * 3),
        (zero, inf, EPS, [0.5] * 3),
        (np.nan * one, one, EPS, [np.nan] * 3),
        (zero, -one, EPS, [np.nan] * 3),
    ):
        y, stats = forward(x, one, half, (mean, var), eps=eps, eval=True)
        np.testing.assert_array_equal(y.ravel(), expected)
        np.testing.assert_array_equal(stats[4], mean)
        x_hat = np.array(expected) - 0.5
        dgamma = backward(g, x, stats, one, training=False)[1]
        if np.isinf(mean):
            np.testing.assert_array_equal(dgamma, x_hat.sum())


@pytest.mark.parametrize("shape", [(64, 64), (64, 5), (4, 64, 16)], ids=str)
@pytest.mark.usefixtures("threaded")
def test_sums_over_g_are_in_float64(shape):
    """All of them: 2**24 + 1 is no float32, nor is 3e38 + 3e38, with x_hat between."""
    x = np.ones(shape, np.float32)
    x[::2] = -1.0
    _, stats = forward(x)
    size = x.size // shape[1]
    for far, near in ((2.0**24, 1.0), (3e38, 0.0)):
        for sign in (1.0, -1.0):
            g = np.full(shape, near, np.float32)
            flat = g.swapaxes(0, 1).reshape(shape[1], -1) if g.ndim == 3 else g.T
            flat[:, : size // 4] = far
            flat[:, size // 4 : size // 2] = -far * sign
            g = np.ascontiguousarray(flat.reshape(shape[1], shape[0], -1).swapaxes(0, 1))
            g = g.reshape(shape)
            wide = g.astype(np.float64)
            axes = (0, *range(2, x.ndim))
            _, dgamma, dbeta = backward(g, x, stats)
            expected = (wide * x).sum(axes) * stats[2], wide.sum(axes)
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(dgamma, expected[0].astype(np.float32))
                np.testing.assert_array_equal(dbeta, expected[1].astype(np.float32))


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_infinity_in_g(planes, training):
    """dgamma and dbeta are infinite where no other infinity meets it; dx as the formula has it."""
    rng = np.random.default_rng(7)
    shape = (2, 2, 20) if planes else (40, 2)
    x, g, gamma, beta = sample(shape, np.float32, seed=7)
    running = rng.standard_normal(2), rng.random(2)  # in two parts, with a rest that is not 0
    _, stats = forward(x, gamma, beta, running, eval=not training)
    assert stats[1].all()
    clean = backward(g, x, stats, gamma, training=training)
    for sign in (1, -1):
        g[:, 0] = 1.0
        g[(0, 0, 0) if planes else (0, 0)] = sign * np.inf
        dx, dgamma, dbeta = backward(g, x, stats, gamma, training=training)
        hat = (x[0, 0].ravel()[0] - stats[4, 0]) * sign
        assert (dgamma[0], dbeta[0]) == (np.copysign(np.inf, hat), sign * np.inf)
        if training:
            assert np.isnan(dx[:, 0]).all()
        else:
            assert np.isinf(dx[:, 0]).sum() == 1
            assert not np.isnan(dx).any()
        np.testing.assert_array_equal(dx[:, 1], clean[0][:, 1])
        assert (dgamma[1], dbeta[1]) == (clean[1][1], clean[2][1])


@pytest.mark.parametrize("shape", [(64, 4), (1000, 3), (8, 3, 50)], ids=str)
@pytest.mark.usefixtures("threaded")
def test_evaluation_with_statistics_wider_than_x(shape):
    """A mean in float64 counts in two parts beside a float32 x, where float32 has steps of 0.06."""
    x = (1e6 + np.random.default_rng(8).standard_normal(shape)).astype(np.float32)
    running = np.full(shape[1], 1e6 + 0.03), np.full(shape[1], 1.1)
    y, stats = forward(x, running=running, eval=True)
    expected, *_, x_hat, inv_std = oracles.batch_norm(x, None, None, EPS, given=running)
    close(y, expected)
    g = np.random.default_rng(9).standard_normal(shape).astype(np.float32)
    got = backward(g, x, stats, training=False)
    wanted = oracles.batch_norm_backward(g, x_hat, inv_std, None, training=False)
    for a, b in zip(got, wanted, strict=True):
        close(a, b, 10.0)


# --- what is asked for ----------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(33, 10), (520, 70), (5, 7, 30)], ids=str)
@pytest.mark.usefixtures("threaded")
def test_subsets_equal_the_full_run(shape, dtype, training):
    """Bit for bit, for each of the seven."""
    x, g, gamma, beta = sample(shape, dtype)
    running = np.full(shape[1], 0.5, dtype), np.full(shape[1], 2.0, dtype)
    y, stats = forward(x, gamma, beta, running, relu=True, eval=not training)
    full = backward(g, x, stats, gamma, y, training)
    for mask in range(1, 8):
        wanted = tuple(bool(mask >> i & 1) for i in range(3))
        for part, whole, need in zip(
            backward(g, x, stats, gamma, y, training, wanted), full, wanted, strict=True
        ):
            assert part.tobytes() == (whole.tobytes() if need else b"")


@pytest.mark.skipif(not COMPILED, reason="of compiled code")
@pytest.mark.parametrize("shape", [(64, 1000), (3, 700, 5)], ids=str)
def test_where_empty_arrays_lie_does_not_count(shape):
    """dgamma and dbeta that are absent lie beside what is there, or over it: the same bits."""
    for seed in range(5):
        x, g, gamma, _ = sample(shape, np.float64, seed)
        _, stats = forward(x, gamma)
        none = empty(x, x.ndim)
        results = []
        for over in (np.empty(1), stats, gamma, x):
            absent = over.reshape(-1)[:0]
            dx = np.empty_like(x)
            entry_points.backward(g, x, none, gamma, stats, True, dx, absent, absent)
            results.append(dx.tobytes())
        assert len(set(results)) == 1


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (4, 3, 0), (4, 0), (2, 0, 5)], ids=str)
@pytest.mark.parametrize("eval", [False, True])
def test_empty_batch(shape, eval):
    """Zero dgamma and dbeta, and running statistics as before."""
    x, c = np.empty(shape, np.float32), shape[1]
    running = np.full(c, 0.5, np.float32), np.full(c, 2.0, np.float32)
    y, stats = forward(x, np.ones(c, np.float32), None, running, eval=eval)
    dx, dgamma, dbeta = backward(x, x, stats, training=not eval)
    assert y.shape == dx.shape == shape
    np.testing.assert_array_equal(running, [[0.5] * c, [2.0] * c])
    np.testing.assert_array_equal([dgamma, dbeta], np.zeros((2, c)))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("shape", [(33, 10), (5, 7, 30)], ids=str)
def test_read_only_inputs_and_wide_buffers(shape):
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


# --- threads --------------------------------------------------------------------------------------


def everything(shape, dtype):
    """The bytes of all results of one training step, with and without relu, and of evaluation."""
    x, g, gamma, beta = sample(shape, dtype)
    results = []
    for relu in (False, True):
        running = np.zeros(shape[1], dtype), np.ones(shape[1], dtype)
        y, stats = forward(x, gamma, beta, running, relu=relu)
        results += [y, stats, *running, *backward(g, x, stats, gamma, y if relu else None)]
        results += forward(x, gamma, beta, running, relu=relu, eval=True)
    return [a.tobytes() for a in results]


LARGE = [(1030, 3), (513, 40), (2000, 300), (4, 7, 50), (30, 5, 1000)] if COMPILED else [
    (530, 3), (4, 7, 20)]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_same_bits_in_any_number_of_threads(shape, dtype, monkeypatch):
    """And from run to run, and from several Python threads at once."""
    monkeypatch.setattr(pool, "THREADED", 1)
    pool.set_num_threads(1)
    expected = everything(shape, dtype)
    for n in (2, 3, 5, 2):
        pool.set_num_threads(n)
        assert everything(shape, dtype) == expected
    with ThreadPoolExecutor(4) as executor:
        for got in executor.map(lambda _: everything(shape, dtype), range(8)):
            assert got == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_pieces_equal_the_whole(shape, dtype, monkeypatch):
    """One call, or the same in steps and in threads: the same bits."""
    monkeypatch.setattr(pool, "THREADED", 1 << 60)
    expected = everything(shape, dtype)
    monkeypatch.setattr(pool, "THREADED", 1)
    assert everything(shape, dtype) == expected


ONLY_LOADS = """
import sys
import numpy as np
from minigrad.kernels.batchnorm import entry_points
from minigrad.kernels.jit.decorators import KERNELS

def step(shape):
    x, p, stats = np.ones(shape, "f"), np.ones(shape[1], "f"), np.empty((5, shape[1]))
    y, absent = np.empty_like(x), np.empty(0, "f")
    entry_points.forward_train(x, p, p, 1e-5, False, y, stats)
    none = np.empty((0,) * x.ndim, "f")
    entry_points.backward(x, x, none, p, stats, True, y.copy(), p.copy(), p.copy())
    entry_points.forward_eval(x, p, p, p, p, 1e-5, False, y, stats)

for shape in (8, 4), (1 << 18, 4), (2, 3, 5):
    step(shape)
print(sum(sum(k.stats.cache_misses.values()) for k in KERNELS.values()))
print("numba.np.npyimpl" in sys.modules)
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_a_warm_cache_is_all_that_a_step_needs(tmp_path):
    """For any size, in training and evaluation. A device function that Python called would have to
    be compiled in each process, which imports Numba's compiler."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    command = [sys.executable, "-c", ONLY_LOADS]
    for expected in (None, ["0", "False"]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert expected in (None, done.stdout.split())


def test_eps_of_an_exact_fraction():
    """math, not the oracle, on one channel by hand: x = 1, 3 has x_hat = -+1 / sqrt(1 + eps)."""
    y, _ = forward(np.array([[1.0], [3.0]]), eps=0.44)
    np.testing.assert_allclose(y.ravel(), [-1 / 1.2, 1 / 1.2], rtol=1e-15)
    assert math.isclose(y[1, 0], 1 / 1.2, rel_tol=1e-15)
