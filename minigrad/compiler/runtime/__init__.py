"""The runtime compiles the generated module, assigns memory to its arrays and runs it.

A Program and its source go in. An Executable comes out, and each call gives it the arguments.
Read backend.py (Numba), memory_layout.py and buffers.py (memory), states.py, executable.py,
differentiable.py with replay.py (results on the tape), trace_cache.py; then epoch.py, report.py and
check.py.
"""
