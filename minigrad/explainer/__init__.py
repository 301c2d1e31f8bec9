"""Explain how a result was computed and how its gradients follow from the rules.

In: a result and its tape. Out: an `Explanation`, shown as text, mathematics, a graph or a page.
Read derive/, analysis/, graph/, render/, then api.py. ladder.py is a program on top of these; it
alone imports the compiler.
"""

from .api import Explanation, explain
from .derive.evaluate import evaluate

__all__ = ["Explanation", "evaluate", "explain"]
