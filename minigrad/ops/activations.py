"""Activations, elementwise primitives too. At kinks the derivative is PyTorch's."""

import math
from typing import Any

import numpy as np

from ..kernels import relu as kernels
from ..kernels.memory import empty
from .elementwise import elementwise, erf, exp, gated, greater, where


def _relu(a: Any) -> Any:
    if not isinstance(a, np.ndarray) or a.dtype.kind != "f" or not a.flags.carray:
        return np.maximum(a, 0)
    out = empty(a.shape, a.dtype)
    kernels.relu(a, out)
    return out


relu = elementwise(
    "relu",
    _relu,
    (lambda g, y, _a: gated(g, y),),
    "max(a, 0); its derivative at 0 is 0",
)
leaky_relu = elementwise(
    "leaky_relu",
    lambda a, negative_slope=0.01: np.where(a > 0, a, a * negative_slope),
    (lambda g, _y, a, negative_slope=0.01: where(greater(a, 0), g, g * negative_slope),),
    "a where a > 0, else negative_slope * a; its derivative at 0 is negative_slope",
    formula="where(a > 0, a, negative_slope * a)",
)
tanh = elementwise(
    "tanh", np.tanh, (lambda g, y, _a: g * (1.0 - y * y),), "hyperbolic tangent of a"
)


def as_float(a: Any) -> Any:
    """a, in float32 unless it holds floats: unsigned integers wrap at -a, booleans have none."""
    a = np.asarray(a)
    return a if a.dtype.kind == "f" else a.astype(np.float32)


def _sigmoid(a: Any) -> Any:
    a = as_float(a)
    e = np.exp(-np.abs(a))  # at most 1: cannot overflow
    return np.where(a >= 0, 1.0, e) / (1.0 + e)


sigmoid = elementwise(
    "sigmoid", _sigmoid, (lambda g, y, _a: g * y * (1.0 - y),), "1 / (1 + exp(-a))"
)


def _softplus(a: Any) -> Any:
    a = as_float(a)
    return np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))


softplus = elementwise(
    "softplus",
    _softplus,
    (lambda g, _y, a: g * sigmoid(a),),
    "log(1 + exp(a)), without overflow",
)


def _gelu(a: Any) -> Any:
    from scipy.special import erfc  # late, as in erf; 1 + erf(a) would cancel for a < 0

    return a * (0.5 * erfc(a * -math.sqrt(0.5)))


def _gelu_vjp(g: Any, _y: Any, a: Any) -> Any:
    cdf = 0.5 * (1.0 + erf(a * math.sqrt(0.5)))
    pdf = exp(-0.5 * (a * a)) * (1.0 / math.sqrt(2.0 * math.pi))
    return g * (cdf + a * pdf)


gelu = elementwise(
    "gelu", _gelu, (_gelu_vjp,), "a * Phi(a), Phi the standard normal distribution function"
)
