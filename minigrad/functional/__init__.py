"""Functions of Tensors, composed of primitives: activations, losses, normalisation, dropout.

Names, arguments and defaults are PyTorch's. Inputs may be Tensors or arrays (constants). Errors:
ShapeError, DtypeError, ArgumentError and OutOfRangeError name the function, what came and what
was expected. array_functions.py has those that users find in `minigrad` itself.
"""

from .activations import (
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    softmax,
    softplus,
    tanh,
)
from .batchnorm import batch_norm
from .layers import dropout, embedding, layer_norm, linear
from .losses import binary_cross_entropy_with_logits, cross_entropy, mse_loss, nll_loss

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
