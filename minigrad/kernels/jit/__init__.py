"""One decorator compiles every kernel and saves its machine code on disk.

It takes a function of arrays, and returns Numba's dispatcher, which loads or compiles it if called.
Read decorators.py, then cache.py with cache_files.py and message.py, device_functions.py,
new_arrays.py, external_calls.py, blas.py and interrupts.py. They say what they replace in Numba,
and why.
"""
