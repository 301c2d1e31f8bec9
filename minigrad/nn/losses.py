"""These Modules are the losses of minigrad.functional, with their arguments."""

from .. import functional as F
from ..checks import number
from ..engine.tensor import Tensor, TensorLike, as_tensor
from .module import Module


class _Loss(Module):
    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def _keep(self, name: str, factors: TensorLike | None) -> None:
        given = None if factors is None else as_tensor(factors, f"{type(self).__name__}: {name}")
        self.register_buffer(name, given)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class MSELoss(_Loss):
    """A loss that computes F.mse_loss with a reduction, "mean", "sum" or "none".

    Errors are raised by calls.
    """

    def forward(self, input: TensorLike, target: TensorLike) -> Tensor:
        """Return a scalar for input and target of one shape; that shape with reduction="none"."""
        return F.mse_loss(input, target, self.reduction)


class _WeightedLoss(_Loss):
    weight: Tensor | None

    def __init__(
        self, weight: TensorLike | None = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self._keep("weight", weight)
        self.ignore_index = ignore_index


class CrossEntropyLoss(_WeightedLoss):
    """A loss that computes F.cross_entropy with these arguments.

    weight becomes a buffer of shape (classes,), or None; ignore_index, reduction and
    label_smoothing are those of F.cross_entropy. Errors are raised by calls, except those of
    label_smoothing.
    """

    def __init__(
        self,
        weight: TensorLike | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, ignore_index, reduction)
        self.label_smoothing = number("CrossEntropyLoss", "label_smoothing", label_smoothing, 0, 1)

    def forward(self, input: TensorLike, target: TensorLike) -> Tensor:
        """Return a scalar for input (N, C, ...) and target (N, ...); (N, ...) with "none"."""
        return F.cross_entropy(
            input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


class NLLLoss(_WeightedLoss):
    """A loss that computes F.nll_loss with these arguments.

    weight becomes a buffer of shape (classes,), or None; ignore_index and reduction are those of
    F.nll_loss. Errors are raised by calls.
    """

    def forward(self, input: TensorLike, target: TensorLike) -> Tensor:
        """Return a scalar for input (N, C, ...) and target (N, ...); (N, ...) with "none"."""
        return F.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """A loss that computes F.binary_cross_entropy_with_logits with these arguments.

    weight and pos_weight become buffers that broadcast, or None; reduction is that of the function.
    Errors are raised by calls.
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        weight: TensorLike | None = None,
        reduction: str = "mean",
        pos_weight: TensorLike | None = None,
    ) -> None:
        super().__init__(reduction)
        self._keep("weight", weight)
        self._keep("pos_weight", pos_weight)

    def forward(self, input: TensorLike, target: TensorLike) -> Tensor:
        """Return a scalar for input and target of one shape; that shape with reduction="none"."""
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, self.reduction, self.pos_weight
        )
