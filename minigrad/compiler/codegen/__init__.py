"""Code generation turns a Program into the source of a Python module for Numba.

In: a Program (ir/). Out: source, and what each function in it takes.
Read fusion.py (groups of operations), loops.py, calls.py, indexing.py (the code of each kind),
function.py and rolled.py (whole functions), module.py (the module).
"""
