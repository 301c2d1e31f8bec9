"""The named steps have the same bits for any number of threads, of minigrad and of BLAS."""

import os
import subprocess
import sys

import pytest

# Prints a digest of all losses for each number of minigrad's threads.
STEPS = """
import hashlib
import sys

import numpy as np

import minigrad as mg
from bench.workloads import FACTORIES, NETS, make_problem
from minigrad.kernels.threading import blas, parallel_for, pool

name, net, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
for n in (1, 2, 3):
    mg.set_num_threads(n)
    step = FACTORIES[name](make_problem(NETS[net]))
    digest = hashlib.sha256()
    for _ in range(steps):
        pool.current_pool()[parallel_for.QUIET :][:1] = 0  # workers are woken
        digest.update(np.float64(step().item()).tobytes())
    print(digest.hexdigest())
blas.blas_limit()
print(bool(blas._functions))
"""
CASES = [
    (name, net, steps)
    for net, steps in (("tiny", 5), ("digits", 5), ("mnist", 5), ("wide", 2))
    for name in ("minigrad", "minigrad-compiled")
]


def digests(name: str, net: str, steps: int) -> set[str]:
    """Return the digests of all runs; they need not be equal if BLAS cannot be controlled."""
    found: set[str] = set()
    for threads in ("1", "2", "3"):
        variables = {**os.environ, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", STEPS, name, net, str(steps)],
            capture_output=True,
            text=True,
            env=variables,
        )
        assert done.returncode == 0, done.stderr
        *each, is_controlled = done.stdout.split()
        if is_controlled == "False":
            pytest.skip("SciPy's BLAS cannot be controlled")
        assert len(each) == 3
        found |= set(each)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case[:2]))
def test_a_few_steps(case: tuple[str, str, int]) -> None:
    assert len(digests(*case)) == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case[:2]))
def test_many_steps(case: tuple[str, str, int]) -> None:
    name, net, _ = case
    assert len(digests(name, net, 30 if net == "wide" else 200)) == 1
