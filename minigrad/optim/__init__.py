"""Optimizers update parameters by their gradients, under PyTorch's names.

An optimizer takes parameters with gradients, changes them in place, and has a state to save.
Read rule.py (an update of one parameter), optimizer.py (the base class), sgd.py (two rules and
their hyper-parameters), then live_state.py (the state that a compiled step looks up).
"""

from .optimizer import Optimizer
from .rule import Rule
from .sgd import SGD

__all__ = ["SGD", "Optimizer", "Rule"]
