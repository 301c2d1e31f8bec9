"""Passes rewrite a Program as a shorter one, of operations that there is code for.

In and out: a Program (ir/). Read pipeline.py, which has their order, then reductions.py and
decompose.py, which applies the decompositions that primitives declare.
"""
