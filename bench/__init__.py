"""These benchmarks compare minigrad with its peers.

`pytest bench` measures each library, and `python -m bench.compare` compares them.
`python -m bench.numba_ground` measures the gain from the kernels' own cache, inliner and thread
pool. Read problems.py first, which has the nets, then workloads.py, which has the training steps.
"""
