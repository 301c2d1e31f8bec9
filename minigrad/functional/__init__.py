"""The public functions take Tensors or arrays (constants), and return Tensors.

Names, arguments and defaults are PyTorch's, but an axis is called `axis`, not `dim`. Error messages
name the function, what it got and what it expected. Read activations.py, layers.py, losses.py and
batchnorm.py. `minigrad` itself exports what the other files define: array_functions.py (mg.exp and
the like), custom.py (mg.primitive), settings.py (mg.manual_seed, mg.set_num_threads) and config.py
(mg.show_config).
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
