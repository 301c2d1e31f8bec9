"""Derivation follows the tape and runs each rule, writing down what it computes.

In: the tape of a result. Out: a Derivation: variables, and the lines of every step both ways.
Read names.py, scopes.py, steps.py, expressions.py, evaluate.py, symbolic.py, derivation.py.
"""
