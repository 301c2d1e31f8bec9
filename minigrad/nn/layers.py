"""These layers are Linear, Embedding, LayerNorm, Dropout, Flatten and Identity."""

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from .. import functional as F
from .. import ops
from ..checks import ABOVE_0, flag, integer, number
from ..engine.tensor import Tensor, TensorLike, as_tensor
from ..ops.random import generator
from ..types import Shape
from .module import Module
from .parameter import Parameter

X = TypeVar("X")


def _uniform(shape: Shape, bound: float) -> Parameter:
    return Parameter(generator().uniform(-bound, bound, shape).astype(np.float32))


class Linear(Module):
    """A layer that computes x @ weight.T + bias, for x of shape (..., in_features).

    weight: (out_features, in_features), bias: (out_features,) or None; both drawn uniformly from
    -1/sqrt(in_features) to 1/sqrt(in_features), as in PyTorch (He initialisation with a = sqrt 5).
    Before a BatchNorm the bias is useless: the mean that is subtracted contains it. Errors:
    ArgumentError, DtypeError.

    >>> [p.shape for p in nn.Linear(3, 2).parameters()], nn.Linear(3, 2)(np.ones((5, 3))).shape
    ([(2, 3), (2,)], (5, 2))
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features = integer("Linear", "in_features", in_features, 1)
        self.out_features = integer("Linear", "out_features", out_features, 1)
        bound = 1.0 / math.sqrt(self.in_features)
        self.weight = _uniform((self.out_features, self.in_features), bound)
        biased = flag("Linear", "bias", bias)
        self.bias = _uniform((self.out_features,), bound) if biased else None

    def forward(self, x: TensorLike) -> Tensor:
        """Return y, (..., out_features), of x, (..., in_features)."""
        return ops.linear(as_tensor(x, "linear"), self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """A layer that looks up rows of its weight, (num_embeddings, embedding_dim), by integer index.

    The weight is drawn from N(0, 1). padding_idx: a row that begins at zero and gets no gradient.
    Errors: ArgumentError; in calls, OutOfRangeError for an index without a row.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None
    ) -> None:
        n = integer("Embedding", "num_embeddings", num_embeddings, 1)
        width = integer("Embedding", "embedding_dim", embedding_dim, 1)
        if padding_idx is not None:
            padding_idx = integer("Embedding", "padding_idx", padding_idx, -n, n - 1)
        self.padding_idx = padding_idx
        rows = generator().standard_normal((n, width), dtype=np.float32)
        if padding_idx is not None:
            rows[padding_idx] = 0.0
        self.weight = Parameter(rows)

    def forward(self, x: TensorLike) -> Tensor:
        """Return the rows, (..., embedding_dim), at the integer indices x, (...)."""
        return F.embedding(x, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return "{}, {}".format(*self.weight.shape) + padding


class LayerNorm(Module):
    """A layer that normalises over the last dimensions, normalized_shape; see F.layer_norm.

    weight begins at one and bias at zero, both of that shape, or they are None with
    elementwise_affine=False. eps: added to the variance, above 0. Errors: ArgumentError.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        sizes = normalized_shape if isinstance(normalized_shape, Iterable) else (normalized_shape,)
        shape = tuple(integer("LayerNorm", "normalized_shape", n, 1) for n in tuple(sizes) or (0,))
        self.normalized_shape = shape
        self.eps = number("LayerNorm", "eps", eps, ABOVE_0)
        self.weight = Parameter(np.ones(shape, np.float32)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(shape, np.float32)) if elementwise_affine and bias else None

    def forward(self, x: TensorLike) -> Tensor:
        """Return y of the shape of x."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class Dropout(Module):
    """A layer that zeroes elements with probability p and scales the others by 1 / (1 - p).

    In eval() it returns its input.

    Errors: ArgumentError unless 0 <= p <= 1. See F.dropout.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = number("Dropout", "p", p, 0, 1)

    def forward(self, x: TensorLike) -> Tensor:
        """Return y of the shape of x."""
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Flatten(Module):
    """A layer that joins the dimensions from start_dim to end_dim: by default all but the batch.

    >>> nn.Flatten()(np.ones((2, 3, 4))).shape
    (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: TensorLike) -> Tensor:
        """Return x, (N, ...), as (N, product of ...) by default."""
        return as_tensor(x, "Flatten").flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """A layer that returns its input."""

    def forward(self, x: X) -> X:
        """Return x itself."""
        return x
