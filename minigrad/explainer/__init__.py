"""Explanations of what the tape derives: text, mathematics, graphs and a page to step through.

    Names           what the user calls things
    SymbolicTracer  writes what a rule applies to Tensors as an expression
    Derivation      variables, the lines of all records, and those of all rules
    Explanation     shows a derivation; `mg.explain` returns it

The text of a forward is the formula of its primitive; that of a derivative is made by the rule that
computes it, while the engine's own backward pass runs. Read derive/, analysis/, graph/, render/,
then api.py. ladder.py is a program on top, and alone in importing the compiler.
"""

from .api import Explanation, explain
from .derive.evaluate import evaluate

__all__ = ["Explanation", "evaluate", "explain"]
