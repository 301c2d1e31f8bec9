"""The intermediate representation: a Program is a list of Operations on Values.

In: what tracing noted. Out: the same form, for passes to rewrite and codegen to read.
Read program.py, builder.py (makes operations), aliasing.py, casts.py, then interpreter.py (runs it
in NumPy).
"""
