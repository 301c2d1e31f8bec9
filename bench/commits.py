"""This module compares two commits of minigrad, each in a process with a copy of its files.

Each workload is timed in the two processes alternately, so that other load on the machine slows
both. A ratio above 1 means that the second commit is faster.
"""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.process import call

ROOT = Path(__file__).parents[1]
SETTLE, BURST = 0.03, 0.05  # seconds: between turns, and of timed calls in one turn

# The server runs in the folder of a commit, with the workloads of that commit. It answers each line
# [workload, variant, count] with the seconds per call.
SERVER = """
import json, sys, time
import numpy as np
import minigrad as mg
from bench.test_batchnorm import VARIANTS, make_calls
from bench.workloads import FACTORIES, NETS, make_problem

def made(workload, variant):
    if workload in NETS:
        return FACTORIES[variant](make_problem(NETS[workload]))
    shape = tuple(map(int, workload.split("x")))
    call = make_calls(*VARIANTS[variant], shape)["both"]
    return mg.compile(call) if variant == "compiled" else call

known = {}
for line in sys.stdin:
    workload, variant, count = json.loads(line)
    call = known.get((workload, variant))
    if call is None:
        known.clear()  # one workload at a time keeps its arrays in the cache
        call = known[workload, variant] = made(workload, variant)
    start = time.perf_counter()
    for _ in range(count):
        call()
    print(json.dumps((time.perf_counter() - start) / count), flush=True)
"""


class Commit:
    """A Commit is a copy of a commit's files in a folder, with a process that times calls there."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        packed = subprocess.run(
            ["git", "archive", name], cwd=ROOT, check=True, stdout=subprocess.PIPE
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder)
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self, workload: str, variant: str, count: int) -> float:
        """Return the seconds per call of `count` calls."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps([workload, variant, count]) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name}: {variant} of {workload} has failed, see above")
        return float(json.loads(answer))

    def first(self, net: str, cache: Path) -> float:
        """Return the seconds of the first two calls of a compiled step."""
        variables = {"NUMBA_CACHE_DIR": str(cache)}
        arguments = "minigrad-compiled", net
        return sum(call("first.first_calls", *arguments, folder=self.folder, **variables))

    def peak(self, net: str) -> float:
        """Return the peak of resident memory in eager training, in megabytes."""
        return float(call("first.training_peak", "minigrad", net, folder=self.folder)) / 1024

    def close(self) -> None:
        """Close the input of the process, and wait until it ends."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare_commits(
    names: tuple[str, str], nets: list[str], shapes: list[str], rounds: int
) -> dict[str, Any]:
    """Return, by workload, the medians of both commits and the quartiles of their paired ratios."""
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        commits = [Commit(name, Path(folder, str(i))) for i, name in enumerate(names)]
        workloads = [(net, v) for net in nets for v in ("minigrad", "minigrad-compiled")]
        workloads += [(shape, v) for shape in shapes for v in ("fused", "compiled")]
        for workload, variant in workloads:
            times = _in_turn(commits, workload, variant, rounds)
            result[f"{workload} {variant}"] = _report(f"{workload} {variant}", times, 1e6, "us")
        for net in nets[:1]:
            result[f"first {net}"] = _firsts(commits, net)
            peaks = [[commit.peak(net)] for commit in commits]
            result[f"peak {net}"] = _report(f"{net}, peak of memory", peaks, 1.0, "MB")
        for commit in commits:
            commit.close()
    return result


def _in_turn(commits: list[Commit], workload: str, variant: str, rounds: int) -> list[list[float]]:
    counts = []
    for commit in commits:
        commit.seconds(workload, variant, 3)  # to compile or load
        counts.append(max(1, round(BURST / commit.seconds(workload, variant, 3))))
    count = max(counts)
    times: list[list[float]] = [[], []]
    for number in range(rounds):
        for i in (0, 1)[:: -1 if number % 2 else 1]:
            time.sleep(SETTLE)
            commits[i].seconds(workload, variant, max(2, count // 10))
            times[i].append(commits[i].seconds(workload, variant, count))
    return times


def _firsts(commits: list[Commit], net: str) -> dict[str, Any]:
    """Return the seconds of the first two calls, with an empty and with a filled disk cache."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        caches = [Path(folder, str(i)) for i in range(2)]
        for there in ("nothing", "everything"):
            pairs = zip(commits, caches, strict=True)
            times = [[commit.first(net, cache)] for commit, cache in pairs]
            found[there] = _report(f"{net}, first calls, {there} on disk", times, 1.0, "s")
    return found


def _report(title: str, times: list[list[float]], scale: float, unit: str) -> dict[str, Any]:
    """Print and return the medians, and the ratio of the first commit's time to the second's."""
    medians = [statistics.median(t) * scale for t in times]
    ratios = [a / b for a, b in zip(*times, strict=True)]
    spread = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios
    shown = f"({spread[0]:.2f}-{spread[-1]:.2f})" if len(ratios) > 1 else ""
    middle = statistics.median(ratios)
    figures = f"{medians[0]:>12,.1f}{medians[1]:>12,.1f} {unit:<3}{middle:>8.2f} {shown:>13}"
    print(f"{title:<42}{figures}", flush=True)
    return {"medians": medians, "unit": unit, "ratio": middle, "quartiles": spread}
