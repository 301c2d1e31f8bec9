"""The engine records operations on Tensors, and takes their gradients backward.

In: primitives of ops, applied to Tensors and arrays. Out: Tensors, a tape of records, gradients.
Read tape.py, tensor.py (operators.py has its operators), dispatch.py, backward.py.
"""
