"""Follow the tape, observe a backward pass, and write down what is computed.

In: the tape of a result. Out: a Derivation: its variables, and the lines of every step, both ways.
Read identifiers.py, user_names.py, scopes.py, steps.py, expressions.py, evaluate.py, symbolic.py,
derivation.py.
"""
