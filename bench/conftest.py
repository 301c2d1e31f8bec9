"""The benchmarks share these fixtures; the hooks add the machine to a saved run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench import libraries, machine

Measure = Callable[..., None]


@pytest.fixture(params=["minigrad", "torch"])
def library(request: pytest.FixtureRequest) -> libraries.Library:
    """Return each eager library in turn, and skip a peer that is not installed."""
    if not machine.installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    return libraries.load(request.param)


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """Return a function that times `call` after a warm-up, and notes gigabytes per second.

    moved: the bytes that `call` must move; with 0, no rate is noted.
    """

    def run(call: Callable[[], Any], moved: int = 0) -> None:
        for _ in range(3):  # to compile, start threads and fill caches
            call()
        benchmark(call)
        if moved:
            benchmark.extra_info["bytes_moved"] = moved
            if benchmark.stats is not None:  # None where timing is switched off
                benchmark.extra_info["gb_per_s"] = moved / benchmark.stats.stats.median / 1e9

    return run


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Put into a saved run what comparable runs must share: the processor and the versions.

    The clock rate, which a processor may change at any time, is left out.
    """
    cpu = machine_info.get("cpu", {})
    machine_info["cpu"] = {name: cpu[name] for name in cpu if not name.startswith("hz_")}
    machine_info["minigrad"] = machine.describe()


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Add the thread counts, which are known only after the libraries are loaded."""
    output_json["threads"] = machine.threads()
