"""Analysis finds what to show folded, and the paths through a derivation.

In: a Derivation. Out: its sections, and paths with what each contributes to a gradient.
Read folding.py, paths.py, then wording.py.
"""
