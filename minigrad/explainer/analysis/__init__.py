"""Group the records of folded modules, and find the paths through a derivation.

In: a Derivation. Out: its sections, and its paths, each with its contribution to a gradient.
Read folding.py, paths.py, then wording.py.
"""
