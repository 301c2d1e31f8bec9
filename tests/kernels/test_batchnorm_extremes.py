"""BatchNorm's kernels lose no digit to large means, tiny or huge values, NaN and infinity."""

import numpy as np
import oracles
import pytest
from batchnorm_kernels import COMPILED, DTYPES, EPS, backward, close, forward, sample

pytestmark = pytest.mark.usefixtures("two_threads")


@pytest.mark.parametrize("ratio", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64, 4), (700, 3), (8, 3, 50)], ids=str)
def test_a_mean_far_from_zero_costs_no_digit(shape, dtype, ratio):
    """Exact arithmetic on the stored input is the reference."""
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
def test_an_outlier_as_the_first_value_costs_little(shape, dtype, far):
    """The shift K is then far from the mean, and var may lose 256 units, no more."""
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
    """As the shift of 200 000 values, it would lose 1e-11 of the variance."""
    x = np.random.default_rng(4).standard_normal(shape)
    x.ravel()[0] = 1e9
    _, stats = forward(x)
    np.testing.assert_allclose(stats[3], float(oracles.statistics(x.ravel())[1]), rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("constant", [0.0, -0.0, 0.1, 1e6 + 0.1, -1e-40, 1e30, 1 / 3])
@pytest.mark.parametrize("shape", [(3, 2), (49, 2), (1000, 2), (7, 2, 13), (1, 2, 5000)], ids=str)
def test_constant_channel_gives_beta(shape, constant, dtype):
    """y is exactly beta and the variance exactly 0, for any constant and number of values."""
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
def test_nists_sets_are_exact(name, planes, dtype):
    """No digit of NIST's variances is lost beyond rounding."""
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
def test_huge_and_tiny_values_stay_finite(shape, dtype, size):
    """Results are finite and right where squares leave the dtype's range."""
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


def test_subnormal_values_are_centred():
    """Subnormal float32 values are centred exactly."""
    x = np.array([[1e-45], [3e-45], [0.0], [-4e-45]], np.float32)
    y, _ = forward(x, eps=1e-20)
    np.testing.assert_allclose(y, oracles.batch_norm(x, None, None, 1e-20)[0], rtol=1e-6)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 3, -1])
@pytest.mark.parametrize("shape", [(40, 7), (700, 2), (5, 7, 4)], ids=str)
@pytest.mark.parametrize("relu", [False, True])
def test_poison_stays_in_its_channel(shape, where, poison, relu):
    """The whole channel becomes NaN, also after relu, and no bit of another channel changes."""
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
    """g - mean(g) comes before any factor, so dx is exactly 0 for any constant g."""
    x, g = np.full(shape, 0.3, np.float32), np.full(shape, 0.7, np.float32)
    gamma = np.linspace(0.1, 3.7, shape[1]).astype(np.float32)
    _, stats = forward(x, gamma)
    np.testing.assert_array_equal(backward(g, x, stats, gamma)[0], 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64, 4), (300, 3), (8, 3, 50)], ids=str)
@pytest.mark.usefixtures("threaded")
def test_a_mean_of_g_far_from_zero_costs_no_digit(shape, dtype):
    """The mean of g counts in two parts; x_hat, which may round, is 0 in one channel."""
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
    """1 / sqrt(1e-80) is no float32, but a constant channel gives beta, and stats stay finite."""
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
    """y is NaN or infinite only where (x - mean) / sqrt(var + eps) * gamma + beta is."""
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
    """2**24 + 1 is no float32, nor is 3e38 + 3e38, and each sum wanted such numbers."""
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
def test_infinity_in_g_goes_where_the_formula_has_it(planes, training):
    """dgamma and dbeta are infinite unless another infinity meets it; dx follows the formula."""
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
