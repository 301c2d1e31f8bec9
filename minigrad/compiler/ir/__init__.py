"""The intermediate representation of a step is a Program: a list of Operations on Values.

Tracing makes a Program, passes rewrite it, and codegen and the interpreter read it.
Read program.py, live_numbers.py (operands that each call reads), builder.py (new operations),
may_alias.py, interpreter.py (runs in NumPy).
"""
