"""Optimizers, under PyTorch's names.

In: parameters with gradients. Out: parameters changed in place, and a state that can be saved.
"""

from .sgd import SGD

__all__ = ["SGD"]
