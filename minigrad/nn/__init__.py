"""Layers and losses with state, under PyTorch's names. May import functional and below."""

from .batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .functions import (
    GELU,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    LeakyReLU,
    LogSoftmax,
    MSELoss,
    NLLLoss,
    ReLU,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
)
from .layers import Dropout, Embedding, Flatten, Identity, LayerNorm, Linear
from .module import Module
from .parameter import Parameter
from .sequential import Sequential

__all__ = [
    "GELU",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "Module",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]
