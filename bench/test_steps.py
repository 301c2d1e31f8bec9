"""These benchmarks time one whole training step, by net and library.

For ratios use `python -m bench.compare`, which runs the libraries in turn.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench.conftest import Measure
from bench.workloads import (
    FACTORIES,
    NETS,
    available,
    can_train,
    check_agreement,
    make_problem,
)


@pytest.mark.parametrize("net", NETS)
def test_libraries_do_the_same_work(net: str) -> None:
    """The same data and weights give the same losses, so the times below are comparable."""
    names = [name for name in FACTORIES if available(name) and can_train(name, NETS[net])]
    check_agreement(make_problem(NETS[net]), names)


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("net", NETS)
def test_step(measure: Measure, benchmark: Any, net: str, name: str) -> None:
    """Time a step and the reading of its loss, which waits for work in the background."""
    if not available(name):
        pytest.skip(f"{name} is not installed")
    if not can_train(name, NETS[net]):
        pytest.skip(f"{name} has no BatchNorm")
    benchmark.group = f"step {net}"
    step = FACTORIES[name](make_problem(NETS[net]))
    measure(lambda: step().item())
