"""The layers of nn apply these functions to their input and parameters."""

from collections.abc import Sequence

from .. import ops
from ..arrays import to_ndarray
from ..checks import ABOVE_0, integer, number
from ..engine.tensor import Tensor, TensorLike, as_tensor
from ..errors import ShapeError
from ..ops.shapes import normalize_shape
from ..types import Shape


def linear(input: TensorLike, weight: TensorLike, bias: TensorLike | None = None) -> Tensor:
    """Return input @ weight.T + bias, of shape (..., out).

    input: (..., in); weight: (out, in); bias: (out,) or None. Errors: ShapeError, DtypeError.

    >>> F.linear([[1, 2]], [[10, 1]], [0.5])
    tensor([[12.5]])
    """
    x, w = as_tensor(input, "linear"), as_tensor(weight, "linear: weight")
    b = None if bias is None else as_tensor(bias, "linear: bias")
    return ops.linear(x, w, b)


def dropout(input: TensorLike, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 - p), in training only.

    The result has the shape of input, and mg.manual_seed makes the draw reproducible. Errors:
    ArgumentError unless 0 <= p <= 1. Source: Srivastava et al., 2014, JMLR 15.

    >>> mg.manual_seed(0)
    >>> sorted({*F.dropout(np.ones(100), p=0.2).tolist()}), F.dropout([3], training=False)
    ([0.0, 1.25], tensor([3.]))
    """
    p = number("dropout", "p", p, 0, 1)
    x = as_tensor(input, "dropout")
    return x * ops.keep_mask(x, p=p) if training and p else x


def layer_norm(
    input: TensorLike,
    normalized_shape: int | Sequence[int],
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise over the last dimensions, whose sizes are normalized_shape, by the biased variance.

    weight, bias: Tensors of shape normalized_shape, or None. eps: added to the variance, above 0.
    The result has the shape of input. Errors: ShapeError, DtypeError, ArgumentError. Source: Ba,
    Kiros and Hinton, 2016, arXiv:1607.06450.
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
    y: Tensor = centred * inv_std
    if gamma is not None:
        y = y * gamma
    return y if beta is None else y + beta


def _affine(name: str, given: TensorLike | None, shape: Shape) -> Tensor | None:
    p = None if given is None else as_tensor(given, f"layer_norm: {name}")
    if p is not None and p.shape != shape:
        raise ShapeError(
            f"layer_norm: {name} has shape {p.shape}, expected {shape}, that of normalized_shape"
        )
    return p


def embedding(input: TensorLike, weight: TensorLike, padding_idx: int | None = None) -> Tensor:
    """Return the rows of weight at the integer indices `input`, of shape (..., d).

    input: indices of any shape (...). weight: (n, d). padding_idx: a row that gets no gradient, or
    None. Errors: OutOfRangeError, ShapeError, DtypeError, ArgumentError.
    """
    indices = input if isinstance(input, Tensor) else to_ndarray(input, "embedding")
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
    y: Tensor = ops.where(padded, rows.detach(), rows)
    return y
