"""Kernels are Numba loops on arrays; they import NumPy, Numba, and minigrad's system and types.

A kernel is a function `_k(inputs..., outputs...)`, compiled by `k = kernel(_k)`. It fills arrays
that its caller has allocated and checked; it never raises and never allocates a result. Read
relu.py as an example, then jit/ (compilation), threading/ (loops on several threads) and product.py
(products, which call the BLAS of SciPy, on one thread each).
"""
