"""Numba loops on plain arrays; they import numpy, numba and each other, nothing else.

A kernel is a plain function `_k(inputs..., outputs...)` that fills arrays which its caller has
allocated and checked, wrapped as `k = kernel(_k)`. It never raises and never allocates a result.
"""
