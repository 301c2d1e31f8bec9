"""Gradients of both BatchNorms agree with differences, complex step, closed form and invariants.

`sum(BN(x))` has no gradient and `sum(BN(x)**2)` next to none, so a backward that returned zeros
would pass with them: every check here weighs the output by a random cotangent, in float64.
"""

import numpy as np
import pytest
from batchnorm_cases import fused  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim

SHAPES = [(6, 3), (4, 3, 5), (2, 3, 2, 2), (2, 2, 2, 1, 2)]


def wide(p, ndim):
    """Return a parameter of shape (C,), shaped to broadcast along axis 1 of an array."""
    return np.reshape(p, (-1, *[1] * (ndim - 2)))


def parts(x, eps):
    """Return x_hat, inv_std and the axes of the sums, for batch statistics."""
    axes = (0, *range(2, x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    inv_std = 1 / np.sqrt((centred * centred).mean(axes, keepdims=True) + eps)
    return centred * inv_std, inv_std, axes


def closed_form(x, gamma, g, eps):
    """Return dx, dgamma and dbeta of training mode, as the papers have them."""
    x_hat, inv_std, axes = parts(x, eps)
    mean_g, mean_gx = g.mean(axes, keepdims=True), (g * x_hat).mean(axes, keepdims=True)
    dx = wide(gamma, x.ndim) * inv_std * (g - mean_g - x_hat * mean_gx)
    return dx, (g * x_hat).sum(axes), g.sum(axes)


def derived(x, gamma, beta, g, **options):
    """Return y, dx, dgamma and dbeta from the tape."""
    inputs = [mg.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    y = F.batch_norm(inputs[0], weight=inputs[1], bias=inputs[2], training=True, **options)
    y.backward(g)
    return y.numpy(), *(t.grad.numpy() for t in inputs)


def sample(shape, seed=0, offset=0.0, scale=1.0):
    """Return x, gamma, beta and a cotangent; no element of gamma is 0, and signs are random."""
    rng = np.random.default_rng(seed)
    x = offset + scale * rng.standard_normal(shape)
    gamma = rng.uniform(0.5, 2.0, shape[1]) * rng.choice([-1, 1], shape[1])
    return x, gamma, rng.standard_normal(shape[1]), rng.standard_normal(shape)


def assert_close(actual, exact, size, rtol):
    """Check equality within rtol of `size`, the size of terms, which may cancel."""
    np.testing.assert_allclose(actual, exact, rtol=0, atol=rtol * np.max(size))


# --- finite differences -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_finite_differences_of_first_and_second_order(shape, affine, training):
    x, gamma, beta, _ = sample(shape)
    rng = np.random.default_rng(1)
    statistics = rng.standard_normal(shape[1]), rng.uniform(0.5, 2.0, shape[1])

    def forward(x, weight=None, bias=None):
        mean, var = (None, None) if training else statistics
        y = F.batch_norm(x, mean, var, weight, bias, training, eps=1e-3)
        return y if training or affine else y * y  # linear in x alone: nothing left to check twice

    inputs = [mg.tensor(a, requires_grad=True) for a in (x, gamma, beta)[: 3 if affine else 1]]
    assert mg.gradcheck(forward, inputs, order=2, atol=1e-7)


def test_the_running_statistics_of_eval_mode_have_gradients_too():
    """They are not trained, but the composed form differentiates them like any input."""
    x, gamma, beta, _ = sample((5, 3))
    mean, var = np.array([0.5, -1.0, 2.0]), np.array([0.7, 1.0, 3.0])
    inputs = [mg.tensor(a, requires_grad=True) for a in (x, mean, var, gamma, beta)]
    assert mg.gradcheck(F.batch_norm, inputs, order=2, atol=1e-7)


def test_a_sum_of_outputs_has_no_gradient_and_gradcheck_says_so():
    x, gamma, beta, _ = sample((6, 3))
    ones = np.ones((6, 3))
    _, dx, dgamma, dbeta = derived(x, gamma, beta, ones)
    assert np.abs(dx).max() < 1e-14
    assert np.abs(dgamma).max() < 1e-14
    np.testing.assert_array_equal(dbeta, [6.0] * 3)
    leaf = mg.tensor(x, requires_grad=True)
    with pytest.warns(UserWarning, match="zero within noise"):
        mg.gradcheck(lambda x: F.batch_norm(x, training=True).sum(), leaf)


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 1e-1])
def test_a_sum_of_squares_has_next_to_none(eps):
    """sum of x_hat^2 is n var / (var + eps): only eps keeps its gradient from being zero."""
    x = sample((6, 3))[0]
    leaf = mg.tensor(x, requires_grad=True)
    (F.batch_norm(leaf, training=True, eps=eps) ** 2).sum().backward()
    x_hat, inv_std, _ = parts(x, eps)
    terms = 2 * x_hat * inv_std
    assert_close(leaf.grad.numpy(), terms * (eps * inv_std**2), np.abs(terms), 1e-14)


# --- complex step -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_the_complex_step_gives_the_same_dx(shape):
    """Im f(x + ih) / h with h = 1e-30 has no cancellation: it is exact to rounding."""
    x, gamma, beta, g = sample(shape)
    eps, step = 1e-3, 1e-30

    def loss(x, gamma, beta):
        return np.sum(g * (parts(x, eps)[0] * wide(gamma, x.ndim) + wide(beta, x.ndim)))

    inputs = (x, gamma, beta)
    for i, gradient in enumerate(derived(*inputs, g, eps=eps)[1:]):
        exact = np.empty(gradient.shape)
        for index in np.ndindex(gradient.shape):
            shifted = [a.astype(complex) for a in inputs]
            shifted[i][index] += 1j * step
            exact[index] = loss(*shifted).imag / step
        assert_close(gradient, exact, np.abs(exact), 2e-15)


# --- closed form and invariants -----------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_closed_form(shape):
    x, gamma, beta, g = sample(shape, seed=2)
    _, *gradients = derived(x, gamma, beta, g)
    for actual, exact in zip(gradients, closed_form(x, gamma, g, 1e-5), strict=True):
        assert_close(actual, exact, np.abs(exact), 1e-14)


def test_closed_form_in_eval_mode():
    x, gamma, beta, g = sample((4, 3, 5), seed=3)
    mean, var = np.array([0.5, -1.0, 2.0]), np.array([0.7, 1.0, 3.0])
    inputs = [mg.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    F.batch_norm(inputs[0], mean, var, *inputs[1:], eps=0.1).backward(g)
    inv_std = 1 / np.sqrt(wide(var, 3) + 0.1)
    exact = (
        g * wide(gamma, 3) * inv_std,
        (g * (x - wide(mean, 3)) * inv_std).sum((0, 2)),
        g.sum((0, 2)),
    )
    for t, values in zip(inputs, exact, strict=True):
        assert_close(t.grad.numpy(), values, np.abs(values), 1e-14)


@settings(max_examples=60)
@given(
    st.tuples(st.integers(2, 9), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
    st.integers(2, 4),
    st.floats(1e-8, 1.0),
    st.floats(1e-3, 1e3),
    st.floats(-100, 100),
    st.integers(0, 2**32),
)
def test_closed_form_and_invariants_for_any_batch(shape, ndim, eps, scale, offset, seed):
    """With gamma = 1, dx sums to 0, and dx * x_hat to a value that eps alone keeps from 0.

    The value is sum(g * x_hat) * inv_std * eps / (var + eps). The offset counts in standard
    deviations.
    """
    x, gamma, beta, g = sample(shape[:ndim], seed, offset * scale, scale)
    x_hat, inv_std, axes = parts(x, eps)
    y, dx, dgamma, dbeta = derived(x, gamma, beta, g, eps=eps)
    assert_close(y, x_hat * wide(gamma, ndim) + wide(beta, ndim), np.abs(y), 1e-11)
    exact = closed_form(x, gamma, g, eps)
    # Two values per channel make x_hat = +-1 and dx a difference of nearly equal terms.
    size = np.abs(wide(gamma, ndim) * inv_std) * np.abs(g).max()
    assert_close(dx, exact[0], size, 1e-11)
    assert_close(dgamma, exact[1], np.abs(g * x_hat).sum(axes), 1e-11)
    assert_close(dbeta, exact[2], np.abs(g).sum(axes), 1e-14)

    dx = derived(x, np.ones(shape[1]), beta, g, eps=eps)[1]
    n = x.size // shape[1]
    size = n * inv_std * np.abs(g).max()
    assert_close(dx.sum(axes), 0, size, 1e-11)
    expected = (g * x_hat).sum(axes, keepdims=True) * inv_std * (eps * inv_std**2)
    assert_close((dx * x_hat).sum(axes, keepdims=True), expected, size, 1e-11)


# --- what each path contributes -----------------------------------------------------------------


def test_the_path_from_the_mean_through_the_variance_is_zero_and_no_other_is():
    """A constant mean in the variance changes nothing; elsewhere a constant loses its term."""
    x, gamma, _, g = sample((6, 3))
    x_hat, inv_std, _ = parts(x, 1e-5)
    mean_g, mean_gx = g.mean(0), (g * x_hat).mean(0)

    def gradient(centring="live", variance_about="live", constant_variance=False):
        leaf = mg.tensor(x, requires_grad=True)
        mean = leaf.mean(0)
        means = {"live": mean, "constant": mean.detach()}
        var = ((leaf - means[variance_about]) ** 2).mean(0)
        inv_std = 1 / ((var.detach() if constant_variance else var) + 1e-5).sqrt()
        ((leaf - means[centring]) * inv_std * gamma).backward(g)
        return leaf.grad.numpy()

    for terms, actual in [
        (g - mean_g - x_hat * mean_gx, gradient()),
        (g - mean_g - x_hat * mean_gx, gradient(variance_about="constant")),
        (g - x_hat * mean_gx, gradient(centring="constant")),
        (g - mean_g, gradient(constant_variance=True)),
    ]:
        exact = gamma * inv_std * terms
        assert_close(actual, exact, np.abs(exact), 1e-14)


# --- the update of gamma and beta ---------------------------------------------------------------


def test_sgd_takes_the_sum_over_the_batch_of_dz_dy_times_x_hat():
    """SGD moves gamma by -lr * sum of dz/dy * x_hat, and beta by -lr * sum of dz/dy.

    dz/dy * x_hat and dz/dy are per example, of the shape of x. Every example uses the parameters,
    of shape (C,), so their gradients are sums over the batch.
    """
    lr = 0.1
    rng = np.random.default_rng(4)
    x, target = rng.standard_normal((8, 3)), rng.standard_normal((8, 3))
    bn = nn.BatchNorm1d(3).double()
    sgd = optim.SGD(bn.parameters(), lr=lr)
    gamma, beta = np.ones(3), np.zeros(3)
    for _ in range(5):
        sgd.zero_grad()
        F.mse_loss(bn(x), target).backward()
        sgd.step()

        x_hat = parts(x, bn.eps)[0]
        dz_dy = 2 * (gamma * x_hat + beta - target) / target.size
        per_example = dz_dy * x_hat
        assert per_example.shape == (8, 3) != bn.weight.shape
        for wrong in (per_example[0], per_example.mean(0)):  # one example, or the mean of all
            assert not np.allclose(gamma - lr * wrong, bn.weight.numpy(), atol=1e-4)
        gamma = gamma - lr * per_example.sum(axis=0)
        beta = beta - lr * dz_dy.sum(axis=0)
        np.testing.assert_allclose(bn.weight.numpy(), gamma, rtol=1e-13)
        np.testing.assert_allclose(bn.bias.numpy(), beta, rtol=1e-12)
