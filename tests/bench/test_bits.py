"""The named steps have the same bits for any number of threads, of minigrad and of BLAS."""

import json
import os
import subprocess
import sys
from collections import defaultdict

import numba
import pytest

# Prints a digest of all losses of each case, for each number of minigrad's threads.
STEPS = """
import hashlib
import json
import sys

import numpy as np

import minigrad as mg
from bench.workloads import FACTORIES, NETS, make_problem
from minigrad.kernels.threading import blas, parallel_for, pool

for net, steps in json.loads(sys.argv[1]).items():
    for name in ("minigrad", "minigrad-compiled"):
        for n in (1, 2, 3):
            mg.set_num_threads(n)
            step = FACTORIES[name](make_problem(NETS[net]))
            digest = hashlib.sha256()
            for _ in range(steps):
                pool.current_pool()[parallel_for.QUIET :][:1] = 0  # workers are woken
                digest.update(np.float64(step().item()).tobytes())
            print(f"{net},{name}", digest.hexdigest())
blas.blas_limit()
print("BLAS", bool(blas._functions))
"""
FEW = {"tiny": 5, "digits": 5, "mnist": 5, "wide": 2}
MANY = {"tiny": 200, "digits": 200, "mnist": 200, "wide": 30}


@pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT),  # type: ignore[attr-defined]
    reason="products are NumPy's, whose BLAS is not controlled",
)
@pytest.mark.parametrize(
    "steps", [FEW, pytest.param(MANY, marks=pytest.mark.exhaustive)], ids=["few", "many"]
)
def test_any_number_of_threads_gives_the_same_bits(steps: dict[str, int]) -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for threads in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", STEPS, json.dumps(steps)],
            capture_output=True,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads},
        )
        assert done.returncode == 0, done.stderr
        lines = [line.split() for line in done.stdout.splitlines()]
        if lines.pop() == ["BLAS", "False"]:
            pytest.skip("SciPy's BLAS cannot be controlled")
        assert len(lines) == 2 * 3 * len(steps)
        for case, digest in lines:
            found[case].add(digest)
    assert {case for case, digests in found.items() if len(digests) > 1} == set()
