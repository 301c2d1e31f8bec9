"""Batch normalisation, composed of primitives: the tape derives its gradient.

    mean    = sum of x / n                          over the batch and space, for each channel
    centred = x - mean
    var     = sum of centred^2 / n                  biased
    inv_std = 1 / sqrt(var + eps)
    x_hat   = centred * inv_std
    y       = x_hat * gamma + beta

What the tape derives from these lines equals the closed form, with the same sums:

    dbeta = sum of g,  dgamma = sum of g * x_hat
    dx    = gamma * inv_std * (g - mean(g) - x_hat * mean(g * x_hat))

Source: Ioffe and Szegedy, 2015, arXiv:1502.03167; conventions and defaults are PyTorch's. May
import tensor, ops, kernels and below; users meet it as F.batch_norm and nn.BatchNorm1d/2d/3d.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import ops
from .checks import ABOVE_0, number
from .errors import ArgumentError, DtypeError, ShapeError
from .kernels.update import running
from .tensor import Tensor, as_tensor


def batch_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    fused: bool = False,
) -> Tensor:
    """Normalise each channel of x, shape (N, C, ...), then scale by weight and shift by bias.

    weight (gamma), bias (beta), running_mean, running_var: shape (C,) or None.
    training: True normalises with the mean and biased variance of the batch, and updates the
        running statistics in place, running <- (1 - momentum) * running + momentum * batch, with
        the *unbiased* variance. False normalises with the running statistics.
    momentum: weight of the new value, 0 to 1 (Keras and Flax weigh the old one).
    eps: added to the variance; above 0 in training, at least 0 otherwise.
    fused: False; True raises NotImplementedError.
    Returns y in the shape and dtype of x. An empty batch gives an empty y and leaves the
    statistics alone. Errors: ShapeError, DtypeError, ArgumentError; the statistics are as before.
    """
    if fused is not False:
        raise NotImplementedError(f"batch_norm: fused={fused!r} is not supported, only fused=False")
    x = as_tensor(x, "batch_norm")
    _check(x, running_mean, running_var, weight, bias, training, momentum, eps)
    axes = (0, *range(2, x.ndim))
    n = x.size // x.shape[1] if x.shape[1] else 0
    with np.errstate(all="ignore"):  # a poisoned channel passes silently
        if not training:
            centred = x - _by_channel(running_mean, x)
            var: Tensor = _by_channel(running_var, x)
        elif n == 0:
            return _scale_and_shift(x * 1.0, weight, bias)
        else:
            mean = ops.mean_over(x, axis=axes, keepdims=True)
            centred = x - mean
            var = ops.mean_square(centred, axis=axes, keepdims=True)
        inv_std = ops.inv_std(var, eps=eps)
        y = _scale_and_shift(centred * inv_std, weight, bias)
        if training and running_mean is not None:
            _update(running_mean, running_var, mean, var, momentum, n / (n - 1))
    return y


def _by_channel(p: Any, x: Tensor) -> Any:
    """A parameter of shape (C,), as a Tensor that broadcasts along the channels of x."""
    p = as_tensor(p, "batch_norm")
    if p.dtype != x.dtype:
        p = p.astype(x.dtype)
    return p if x.ndim == 2 else ops.reshape(p, (-1, *[1] * (x.ndim - 2)))


def _scale_and_shift(x_hat: Tensor, weight: Any, bias: Any) -> Tensor:
    y = x_hat if weight is None else x_hat * _by_channel(weight, x_hat)
    return y if bias is None else y + _by_channel(bias, x_hat)


def _update(
    running_mean: Any, running_var: Any, mean: Tensor, var: Tensor, factor: float, correction: float
) -> None:
    """Move the running statistics, Tensors or arrays, towards those of the batch."""
    running(
        _array(running_mean),
        _array(running_var),
        mean.data.reshape(-1),
        var.data.reshape(-1),
        factor,
        correction,
    )
    for statistic in (running_mean, running_var):
        if isinstance(statistic, Tensor):
            statistic.mark_changed()


def _array(x: Any) -> NDArray[Any]:
    return x.data if isinstance(x, Tensor) else x


# --- checks -------------------------------------------------------------------------------------


def _check(
    x: Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    training: bool,
    momentum: float,
    eps: float,
) -> None:
    array = x.data
    shape = array.shape
    if len(shape) < 2:
        raise ShapeError(f"batch_norm: expected (batch, channels, ...), got input shape {shape}")
    if array.dtype.kind != "f":
        raise DtypeError(
            f"batch_norm: expected a float input, got {x.dtype}; convert with .astype('float32')"
        )
    _check_channels("running_mean", running_mean, shape)
    _check_channels("running_var", running_var, shape)
    _check_channels("weight", weight, shape)
    _check_channels("bias", bias, shape)
    if (running_mean is None) != (running_var is None):
        raise ArgumentError(
            "batch_norm: give running_mean and running_var both, or neither; got one alone"
        )
    if not training and running_mean is None:
        raise ArgumentError(
            "batch_norm: running_mean must be defined in evaluation mode, got None; give both "
            "running statistics, or training=True to use those of the batch"
        )
    check_eps("batch_norm", eps, training)
    check_momentum("batch_norm", momentum)
    if not training:
        return
    if array.size == shape[1] != 0:
        raise ShapeError(
            f"batch_norm: Expected more than 1 value per channel when training, got input size "
            f"{shape}; a last batch of one is left out by DataLoader(drop_last=True), and eval() "
            "uses the running statistics"
        )
    if running_mean is not None:
        _check_writable("running_mean", _array(running_mean))
        _check_writable("running_var", _array(running_var))


def _check_channels(name: str, p: Any, shape: tuple[int, ...]) -> None:
    if p is not None and not hasattr(p, "dtype"):
        raise DtypeError(f"batch_norm: {name} must be a Tensor or an array, got {type(p).__name__}")
    if p is not None and p.shape != shape[1:2]:
        raise ShapeError(
            f"batch_norm: {name} has shape {tuple(p.shape)}, but the input {shape} has {shape[1]} "
            f"channels: expected ({shape[1]},)"
        )


def _check_writable(name: str, statistic: NDArray[Any]) -> None:
    if not statistic.flags.writeable or statistic.dtype not in (np.float32, np.float64):
        raise ArgumentError(
            f"batch_norm: {name} must be writable, in float32 or float64, to be updated; got "
            f"{statistic.dtype}, writable: {statistic.flags.writeable}"
        )


def check_eps(operation: str, eps: Any, training: bool) -> float:
    """eps as a float. Errors: ArgumentError unless finite and at least 0, in training above 0."""
    hint = "it keeps a constant channel from a division by 0" if training else ""
    return number(operation, "eps", eps, ABOVE_0 if training else 0, hint=hint)


def check_momentum(operation: str, momentum: Any) -> float:
    """momentum as a float. Errors: ArgumentError unless 0 <= momentum <= 1."""
    hint = "it is the weight of the new value (0.99 in Keras is 0.01 here)"
    return number(operation, "momentum", momentum, 0, 1, hint=hint)
