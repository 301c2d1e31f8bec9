"""Benchmarks: `pytest bench` for each library's figures, `python -m bench.compare` for ratios.

`python -m bench.numba_ground` says what the kernels' own cache, inliner and thread pool gain.
"""
