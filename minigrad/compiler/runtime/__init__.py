"""The runtime compiles the generated module, places its arrays and runs it.

In: a Program and its source. Out: an Executable, called with the live arrays.
Read backend.py (Numba), buffers.py (memory), executable.py, trace_cache.py; then epoch.py,
report.py and check.py.
"""
