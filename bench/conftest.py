"""Shared by the benchmarks: how they measure, and what a saved run says about the machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench import libraries, machine

Measure = Callable[..., None]


@pytest.fixture(params=["minigrad", "torch"])
def library(request: pytest.FixtureRequest) -> libraries.Library:
    """Each eager library in turn; a peer that is not installed is skipped."""
    if not machine.installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    return libraries.load(request.param)


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """Time `call`, once it is warm; with the bytes that it must move, their rate is noted, too."""

    def run(call: Callable[[], Any], moved: int = 0) -> None:
        for _ in range(3):  # compiles, starts threads, fills caches
            call()
        benchmark(call)
        if moved:
            benchmark.extra_info["bytes_moved"] = moved
            if benchmark.stats is not None:  # None where timing is switched off
                benchmark.extra_info["gb_per_s"] = moved / benchmark.stats.stats.median / 1e9

    return run


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Put into a saved run what two runs must share to be of one machine: processor, versions.

    The clock rate, which a processor may change at any time, is taken out.
    """
    cpu = machine_info.get("cpu", {})
    machine_info["cpu"] = {name: cpu[name] for name in cpu if not name.startswith("hz_")}
    machine_info["minigrad"] = machine.describe()


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Add the thread counts, which are known only when the libraries have been loaded."""
    output_json["threads"] = machine.threads()
