"""A pool of threads shares the loops of kernels.

Compiled code calls a loop over parts; each part runs once, on whichever thread is free, and the
results have the same bits for any number of threads. Read parallel_for.py, then pool.py, which says
why the pool replaces Numba's `prange`, and blas.py, which sets OpenBLAS to one thread meanwhile.
"""
