"""Benchmarks: `pytest bench` for each library's figures, `python -m bench.compare` for ratios."""
