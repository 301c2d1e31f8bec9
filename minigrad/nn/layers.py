"""Layers with weights, and those that reshape, drop or chain."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import functional as F
from .. import ops
from ..checks import ABOVE_0, integer, number
from ..errors import ArgumentError, DtypeError, OutOfRangeError
from ..random import generator
from ..tensor import Tensor, as_tensor
from .module import Module, Parameter


def _uniform(shape: tuple[int, ...], bound: float) -> Parameter:
    return Parameter(generator().uniform(-bound, bound, shape).astype(np.float32))


class Linear(Module):
    """y = x @ weight.T + bias, for x of shape (..., in_features).

    weight: (out_features, in_features), bias: (out_features,) or None; both drawn uniformly from
    -1/sqrt(in_features) to 1/sqrt(in_features), as in PyTorch (He initialisation with a = sqrt 5).
    Before a BatchNorm the bias is useless: the mean that is subtracted contains it.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features = integer("Linear", "in_features", in_features, 1)
        self.out_features = integer("Linear", "out_features", out_features, 1)
        bound = 1.0 / math.sqrt(self.in_features)
        self.weight = _uniform((self.out_features, self.in_features), bound)
        self.bias = _uniform((self.out_features,), bound) if bias else None

    def forward(self, x: Any) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """Rows of weight (num_embeddings, embedding_dim), drawn from N(0, 1), by integer index.

    padding_idx: a row that begins at zero and gets no gradient.
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

    def forward(self, x: Any) -> Tensor:
        """Integer indices (...) to (..., embedding_dim)."""
        return F.embedding(x, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return "{}, {}".format(*self.weight.shape) + padding


class LayerNorm(Module):
    """Normalises over the last dimensions, `normalized_shape`; weight ones, bias zeros."""

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

    def forward(self, x: Any) -> Tensor:
        """y of the shape of x."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class Dropout(Module):
    """Zeroes elements with probability p and scales the rest by 1 / (1 - p); none in eval()."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = number("Dropout", "p", p, 0, 1)

    def forward(self, x: Any) -> Tensor:
        """y of the shape of x."""
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Flatten(Module):
    """Makes the dimensions start_dim to end_dim, inclusive, one: by default all but the batch."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Any) -> Tensor:
        """(N, ...) to (N, product of ...), by default."""
        return ops.flatten(as_tensor(x, "Flatten"), self.start_dim, self.end_dim)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """Returns its input."""

    def forward(self, x: Any) -> Any:
        """x itself."""
        return x


class Sequential(Module):
    """Modules one after the other, under the names "0", "1", ... or those of a dict."""

    def __init__(self, *modules: Module | dict[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], dict):
            named = modules[0]
        else:
            named = {str(i): m for i, m in enumerate(modules)}  # type: ignore[misc]
        for name, module in named.items():
            if not isinstance(module, Module):
                raise DtypeError(
                    f"Sequential: expected Modules, got {type(module).__name__} at {name!r}"
                )
            if not isinstance(name, str) or not name or "." in name or hasattr(Module, name):
                raise ArgumentError(
                    f"Sequential: {name!r} does not serve as a name; it must be a non-empty string "
                    "without a dot, and none that Module has itself"
                )
            setattr(self, name, module)

    def forward(self, x: Any) -> Any:
        """The output of the last module."""
        for module in self:
            x = module(x)
        return x

    def __iter__(self) -> Iterator[Module]:
        return iter([v for v in vars(self).values() if isinstance(v, Module)])

    def __len__(self) -> int:
        return len(list(self.children()))

    def __getitem__(self, i: int | slice) -> Any:
        modules = list(self.children())
        if isinstance(i, slice):
            return Sequential(dict(list(self.named_children())[i]))
        try:
            return modules[i]
        except IndexError:
            raise OutOfRangeError(
                f"Sequential: no module {i} among {len(modules)} modules"
            ) from None
