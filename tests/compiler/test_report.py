"""A compiled function shows its source, and reports its loops, calls and memory."""

import re

import numpy as np
from small_networks import batches, network

import minigrad as mg


def test_the_report_counts_what_loops_read_and_write():
    """The loops read the argument and write the result, and nothing else."""
    compiled = mg.compile(lambda x: mg.relu(x * 2 + 1).sum(0).exp() @ x)
    compiled(np.ones((3, 3)))
    fused, first, second, calls, *_ = compiled.report().splitlines()[1:]
    assert fused == "5 operations fused into 2 nests of loops, each one pass over memory, 144 bytes"
    assert first == "    (3, 3) mul, add, relu, sum: 2 arrays, 96 bytes"
    assert second == "    (3,) exp: 2 arrays, 48 bytes"
    assert calls == "1 calls of kernels and BLAS: matmul"


def test_source_and_report_show_what_runs():
    """The source is a file of Python without a size or a number that changes."""
    *_, plain = network(fused=False)
    compiled = mg.compile(plain)
    sources = []
    for n in (8, 12):
        ((x, y),) = batches(1, n)
        compiled(x, y)
        sources.append(compiled.source)
    assert sources[0] == sources[1]
    source = sources[0]
    assert compiled.path.read_text(encoding="utf-8") == source
    assert "model_0_weight" in source
    assert "# gated, from relu, w.r.t. a" in source
    assert re.search(
        r"^\d+ operations fused into \d+ nests of loops", compiled.report(), re.MULTILINE
    )
    how = "run as Python|there already|loaded from disk|compiled by Numba"
    assert re.search(rf"^step: ({how}), \d+\.\d{{3}} s$", compiled.report(), re.MULTILINE)
    compiled.epoch(x, y, batch_size=2)
    assert re.search(rf"^epoch: ({how}), \d", compiled.report(), re.MULTILINE)
    assert "%model.0.weight" in compiled.program
    assert "sgd_momentum" in compiled.program


def test_composed_batch_norm_comes_to_the_closed_form():
    """Forward passes twice for the statistics and once for y, backward once for the sums and dx."""
    *_, plain = network(fused=False)
    compiled = mg.compile(plain)
    for x, y in batches(2):
        compiled(x, y)
    nests = re.findall(r"^    (\(.*\)) \w", compiled.report(), re.MULTILINE)
    assert nests.count("(8, 5)") == 5
