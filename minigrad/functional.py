"""Functions of Tensors, composed of primitives: activations, losses, normalisation, dropout.

Names, arguments and defaults are PyTorch's. Inputs may be Tensors or arrays (constants). Errors:
ShapeError, DtypeError, ArgumentError and OutOfRangeError name the function, what came and what
was expected. May import batchnorm, tensor, ops and below.
"""

import math
from collections.abc import Sequence
from typing import Any

from . import ops
from .arrays import plain
from .batchnorm import batch_norm
from .checks import ABOVE_0, integer, number
from .errors import ArgumentError, ShapeError
from .losses import binary_cross_entropy_with_logits, cross_entropy, mse_loss, nll_loss
from .ops.shapes import normalize_axis, normalize_shape
from .tensor import Tensor, as_tensor

__all__ = [
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "mse_loss",
    "nll_loss",
    "relu",
    "sigmoid",
    "softmax",
    "softplus",
    "tanh",
]


def relu(input: Any) -> Tensor:
    """max(input, 0), elementwise, in the shape and dtype of input; its derivative at 0 is 0."""
    return ops.relu(as_tensor(input, "relu"))  # type: ignore[no-any-return]


def sigmoid(input: Any) -> Tensor:
    """1 / (1 + exp(-input)), elementwise, in the shape of input; no input overflows."""
    return ops.sigmoid(as_tensor(input, "sigmoid"))  # type: ignore[no-any-return]


def tanh(input: Any) -> Tensor:
    """Hyperbolic tangent, elementwise, in the shape of input."""
    return ops.tanh(as_tensor(input, "tanh"))  # type: ignore[no-any-return]


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """input @ weight.T + bias, for input (..., in), weight (out, in), bias (out,) or None.

    Returns (..., out). Errors: ShapeError, DtypeError.

    >>> F.linear([[1, 2]], [[10, 1]], [0.5])
    tensor([[12.5]])
    """
    x, w = as_tensor(input, "linear"), as_tensor(weight, "linear: weight")
    b = None if bias is None else as_tensor(bias, "linear: bias")
    return ops.linear(x, w, b)  # type: ignore[no-any-return]


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Tensor:
    """input where positive, negative_slope * input elsewhere; the shape of input.

    Errors: ArgumentError for a slope that is no number. Source: Maas, Hannun and Ng, 2013.
    """
    x = as_tensor(input, "leaky_relu")
    slope = number("leaky_relu", "negative_slope", negative_slope)
    return ops.leaky_relu(x, negative_slope=slope)  # type: ignore[no-any-return]


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """input * Phi(input), exact, or with approximate="tanh" by the well-known tanh formula.

    Phi is the normal distribution function; the shape of input. Errors: ArgumentError.
    Source: Hendrycks and Gimpel, 2016, arXiv:1606.08415.
    """
    if approximate == "none":
        return ops.gelu(as_tensor(input, "gelu"))  # type: ignore[no-any-return]
    if approximate != "tanh":
        raise ArgumentError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    # Beyond 40, tanh is -1 or 1 and its derivative is 0, and 0 * inf would be NaN.
    x = ops.maximum(as_tensor(input, "gelu"), -40.0)
    near = ops.minimum(x, 40.0)
    inner = math.sqrt(2.0 / math.pi) * (near + 0.044715 * near**3)
    return 0.5 * x * (1.0 + inner.tanh())  # type: ignore[no-any-return]


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * input)) / beta; `threshold` is taken for PyTorch's sake only.

    PyTorch returns the input itself where beta * input > threshold; minigrad does so beyond 40,
    where that is exact. The shape of input. Errors: ArgumentError unless beta > 0.
    """
    beta = number("softplus", "beta", beta, ABOVE_0)
    x = as_tensor(input, "softplus")
    if beta == 1:
        return ops.softplus(x)  # type: ignore[no-any-return]
    scaled = x * beta  # which may overflow
    return ops.where(ops.greater(scaled, 40.0), x, ops.softplus(scaled) / beta)  # type: ignore[no-any-return]


def softmax(input: Any, axis: int = -1) -> Tensor:
    """exp(input) / (sum of exp(input) along the axis), stable for any finite input.

    Returns the shape of input, with sums of 1 along the axis. Errors: ArgumentError, DtypeError.

    >>> F.softmax([[1000, 1000], [0, -1000]])
    tensor([[0.5, 0.5],
            [1. , 0. ]])
    """
    x = as_tensor(input, "softmax")
    return ops.softmax(x, axis=_axis("softmax", x, axis))  # type: ignore[no-any-return]


def log_softmax(input: Any, axis: int = -1) -> Tensor:
    """Logarithm of softmax along the axis, stable for any finite input; otherwise as softmax."""
    x = as_tensor(input, "log_softmax")
    return ops.log_softmax(x, axis=_axis("log_softmax", x, axis))  # type: ignore[no-any-return]


def _axis(name: str, x: Tensor, axis: int) -> int:
    return normalize_axis(name, x.ndim, axis)


def dropout(input: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 - p), in training only.

    The shape of input; the draw follows mg.manual_seed. Errors: ArgumentError unless 0 <= p <= 1.
    Source: Srivastava et al., 2014, JMLR 15.

    >>> mg.manual_seed(0)
    >>> sorted({*F.dropout(np.ones(100), p=0.2).tolist()}), F.dropout([3], training=False)
    ([0.0, 1.25], tensor([3.]))
    """
    p = number("dropout", "p", p, 0, 1)
    x = as_tensor(input, "dropout")
    return x * ops.keep_mask(x, p=p) if training and p else x


def layer_norm(
    input: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise over the last dimensions, `normalized_shape`, with the biased variance.

    weight, bias: of that shape, or None. eps: added to the variance, above 0. Returns the shape of
    input. Errors: ShapeError, ArgumentError. Source: Ba, Kiros and Hinton, 2016, arXiv:1607.06450.
    """
    x = as_tensor(input, "layer_norm")
    shape = normalize_shape("layer_norm", normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError(
            f"layer_norm: input {x.shape} does not end with {shape}, which normalized_shape names"
        )
    gamma, beta = _affine("weight", weight, shape), _affine("bias", bias, shape)
    eps = number("layer_norm", "eps", eps, ABOVE_0)
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    inv_std = ops.inv_std(ops.mean_square(centred, axis=axes, keepdims=True), eps=eps)
    y = centred * inv_std
    if gamma is not None:
        y = y * gamma
    return y if beta is None else y + beta  # type: ignore[no-any-return]


def _affine(name: str, given: Any, shape: tuple[int, ...]) -> Tensor | None:
    p = None if given is None else as_tensor(given, f"layer_norm: {name}")
    if p is not None and p.shape != shape:
        raise ShapeError(
            f"layer_norm: {name} has shape {p.shape}, expected {shape}, that of normalized_shape"
        )
    return p


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Tensor:
    """Rows of weight, shape (n, d), at integer indices of any shape (...): shape (..., d).

    padding_idx: a row that gets no gradient. Errors: OutOfRangeError, DtypeError, ArgumentError.
    """
    indices = input if isinstance(input, Tensor) else plain(input, "embedding")
    w = as_tensor(weight, "embedding: weight")
    if w.ndim != 2:
        raise ShapeError(f"embedding: weight must be (rows, columns), got {w.shape}")
    indices = ops.checked_indices("embedding", indices, w.shape[0])
    rows: Tensor = w[indices]
    if padding_idx is None:
        return rows
    n = w.shape[0]
    padding = integer("embedding", "padding_idx", padding_idx, -n, n - 1) % n
    padded = ops.unsqueeze(ops.equal(indices, padding), -1)
    return ops.where(padded, rows.detach(), rows)  # type: ignore[no-any-return]
