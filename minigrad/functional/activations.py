"""Activations map a Tensor to a Tensor of the same shape."""

import math

from .. import ops
from ..checks import ABOVE_0, number
from ..engine.tensor import Tensor, TensorLike, as_tensor
from ..errors import ArgumentError
from ..ops.shapes import normalize_axis


def relu(input: TensorLike) -> Tensor:
    """Return max(input, 0) elementwise, in the shape of input; its derivative at 0 is 0."""
    return ops.relu(as_tensor(input, "relu"))


def sigmoid(input: TensorLike) -> Tensor:
    """Return 1 / (1 + exp(-input)) elementwise, in the shape of input; no input overflows."""
    return ops.sigmoid(as_tensor(input, "sigmoid"))


def tanh(input: TensorLike) -> Tensor:
    """Return the hyperbolic tangent elementwise, in the shape of input."""
    return ops.tanh(as_tensor(input, "tanh"))


def leaky_relu(input: TensorLike, negative_slope: float = 0.01) -> Tensor:
    """Return input where it is positive, and negative_slope * input elsewhere, in input's shape.

    Errors: ArgumentError for a slope that is not a number. Source: Maas, Hannun and Ng, 2013.
    """
    x = as_tensor(input, "leaky_relu")
    slope = number("leaky_relu", "negative_slope", negative_slope)
    return ops.leaky_relu(x, negative_slope=slope)


def gelu(input: TensorLike, approximate: str = "none") -> Tensor:
    """Return input * Phi(input) elementwise, where Phi is the normal distribution function.

    approximate: "none" is exact, "tanh" uses the common tanh formula. Returns the shape of input.
    Errors: ArgumentError.
    Source: Hendrycks and Gimpel, 2016, arXiv:1606.08415.
    """
    if approximate == "none":
        return ops.gelu(as_tensor(input, "gelu"))
    if approximate != "tanh":
        raise ArgumentError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    # Beyond 40, tanh is -1 or 1 and its derivative is 0, and 0 * inf would be NaN.
    x = ops.maximum(as_tensor(input, "gelu"), -40.0)
    near = ops.minimum(x, 40.0)
    inner = math.sqrt(2.0 / math.pi) * (near + 0.044715 * near**3)
    return 0.5 * x * (1.0 + inner.tanh())


def softplus(input: TensorLike, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Return log(1 + exp(beta * input)) / beta elementwise, in the shape of input.

    threshold: ignored, and accepted only because PyTorch has it. PyTorch returns the input itself
        where beta * input > threshold; minigrad does so above 40, where this is exact.
    Errors: ArgumentError unless beta > 0.
    """
    beta = number("softplus", "beta", beta, ABOVE_0)
    x = as_tensor(input, "softplus")
    if beta == 1:
        return ops.softplus(x)
    scaled = x * beta  # may overflow
    return ops.where(ops.greater(scaled, 40.0), x, ops.softplus(scaled) / beta)


def softmax(input: TensorLike, axis: int = -1) -> Tensor:
    """Return exp(input) / (sum of exp(input) along the axis), stable for any finite input.

    The result has the shape of input and sums to 1 along the axis. Errors: ArgumentError,
    DtypeError.

    >>> F.softmax([[1000, 1000], [0, -1000]])
    tensor([[0.5, 0.5],
            [1. , 0. ]])
    """
    x = as_tensor(input, "softmax")
    return ops.softmax(x, axis=_axis("softmax", x, axis))


def log_softmax(input: TensorLike, axis: int = -1) -> Tensor:
    """Return the logarithm of softmax along the axis, stable for any finite input.

    Shapes and errors are those of softmax.
    """
    x = as_tensor(input, "log_softmax")
    return ops.log_softmax(x, axis=_axis("log_softmax", x, axis))


def _axis(name: str, x: Tensor, axis: int) -> int:
    return normalize_axis(name, x.ndim, axis)
