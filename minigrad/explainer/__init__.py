"""Explanations of what the tape derives: text, mathematics, graphs and a page to step through.

    Names        what the user calls things
    SymbolicTracer      runs a rule on Tensors, and writes out what it applies
    Derivation   variables, the lines of all records, and those of all rules
    Explanation  shows that, and is what `mg.explain` returns

A tool on top of the tape: imports neither the compiler nor what uses it. The text of a forward is
the formula of its primitive; that of a derivative is made by the rule that computes it.
"""

from .api import Explanation, explain
from .derive.evaluate import evaluate

__all__ = ["Explanation", "evaluate", "explain"]
