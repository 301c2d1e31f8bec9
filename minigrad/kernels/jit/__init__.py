"""One decorator compiles every kernel, and keeps its machine code on disk.

In: a Python function of arrays. Out: Numba's dispatcher, which loads or compiles when called.
Read decorators.py, then cache.py (cache_files.py, notice.py: files and messages) and
device_functions.py (what kernels share), external_calls.py, blas.py, interrupts.py.
"""
