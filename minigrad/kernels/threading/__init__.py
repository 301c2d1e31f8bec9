"""Threads that share the loops of kernels.

In: a loop over parts, called from compiled code. Out: each part run once, by whichever thread is
free, with the same bits for any number of threads. Read parallel_for.py, then pool.py.

The pool replaces Numba's `prange`, for these reasons:
- With Numba's default threads (workqueue), two Python threads that launch a parallel kernel at the
  same time abort the process (numba#8563, #9288). With OpenMP, a forked child dies in its first
  parallel kernel. Here a caller that finds the pool busy runs its loop alone, and a forked child
  starts a pool of its own.
- In a `prange` loop, the result of a sum depends on the number of threads. Here the shape alone
  decides the parts, and partial sums are added in order.
- A kernel that asks Numba for its number of threads cannot be cached.
- A kernel with `parallel=True` takes longer to compile and starts its threads for small arrays,
  too. Here a small array runs the same machine code with an empty pool.
- A launch waits until every thread has done its share, however late it wakes. Here the caller takes
  the parts that no worker has begun, and leaves workers asleep when waking them does not pay.
It survives a system that starts no more threads, a change of their number while loops run, loops
within loops, Ctrl-C while workers start, and forks at any moment.

`python -m bench.numba_ground` compares it with `prange` and with one thread. To switch it off, edit
a copy of the package: its VARIANTS have a `parallel_for` for each, to add to parallel_for.py.
"""
