"""Passes rewrite a Program as an equal one that does less work.

A Program (ir/) goes in, and a Program comes out. Read pipeline.py (the order of the passes),
decompose.py (decompositions that primitives declare), reductions.py (sums), then partition.py (a
forward and a backward program for a function whose results are on the tape).
"""
