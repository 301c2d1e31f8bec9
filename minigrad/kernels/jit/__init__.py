"""One decorator compiles every kernel and saves its machine code on disk.

In: a Python function of arrays. Out: Numba's dispatcher, which loads or compiles when called.
Read decorators.py, then cache.py with cache_files.py and message.py, then device_functions.py and
external_calls.py, at last blas.py and interrupts.py.

Four things here replace Numba's own, for these reasons.

The disk cache (cache.py), instead of `cache=True`:
- Numba does not notice that a helper in another file was edited, and runs stale machine code
  (numba#8396). An entry here begins with a digest of all files of minigrad.kernels and of the
  kernel's own file, as they were when they were imported.
- Numba publishes its index before the data, so a killed process, or two that write at once, leave
  entries that crash (numba#4807, #10128). An entry here is one file, which is replaced atomically
  and checked against a digest of its content.
- Numba's key lacks settings such as NUMBA_BOUNDSCHECK.
- In a read-only installation, Numba raises an error (numba#5566). Here the next folder is tried:
  one that is private to the user, since entries are pickles. If none is writable, it warns once.
- To load an entry, Numba imports its compiler and SciPy, which takes most of a first step's time.
- Numba cannot load a generated function, since it imports the function's module by name.
It survives broken, truncated and stale entries, killed and racing processes, full disks, Ctrl-C
while a kernel compiles, and a Numba whose inside has changed, which then uses its own cache.

Device functions (device_functions.py), instead of plain `njit` functions: Numba compiles each of
them to machine code that nobody calls, and then again as a part of each caller.

External calls (external_calls.py), instead of calls by name: Numba compiles a kernel again into
each generated step that calls it. An entry of the cache lists the kernels that it calls.

The import of BLAS (blas.py): Numba imports all of SciPy for the addresses of a few functions.

`python -m bench.numba_ground` compares each with Numba's own means. To switch one off, edit a copy
of the package:
- the cache: `DiskCache = None` at the end of decorators.py, which also switches off external calls,
  since an entry of Numba's cannot list them;
- device functions: `Inlined = None` there;
- external calls: `external` there returns its argument;
- the import of BLAS: `load_blas` returns at once.
"""
