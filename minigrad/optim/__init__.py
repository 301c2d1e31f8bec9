"""Optimizers have PyTorch's names.

An optimizer takes parameters with gradients, changes them in place, and has a state to save.
Read optimizer.py (the base class), then sgd.py (a rule and its hyper-parameters), then
live_state.py (the state that a compiled step looks up).
"""

from .optimizer import Optimizer, Rule
from .sgd import SGD

__all__ = ["SGD", "Optimizer", "Rule"]
