"""BatchNorm's kernels give the same bits for any subset, in pieces and in any number of threads."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from batchnorm_kernels import COMPILED, DTYPES, backward, empty, forward, sample

from minigrad.kernels.batchnorm import entry_points
from minigrad.kernels.threading import pool

pytestmark = pytest.mark.usefixtures("two_threads")

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(33, 10), (520, 70), (5, 7, 30)], ids=str)
@pytest.mark.usefixtures("threaded")
def test_subsets_equal_the_full_run(shape, dtype, training):
    """Every bit is the same, for each of the seven subsets."""
    x, g, gamma, beta = sample(shape, dtype)
    running = np.full(shape[1], 0.5, dtype), np.full(shape[1], 2.0, dtype)
    y, stats = forward(x, gamma, beta, running, relu=True, eval=not training)
    full = backward(g, x, stats, gamma, y, training)
    for mask in range(1, 8):
        wanted = tuple(bool(mask >> i & 1) for i in range(3))
        for part, whole, need in zip(
            backward(g, x, stats, gamma, y, training, wanted), full, wanted, strict=True
        ):
            assert part.tobytes() == (whole.tobytes() if need else b"")


@pytest.mark.skipif(not COMPILED, reason="of compiled code")
@pytest.mark.parametrize("shape", [(64, 1000), (3, 700, 5)], ids=str)
def test_where_empty_arrays_lie_does_not_count(shape):
    """Absent dgamma and dbeta may lie beside other arrays or over them, with the same bits."""
    for seed in range(5):
        x, g, gamma, _ = sample(shape, np.float64, seed)
        _, stats = forward(x, gamma)
        none = empty(x, x.ndim)
        results = []
        for over in (np.empty(1), stats, gamma, x):
            absent = over.reshape(-1)[:0]
            dx = np.empty_like(x)
            entry_points.backward(g, x, none, gamma, stats, True, dx, absent, absent)
            results.append(dx.tobytes())
        assert len(set(results)) == 1


def everything(shape, dtype):
    """Return the bytes of all results of a training step, with and without relu, and evaluation."""
    x, g, gamma, beta = sample(shape, dtype)
    results = []
    for relu in (False, True):
        running = np.zeros(shape[1], dtype), np.ones(shape[1], dtype)
        y, stats = forward(x, gamma, beta, running, relu=relu)
        results += [y, stats, *running, *backward(g, x, stats, gamma, y if relu else None)]
        results += forward(x, gamma, beta, running, relu=relu, eval=True)
    return [a.tobytes() for a in results]


LARGE = [(1030, 3), (513, 40), (2000, 300), (4, 7, 50), (30, 5, 1000)] if COMPILED else [
    (530, 3), (4, 7, 20)]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_same_bits_in_any_number_of_threads(shape, dtype, monkeypatch):
    """Bits are the same from run to run, too, and from several Python threads at once."""
    monkeypatch.setattr(pool, "THREADED", 1)
    pool.set_num_threads(1)
    expected = everything(shape, dtype)
    for n in (2, 3, 5, 2):
        pool.set_num_threads(n)
        assert everything(shape, dtype) == expected
    with ThreadPoolExecutor(4) as executor:
        for got in executor.map(lambda _: everything(shape, dtype), range(8)):
            assert got == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_pieces_equal_the_whole(shape, dtype, monkeypatch):
    """One call, and steps in threads, give the same bits."""
    monkeypatch.setattr(pool, "THREADED", 1 << 60)
    expected = everything(shape, dtype)
    monkeypatch.setattr(pool, "THREADED", 1)
    assert everything(shape, dtype) == expected


ONLY_LOADS = """
import sys
from pathlib import Path
import numpy as np
from minigrad.kernels.batchnorm import entry_points
from minigrad.kernels.jit.decorators import KERNELS

def step(shape):
    x, p, stats = np.ones(shape, "f"), np.ones(shape[1], "f"), np.empty((5, shape[1]))
    y, absent = np.empty_like(x), np.empty(0, "f")
    entry_points.forward_train(x, p, p, 1e-5, False, y, stats)
    none = np.empty((0,) * x.ndim, "f")
    entry_points.backward(x, x, none, p, stats, True, y.copy(), p.copy(), p.copy())
    entry_points.forward_eval(x, p, p, p, p, 1e-5, False, y, stats)

for shape in (8, 4), (1 << 18, 4), (2, 3, 5):
    step(shape)
print(sum(sum(k.stats.cache_misses.values()) for k in KERNELS.values()))
print("numba.np.npyimpl" in sys.modules)
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_a_warm_cache_is_all_that_a_step_needs(tmp_path):
    """This holds for any size, in training and evaluation.

    A device function that Python called would be compiled in each process, which imports Numba's
    compiler.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    command = [sys.executable, "-c", ONLY_LOADS]
    for expected in (None, ["0", "False"]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert expected in (None, done.stdout.split())
