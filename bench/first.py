"""These functions measure compiled steps: first calls, peak memory, and an epoch against a loop.

First calls and peak memory are measured in a new process each time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import memory
from bench.workloads import FACTORIES, NETS, eager_function, make_problem

BATCHES = 256  # in an epoch
STEPS = 200  # training steps before the peak memory is read


def call(function: str, *arguments: Any, folder: Path | None = None, **variables: str) -> Any:
    """Call a function of this module in a new process, and return its result.

    folder: the folder with the bench and minigrad that the process imports (default: the current
        folder); variables: additional environment variables.
    """
    code = (
        "import json, sys; from bench import first; "
        "print(json.dumps(getattr(first, sys.argv[1])(*json.loads(sys.argv[2]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, function, json.dumps(arguments)],
        cwd=folder,
        env={**os.environ, **variables},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


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


def compare_first(net: str, names: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    """Return the median seconds of the first two calls, by name and by what the cache contains."""
    result = {}
    for name in names:
        times: dict[str, list[float]] = {"nothing": [], "kernels": [], "everything": []}
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as cache:
                for there, seconds in times.items():
                    if there == "kernels":
                        for path in Path(cache).glob("*/minigrad_*"):  # generated code
                            path.unlink()
                    seconds.append(sum(call("first_calls", name, net, NUMBA_CACHE_DIR=cache)))
        result[name] = {there: statistics.median(seconds) for there, seconds in times.items()}
        figures = "".join(f"{seconds:12.2f}" for seconds in result[name].values())
        print(f"{name:<28}{figures}", flush=True)
    return result


def compare_peaks(net: str, names: Sequence[str], rounds: int) -> dict[str, float]:
    """Return the median of peak megabytes in training, with all code in the disk cache."""
    result = {}
    for name in names:
        with tempfile.TemporaryDirectory() as cache:
            call("training_peak", name, net, NUMBA_CACHE_DIR=cache)
            peaks = [call("training_peak", name, net, NUMBA_CACHE_DIR=cache) for _ in range(rounds)]
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
