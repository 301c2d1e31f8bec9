"""BatchNorm by its formulas in plain loops, against which kernels are measured.

Means and variances are computed exactly, as fractions, and rounded once.
"""

import math
from fractions import Fraction

import numpy as np


def statistics(values):
    """Return the mean and the biased variance of floats, as fractions."""
    ratios = [float(v).as_integer_ratio() for v in values]
    unit = max(below for _, below in ratios)  # all are powers of two
    whole = [above * (unit // below) for above, below in ratios]  # the values, times unit
    n, total = len(whole), sum(whole)
    squares = sum((n * v - total) ** 2 for v in whole)
    return Fraction(total, n * unit), Fraction(squares, n**3 * unit**2)


def deviation(value, mean):
    """Return a float minus a fraction, rounded once."""
    above, below = float(value).as_integer_ratio()
    p, q = mean.numerator, mean.denominator
    return (above * q - p * below) / (below * q)  # Python rounds quotients of integers once


def batch_norm(x, gamma, beta, eps, relu=False, given=None):
    """Return y, mean, biased variance, x_hat and inv_std of x (n, c, ...), in float64.

    given: the mean and variance to use instead of the batch's.
    """
    n, c = x.shape[:2]
    flat = x.reshape(n, c, -1)
    y, x_hat = np.empty(flat.shape), np.empty(flat.shape)
    means, variances, inv_stds = np.empty(c), np.empty(c), np.empty(c)
    for j in range(c):
        if given is None:
            mean, var = statistics(flat[:, j].ravel())
        else:
            mean, var = Fraction(float(given[0][j])), Fraction(float(given[1][j]))
        inv_std = 1.0 / math.sqrt(var + Fraction(eps))
        means[j], variances[j], inv_stds[j] = mean, var, inv_std
        for i in range(n):
            for k in range(flat.shape[2]):
                hat = deviation(flat[i, j, k], mean) * inv_std
                value = hat * (1.0 if gamma is None else float(gamma[j]))
                value += 0.0 if beta is None else float(beta[j])
                x_hat[i, j, k] = hat
                y[i, j, k] = max(value, 0.0) if relu else value
    return y.reshape(x.shape), means, variances, x_hat.reshape(x.shape), inv_stds


def batch_norm_backward(g, x_hat, inv_std, gamma, training=True, y=None):
    """Return dx, dgamma and dbeta, in float64; if y is given, g counts as 0 where y <= 0."""
    n, c = g.shape[:2]
    g = g.reshape(n, c, -1).astype(np.float64)
    if y is not None:
        g = np.where(y.reshape(g.shape) <= 0, 0.0, g)
    hats = x_hat.reshape(g.shape)
    dx, dgamma, dbeta = np.empty(g.shape), np.empty(c), np.empty(c)
    m = n * g.shape[2]
    for j in range(c):
        dbeta[j] = math.fsum(g[:, j].ravel())
        dgamma[j] = math.fsum(g[:, j].ravel() * hats[:, j].ravel())
        scale = inv_std[j] * (1.0 if gamma is None else float(gamma[j]))
        for i in range(n):
            for k in range(g.shape[2]):
                centred = g[i, j, k]
                if training:
                    centred = centred - dbeta[j] / m - hats[i, j, k] * (dgamma[j] / m)
                dx[i, j, k] = scale * centred
    return dx.reshape(x_hat.shape), dgamma, dbeta
