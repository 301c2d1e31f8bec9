"""Optimizers, under PyTorch's names.

In: parameters with gradients. Out: parameters changed in place, and a state that can be saved.
Read optimizer.py (what all have in common), then sgd.py (a rule and its hyper-parameters), then
live_state.py (what a compiled step looks up).
"""

from .optimizer import Optimizer, Rule
from .sgd import SGD

__all__ = ["SGD", "Optimizer", "Rule"]
