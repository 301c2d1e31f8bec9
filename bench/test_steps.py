"""One whole training step, per net and library.

For ratios use `python -m bench.compare`, which takes the libraries in turn.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench.conftest import Measure
from bench.workloads import FACTORIES, NETS, available, check_agreement, make_problem


@pytest.mark.parametrize("net", NETS)
def test_libraries_do_the_same_work(net: str) -> None:
    """Same data and weights give the same losses, so the times below can be compared."""
    check_agreement(make_problem(NETS[net]), filter(available, FACTORIES))


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("net", NETS)
def test_step(measure: Measure, benchmark: Any, net: str, name: str) -> None:
    """A step and the reading of its loss, which waits for work in the background."""
    if not available(name):
        pytest.skip(f"{name} is not installed")
    benchmark.group = f"step {net}"
    step = FACTORIES[name](make_problem(NETS[net]))
    measure(lambda: step().item())
