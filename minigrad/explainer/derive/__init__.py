"""Derivation follows the tape, watches a backward pass, and writes down what is computed.

In: the tape of a result. Out: a Derivation: variables, and the lines of every step both ways.
Read identifiers.py, names.py, scopes.py, steps.py, expressions.py, evaluate.py, symbolic.py,
derivation.py.
"""
