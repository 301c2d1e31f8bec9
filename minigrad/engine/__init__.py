"""The engine records operations on Tensors, and takes their gradients backward.

In: primitives of ops, applied to Tensors and arrays. Out: Tensors, a tape of records, gradients.
Read tape.py, tracer.py, operators.py, tensor.py, dispatch.py, backward.py: each builds on those
before it.
"""
