"""SGD is stochastic gradient descent, with or without momentum."""

import numpy as np

from ..checks import flag, number
from ..errors import ArgumentError
from ..kernels import inplace as kernels
from .optimizer import Group, Optimizer, Params
from .rule import Rule

__all__ = ["SGD"]

WITHOUT_MOMENTUM = Rule(
    "sgd",
    kernels.sgd,
    "d <- sign * g + weight_decay * p, p <- p - lr * d",
    kernels.HYPER,
    threads=True,
    kernel_for_all=kernels.sgd_all,
)
WITH_MOMENTUM = Rule(
    "sgd_momentum",
    kernels.sgd_momentum,
    "buffer <- momentum * buffer + (1 - dampening) * d, "
    "p <- p - lr * (d + momentum * buffer with nesterov, else buffer)",
    kernels.HYPER,
    buffers=("momentum_buffer",),
    threads=True,
    kernel_for_all=kernels.sgd_momentum_all,
)
_LARGEST = float(np.finfo(np.float32).max)  # so that every number fits float32


class SGD(Optimizer):
    """SGD is mini-batch gradient descent, with PyTorch's arguments, defaults and arithmetic.

        g <- grad (or -grad with maximize) + weight_decay * p
        b <- g in the first step, then momentum * b + (1 - dampening) * g
        p <- p - lr * (g + momentum * b with nesterov, else b)

    params: leaf Tensors of floats (as from `model.parameters()`), or a list of parameter groups:
        dicts with "params" and values for any of the other arguments.
    A change of `param_groups[i]["lr"]` takes effect in the next step. Parameters without a gradient
    do not change. Errors: ArgumentError, DtypeError; a step that raises has changed nothing.

    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> opt = optim.SGD([w], lr=0.25)
    >>> for _ in range(2):
    ...     opt.zero_grad()
    ...     (w * w).sum().backward()  # the gradient is 2 * w
    ...     opt.step()
    >>> w
    tensor([0.25], requires_grad=True)
    """

    rules = (WITHOUT_MOMENTUM, WITH_MOMENTUM)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    @staticmethod
    def check(group: Group) -> None:
        """Raise an ArgumentError or a DtypeError if a group has values that SGD cannot use."""
        number("SGD", "lr", group["lr"], 0, _LARGEST, hint="to ascend, use maximize=True")
        number("SGD", "momentum", group["momentum"], 0, _LARGEST)
        number("SGD", "weight_decay", group["weight_decay"], 0, _LARGEST)
        number("SGD", "dampening", group["dampening"], -_LARGEST, _LARGEST)
        flag("SGD", "nesterov", group["nesterov"])
        flag("SGD", "maximize", group["maximize"])
        if group["nesterov"] and (not group["momentum"] or group["dampening"]):
            raise ArgumentError(
                "SGD: nesterov needs momentum above 0 and dampening 0, got "
                f"momentum={group['momentum']}, dampening={group['dampening']}"
            )

    @staticmethod
    def rule(group: Group) -> Rule:
        """Return the rule with momentum if the group's momentum is not 0, else the one without."""
        return WITH_MOMENTUM if group["momentum"] else WITHOUT_MOMENTUM

    @staticmethod
    def numbers(group: Group, first: bool) -> tuple[float, ...]:
        """Return the numbers of a group in the order of `kernels.inplace.HYPER`.

        The first step of a parameter has no dampening.
        """
        return (
            group["lr"],
            group["weight_decay"],
            -1.0 if group["maximize"] else 1.0,
            group["momentum"],
            1.0 if first else 1.0 - group["dampening"],
            1.0 if group["nesterov"] else 0.0,
        )
