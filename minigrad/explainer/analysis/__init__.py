"""Analysis finds the ways through a derivation, and what to show folded.

In: a Derivation. Out: paths with their shares of a gradient; groups of steps.
Read paths.py, then folding.py.
"""
