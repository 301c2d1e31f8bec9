"""Tracing runs a step once without computing, and notes its operations.

In: the user's function and its arguments. Out: a Program (ir/), and guards that tell whether it
still holds. Read signature.py, trace.py, pytree.py; then captures.py, guards.py, leaks.py.
"""
