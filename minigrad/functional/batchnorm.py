"""Batch normalisation is composed of primitives, so that the tape derives it, or is fused.

    mean    = sum of x / n                          over batch and space, for each channel
    centred = x - mean
    var     = sum of centred^2 / n                  biased
    inv_std = 1 / sqrt(var + eps)
    x_hat   = centred * inv_std
    y       = x_hat * gamma + beta

The gradient that the tape derives from these lines equals the closed form, with the same sums:

    dbeta = sum of g,  dgamma = sum of g * x_hat
    dx    = gamma * inv_std * (g - mean(g) - x_hat * mean(g * x_hat))

Source: Ioffe and Szegedy, 2015, arXiv:1502.03167; conventions and defaults are PyTorch's. The
public names are F.batch_norm and nn.BatchNorm1d/2d/3d.
"""

import math

import numpy as np

from .. import ops
from ..arrays import FLOAT32, FLOAT64
from ..checks import ABOVE_0, flag, number
from ..engine.tensor import Tensor, TensorLike, as_tensor, change
from ..engine.tracer import runs_again
from ..errors import ArgumentError, DtypeError, ShapeError
from ..kernels.batchnorm.entry_points import MEAN, VAR
from ..ops.inplace import RUNNING, TRACKED
from ..ops.primitive import Operand
from ..types import Array


def batch_norm(
    input: TensorLike,
    running_mean: TensorLike | None = None,
    running_var: TensorLike | None = None,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
    fused: bool = True,
    activation: str | None = None,
) -> Tensor:
    """Normalise each channel of input, shape (N, C, ...), then scale by weight and shift by bias.

    weight (gamma), bias (beta), running_mean, running_var: shape (C,) or None.
    training: True normalises with the mean and biased variance of the batch, and updates the
        running statistics in place, running <- (1 - momentum) * running + momentum * batch, with
        the *unbiased* variance. False normalises with the running statistics.
    momentum: weight of the batch's value, 0 to 1 (in Keras and Flax, of the old value).
    eps: added to the variance; above 0 in training, at least 0 otherwise.
    fused: True runs closed-form kernels, forward and backward; False composes primitives, so that
        the tape derives the gradient.
    activation: "relu" applies relu to the result, if fused in the same kernel; None: nothing.
    Returns y in the shape and dtype of input. An empty batch gives an empty y and does not change
    the statistics. Errors: ShapeError, DtypeError, ArgumentError; they leave the statistics
    unchanged.
    Source: Ioffe and Szegedy, 2015, arXiv:1502.03167; conventions and defaults are PyTorch's.

    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])  # two examples of two features
    >>> mean, var = np.zeros(2), np.ones(2)
    >>> F.batch_norm(x, mean, var, training=True, momentum=0.5).numpy().round(4)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> mean, var  # half way to the means, 2 and 20, and to the unbiased variances, 2 and 200
    (array([ 1., 10.]), array([  1.5, 100.5]))
    """
    x = as_tensor(input, "batch_norm")
    return normalised(
        x, running_mean, running_var, None, weight, bias, training, momentum, eps, fused, activation
    )


def normalised(
    x: Tensor,
    running_mean: TensorLike | None,
    running_var: TensorLike | None,
    counter: Tensor | None,
    weight: TensorLike | None,
    bias: TensorLike | None,
    training: bool,
    momentum: float | Tensor,
    eps: float,
    fused: bool,
    activation: str | None,
) -> Tensor:
    """Return what batch_norm does, whose arguments these are.

    counter: None, or a Tensor with one integer, which counts the updates of the statistics.
    """
    # Usual values pass these fast checks; for others, the functions convert or raise.
    if type(training) is not bool or type(fused) is not bool:
        training = flag("batch_norm", "training", training)
        fused = flag("batch_norm", "fused", fused)
    if type(eps) is not float or not 0.0 < eps < math.inf:
        eps = check_eps("batch_norm", eps, training)
    if type(momentum) is not float or not 0.0 <= momentum <= 1.0:
        momentum = check_momentum("batch_norm", momentum)
    _check(x, running_mean, running_var, training)
    if activation is not None and not (isinstance(activation, str) and activation == "relu"):
        raise ArgumentError(f"batch_norm: activation is 'relu' or None, got {activation!r:.40}")
    relu = activation is not None
    gamma, beta = _by_channel("weight", weight, x), _by_channel("bias", bias, x)
    mean: Operand = None
    var: Operand = None
    if not training:
        mean = _by_channel("running_mean", running_mean, x, wide=True)
        var = _by_channel("running_var", running_var, x, wide=True)
        # To the kernel, running statistics are constants; the composed form differentiates them.
        fused = fused and not (mean._requires_grad or var._requires_grad)
    elif running_mean is not None:
        _check_update("running_mean", running_mean, x)
        _check_update("running_var", running_var, x)
    y: Tensor
    if fused:
        given = () if training else (mean, var)
        result: Operand = ops.batch_norm(x, gamma, beta, *given, eps=eps, relu=relu)
        y, (stats, _) = result
        rows = Tensor(stats) if runs_again() else stats
        batch_mean, batch_var = rows[MEAN], rows[VAR]
    else:
        y, mean, var = _composed(x, gamma, beta, mean, var, eps)
        y = ops.relu(y) if relu else y
        batch_mean, batch_var = (ops.reshape(s.detach(), -1) for s in (mean, var))
    if training and running_mean is not None and x._data.size:
        n = x._data.size // x._data.shape[1]
        numbers = momentum, n / (n - 1)
        if counter is None:
            change(RUNNING, running_mean, running_var, batch_mean, batch_var, *numbers)
        else:
            change(TRACKED, running_mean, running_var, counter, batch_mean, batch_var, *numbers)
    return y


def _composed(
    x: Tensor, gamma: Operand, beta: Operand, mean: Operand, var: Operand, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, the mean and the variance; if `mean` is None, these are the batch's."""
    axes = (0, *range(2, x.ndim))
    mean, var = [p if p is None or p.dtype == x.dtype else p.astype(x.dtype) for p in (mean, var)]
    gamma, beta, mean, var = [
        p if p is None or x.ndim == 2 else ops.reshape(p, (-1, *[1] * (x.ndim - 2)))
        for p in (gamma, beta, mean, var)
    ]
    with np.errstate(all="ignore"):  # no warnings for channels with NaN or inf
        if mean is None:
            mean = ops.mean_over(x, axis=axes, keepdims=True)
            centred = x - mean
            var = ops.mean_square(centred, axis=axes, keepdims=True)
        else:
            centred = x - mean
        y = centred * ops.inv_std(var, eps=eps)
        y = y if gamma is None else y * gamma
        return y if beta is None else y + beta, mean, var


# --- checks -------------------------------------------------------------------------------------


def _check(x: Tensor, running_mean: object, running_var: object, training: bool) -> None:
    array = x._data
    shape = array.shape
    if len(shape) < 2:
        raise ShapeError(f"batch_norm: expected (batch, channels, ...), got input shape {shape}")
    if array.dtype.kind != "f":
        raise DtypeError(
            f"batch_norm: expected a float input, got {x.dtype}; convert with .astype('float32')"
        )
    if (running_mean is None) != (running_var is None):
        raise ArgumentError(
            "batch_norm: give running_mean and running_var both, or neither; got one alone"
        )
    if not training and running_mean is None:
        raise ArgumentError(
            "batch_norm: running_mean must be defined in evaluation mode, got None; give both "
            "running statistics, or training=True to use those of the batch"
        )
    if training and array.size == shape[1] != 0:
        raise ShapeError(
            f"batch_norm: Expected more than 1 value per channel when training, got input size "
            f"{shape}; a last batch of one is left out by DataLoader(drop_last=True), and eval() "
            "uses the running statistics"
        )


def _array(name: str, p: TensorLike | None, x: Tensor) -> Array:
    """Return the array of a parameter or statistic.

    Errors: ShapeError unless it has shape (C,), DtypeError unless it is a Tensor or an array.
    """
    if not isinstance(p, (Tensor, np.ndarray)):
        raise DtypeError(f"batch_norm: {name} must be a Tensor or an array, got {type(p).__name__}")
    array: Array = p._data if isinstance(p, Tensor) else p
    shape = x._data.shape
    if array.shape != shape[1:2]:
        raise ShapeError(
            f"batch_norm: {name} has shape {array.shape}, but the input {shape} has {shape[1]} "
            f"channels: expected ({shape[1]},)"
        )
    return array


def _by_channel(name: str, p: TensorLike | None, x: Tensor, wide: bool = False) -> Tensor | None:
    """Return a parameter or statistic as a Tensor of shape (C,) in the dtype of x, or None.

    wide: whether to keep float64 if x is float32.
    """
    if p is None:
        return None
    if (
        isinstance(p, Tensor)
        and p._data.dtype is x._data.dtype
        and p._data.shape == x._data.shape[1:2]
    ):
        return p
    array = _array(name, p, x)
    p = as_tensor(p, f"batch_norm: {name}")
    if array.dtype == x._data.dtype or (wide and array.dtype == np.float64):
        return p
    return p.astype(x.dtype)


def _check_update(name: str, p: TensorLike | None, x: Tensor) -> None:
    """Raise an ArgumentError unless a running statistic can be updated in place."""
    array = _array(name, p, x)
    if not array.flags.writeable or array.dtype not in (FLOAT32, FLOAT64):
        raise ArgumentError(
            f"batch_norm: {name} must be writable, in float32 or float64 of native byte order, to "
            f"be updated; got {array.dtype}, writable: {array.flags.writeable}"
        )


def check_eps(operation: str, eps: object, training: bool) -> float:
    """Return eps as a float.

    Errors: ArgumentError unless it is finite and at least 0, or above 0 in training.
    """
    hint = "it keeps a constant channel from a division by 0" if training else ""
    return number(operation, "eps", eps, ABOVE_0 if training else 0, hint=hint)


def check_momentum(operation: str, momentum: float | Tensor) -> float | Tensor:
    """Return momentum as a float; while a compiler traces, a Tensor is returned unchanged.

    Errors: ArgumentError unless 0 <= momentum <= 1.
    """
    if isinstance(momentum, Tensor) and runs_again() and not momentum.ndim:
        return momentum
    hint = "it is the weight of the new value (0.99 in Keras is 0.01 here)"
    return number(operation, "momentum", momentum, 0, 1, hint=hint)
