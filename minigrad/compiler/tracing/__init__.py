"""Tracing runs a step once without computing, and notes its operations.

The user's function and its arguments go in. A Program (ir/) comes out, with guards that tell
whether it is still valid. Read signature.py (arguments), trace.py, pytree.py (results), guards.py,
captures.py (what the step reads outside itself) with locations.py, inspection.py and kinds.py,
leaks.py, numbers.py (those that change), derivative.py (results on the tape); then
straight_line.py (the Python code of calls that are recognised).
"""
