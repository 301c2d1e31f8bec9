"""Numba loops on plain arrays; they import minigrad.system, NumPy, Numba and each other only.

A kernel is a plain function `_k(inputs..., outputs...)` that fills arrays which its caller has
allocated and checked, wrapped as `k = kernel(_k)`. It never raises and never allocates a result.
Read relu.py as an example, then jit/ and threading/, which compile and share the loops.
"""
