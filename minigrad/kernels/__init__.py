"""Kernels are Numba loops on arrays; they import NumPy, Numba, and minigrad's system and types.

A kernel is a function `_k(inputs..., outputs...)`, compiled by `k = kernel(_k)`. It fills arrays
that its caller has allocated and checked; it never raises and never allocates a result. Products
call the BLAS of SciPy, which jit/blas.py loads for Numba. Read relu.py as an example, then jit/
(compilation) and threading/ (loops on several threads).
"""
