"""Tracing runs a step once without computing, and notes its operations.

The user's function and its arguments go in. A Program (ir/) comes out, with guards that tell
whether it is still valid. Read signature.py (arguments), trace.py, pytree.py (results), guards.py,
captures.py (what the step reads outside itself) with inspection.py and kinds.py, leaks.py,
derivative.py (the backward pass of a function whose results are on the tape).
"""
