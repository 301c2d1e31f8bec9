"""Code generation turns a Program into the source of a Python module, which Numba compiles.

A Program (ir/) goes in. Source comes out, with a description of what each function takes.
Read casts.py, fusion.py (groups of operations), loops.py (loop nests), calls.py and indexing.py
(calls), views.py, function.py and rolled.py (functions), module.py (the module).
"""
