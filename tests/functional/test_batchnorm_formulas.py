"""The formulas that learners are given for gamma and beta agree, as they stand, with the engine.

    y = gamma * x_hat + beta,  x_hat = (x - mu) / sqrt(sigma^2 + eps)
    dy/dgamma = x_hat,  dy/dbeta = 1
    dz/dgamma = dz/dy * x_hat,  dz/dbeta = dz/dy           for one example
    gamma <- gamma - eta * dz/dgamma,  beta <- beta - eta * dz/dbeta

The last two lines leave a sum unsaid: gamma and beta, of shape (C,), serve all examples of the
batch, so that their derivatives are the sums of what the examples contribute, of shape (N, C).
"""

import numpy as np
import oracles
import pytest
from batchnorm_cases import fused, normal  # noqa: F401

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim

N, C, EPS, ETA = 6, 4, 1e-5, 0.1


@pytest.fixture
def step():
    """Return x, gamma, beta, y, z, dz/dy and x_hat of one batch, after some training."""
    x, target = 2 + 3 * normal((N, C), np.float64), normal((N, 2), np.float64, 1)
    bn = nn.BatchNorm1d(C).double()
    with mg.no_grad():
        bn.weight.copy_(normal(C, np.float64, 2))
        bn.bias.copy_(normal(C, np.float64, 3))
    weight = normal((2, C), np.float64, 4)

    def z_of(y):
        return F.mse_loss(F.linear(y, weight).tanh(), target)

    y = bn(x)
    z = z_of(y)
    (dz_dy,) = mg.grad(z, y, retain_graph=True)
    x_hat = (x - x.mean(axis=0)) / np.sqrt(((x - x.mean(axis=0)) ** 2).mean(axis=0) + EPS)
    return {
        **{"x": x, "bn": bn, "gamma": bn.weight.numpy().copy(), "beta": bn.bias.numpy().copy()},
        **{"y": y, "z": z, "z_of": z_of, "dz_dy": dz_dy.numpy(), "x_hat": x_hat},
    }


def close(actual, expected):
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def test_gamma_and_beta_begin_as_ones_and_zeros_when_the_layer_is_constructed():
    bn = nn.BatchNorm1d(C)
    assert (bn.weight.tolist(), bn.bias.tolist()) == ([1] * C, [0] * C)
    gamma, beta = bn.weight, bn.bias
    bn(normal((N, C)))
    assert bn.weight is gamma and bn.bias is beta  # forward makes none


def test_y_is_gamma_times_x_hat_plus_beta_with_mu_and_sigma_of_the_batch(step):
    exact, _, _, x_hat, _ = oracles.batch_norm(step["x"], step["gamma"], step["beta"], EPS)
    close(step["x_hat"], x_hat)
    close(step["y"].numpy(), exact)
    close(step["y"].numpy(), step["gamma"] * step["x_hat"] + step["beta"])


def test_dy_dgamma_is_x_hat_and_dy_dbeta_is_1(step):
    """An element of y depends on no other feature's gamma."""
    bn, y = step["bn"], step["y"]
    for i, j in np.ndindex(N, C):
        unit = np.zeros((N, C))
        unit[i, j] = 1
        dgamma, dbeta = mg.grad(y, [bn.weight, bn.bias], unit, retain_graph=True)
        close(dgamma.numpy(), np.eye(C)[j] * step["x_hat"][i, j])
        close(dbeta.numpy(), np.eye(C)[j])


def test_the_elementwise_formulas_are_those_of_one_example(step):
    """With a gamma and a beta for each example, shape (N, C), they hold without a sum."""
    gammas = mg.tensor(np.tile(step["gamma"], (N, 1)), requires_grad=True)
    betas = mg.tensor(np.tile(step["beta"], (N, 1)), requires_grad=True)
    z = step["z_of"](gammas * step["x_hat"] + betas)
    dgammas, dbetas = mg.grad(z, [gammas, betas])
    close(dgammas.numpy(), step["dz_dy"] * step["x_hat"])
    close(dbetas.numpy(), step["dz_dy"])


def test_dz_dgamma_and_dz_dbeta_are_their_sums_over_the_batch(step):
    dgamma, dbeta = (step["dz_dy"] * step["x_hat"]).sum(axis=0), step["dz_dy"].sum(axis=0)
    step["z"].backward()
    close(step["bn"].weight.grad.numpy(), dgamma)
    close(step["bn"].bias.grad.numpy(), dbeta)

    def z_at(gamma, beta):
        return step["z_of"](mg.tensor(gamma * step["x_hat"] + beta)).item()

    gamma, beta, h = step["gamma"], step["beta"], 1e-6
    for j, s in enumerate(h * np.eye(C)):  # and so say differences of z
        by_gamma = (z_at(gamma + s, beta) - z_at(gamma - s, beta)) / (2 * h)
        by_beta = (z_at(gamma, beta + s) - z_at(gamma, beta - s)) / (2 * h)
        np.testing.assert_allclose([by_gamma, by_beta], [dgamma[j], dbeta[j]], rtol=0, atol=1e-8)


def test_the_update_rules_with_the_sum_are_those_of_sgd(step):
    bn = step["bn"]
    step["z"].backward()
    optim.SGD(bn.parameters(), lr=ETA).step()
    close(bn.weight.numpy(), step["gamma"] - ETA * (step["dz_dy"] * step["x_hat"]).sum(axis=0))
    close(bn.bias.numpy(), step["beta"] - ETA * step["dz_dy"].sum(axis=0))
    # As they stand they give every example another gamma: another shape, which NumPy lets pass.
    without = step["gamma"] - ETA * step["dz_dy"] * step["x_hat"]
    assert without.shape == (N, C) and np.ptp(without, axis=0).min() > 1e-4
