"""The engine applies primitives to Tensors, records them on a tape and computes gradients.

It takes Tensors and arrays, and returns Tensors, tapes and gradients. Read tape.py, tracer.py,
operators.py, tensor.py, dispatch.py, backward.py: each imports only the files before it.
"""
