"""Threads that share the work of one kernel.

In: a kernel's parts, and how many elements they have. Out: the same result for any number of
threads. Read pool.py (the threads), then parallel_for.py (the loop over parts, in machine code).
"""
