"""These functions measure first steps, peak memory, and an epoch against a loop of compiled steps.

First steps and peak memory are measured in a new process each time.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import memory
from bench.process import call
from bench.workloads import FACTORIES, NETS, eager_function, make_problem

BATCHES = 256  # in an epoch
STEPS = 200  # training steps before the peak memory is read
CACHES = ("nothing", "kernels", "everything")  # on the disk before the first step


# --- in a new process ---------------------------------------------------------------------------


def first_calls(name: str, net: str) -> list[float]:
    """Return the seconds of the first two calls, which trace, compile or load, and run."""
    step = FACTORIES[name](make_problem(NETS[net]))
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        step().item()
        seconds.append(time.perf_counter() - start)
    return seconds


def training_peak(name: str, net: str) -> float:
    """Return the peak of resident kilobytes after some training steps."""
    step = FACTORIES[name](make_problem(NETS[net]))
    for _ in range(STEPS):
        loss = step()
    loss.item()
    return memory.peak_kb()


# --- measuring ----------------------------------------------------------------------------------


def compare_cold(net: str, names: Sequence[str], rounds: int) -> dict[str, Any]:
    """Return, by name and by what the disk has, the median seconds of the first step.

    The ratio is to the first name's seconds with the same on the disk. Imports are not timed.
    """
    print(f"{'':28}" + "".join(f"{there:>14}{'ratio':>7}" for there in CACHES))
    times: dict[str, dict[str, list[float]]] = {name: {t: [] for t in CACHES} for name in names}
    for number in range(rounds):
        for name in names[:: -1 if number % 2 else 1]:
            with tempfile.TemporaryDirectory() as cache:
                for there in CACHES:
                    if there == "kernels":
                        for path in Path(cache).glob("*/minigrad_*"):  # generated code
                            path.unlink()
                    first, _ = call("first.first_calls", name, net, NUMBA_CACHE_DIR=cache)
                    times[name][there].append(first)
    result: dict[str, Any] = {}
    for name in names:
        medians = {there: statistics.median(t) for there, t in times[name].items()}
        base = result[names[0]]["seconds"] if result else medians
        ratios = {there: medians[there] / base[there] for there in CACHES}
        result[name] = {"seconds": medians, "ratios": ratios}
        figures = "".join(f"{medians[there]:>14.2f}{ratios[there]:>7.1f}" for there in CACHES)
        print(f"{name:<28}{figures}", flush=True)
    return result


def compare_peaks(net: str, names: Sequence[str], rounds: int) -> dict[str, float]:
    """Return the median of peak megabytes in training, with all code in the disk cache."""
    result = {}
    for name in names:
        with tempfile.TemporaryDirectory() as cache:
            call("first.training_peak", name, net, NUMBA_CACHE_DIR=cache)
            peaks = [
                call("first.training_peak", name, net, NUMBA_CACHE_DIR=cache) for _ in range(rounds)
            ]
        result[name] = statistics.median(peaks) / 1024
        ratio = result[name] / result[names[0]]
        print(f"{name:<28}{result[name]:>10.1f} MB{ratio:>12.2f}", flush=True)
    return result


def compare_epochs(net: str, rounds: int) -> dict[str, float]:
    """Return the median microseconds per batch of a loop of compiled steps, and of `epoch`."""
    import minigrad as mg

    problem = make_problem(NETS[net])
    step = mg.compile(eager_function(problem, "minigrad"))
    rng = np.random.default_rng(0)
    rows = problem.net.batch * BATCHES
    x = rng.standard_normal((rows, problem.net.inputs)).astype(np.float32)
    labels = rng.integers(0, problem.net.classes, rows)
    loader = mg.data.DataLoader(x, labels, batch_size=problem.net.batch, shuffle=True)

    def loop() -> None:
        for batch in loader:
            step(*batch)

    ways = {"loop": loop, "epoch": lambda: step.epoch(loader)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if number:  # the first round compiles
                times[name].append((time.perf_counter() - start) / BATCHES * 1e6)
    return {name: statistics.median(t) for name, t in times.items()}
