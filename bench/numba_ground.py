"""This program measures what minigrad gains from its own layer on Numba: `-m bench.numba_ground`.

It switches off the disk cache, device functions, external calls, the import of BLAS and the thread
pool one at a time, each in a copy of the package, and compares the copy with the unchanged package:
the seconds of the first two calls of a step, with an empty and with a filled cache, and the
microseconds of a later step. minigrad.kernels.jit and minigrad.kernels.threading explain each part.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import machine
from bench.workloads import FACTORIES, NETS, make_problem

ROOT = Path(__file__).resolve().parents[1]
STEPS = {"compiled": "minigrad-compiled", "eager": "minigrad"}
BASE = "as it is"  # the variant that all others are compared with
SECONDS = 1.0  # the time in which one process repeats a step

PRANGE = """

def parallel_for(function):
    def loop(pool, parts, elements, arguments):
        if pool.size == 0 or parts < 2:
            for i in range(parts):
                function(i, 0, *arguments)
        else:
            run(parts, arguments)

    def run_parts(parts, arguments):
        for i in numba.prange(parts):
            function(i, numba.get_thread_id(), *arguments)

    run = numba.njit(parallel=True, nogil=True, error_model="numpy")(
        _named_after(function, run_parts)
    )
    return device_function(_named_after(function, loop))
"""
ONE_THREAD = """

def parallel_for(function):
    return device_function(_named_after(function, serial_for(function)))
"""
# By name: a file of kernels/, and the lines that the copy has at its end.
VARIANTS = {
    BASE: ("jit/decorators.py", ""),
    "Numba's cache": ("jit/decorators.py", "\nDiskCache = None\n"),
    "plain device functions": ("jit/decorators.py", "\nInlined = None\n"),
    "no external calls": ("jit/decorators.py", "\n\ndef external(kernel):\n    return kernel\n"),
    "all of SciPy": ("jit/blas.py", "\n\ndef load_blas():\n    pass\n"),
    "prange": ("threading/parallel_for.py", PRANGE),
    "one thread": ("threading/parallel_for.py", ONE_THREAD),
}


def copy(variant: str, folder: Path) -> None:
    """Copy the package with the lines of a variant, and the benchmarks, to a folder."""
    for name in ("minigrad", "bench"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.png")
        )
    file, lines = VARIANTS[variant]
    with (folder / "minigrad" / "kernels" / file).open("a", encoding="utf-8") as source:
        source.write(lines)


def run(folder: Path, name: str, net: str) -> dict[str, float]:
    """Run `measure` in a new process that uses the copy of the package in `folder`."""
    done = subprocess.run(
        [sys.executable, "-c", "from bench.numba_ground import measure; measure()", name, net],
        env={**os.environ, "PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "cache")},
        cwd=folder,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure() -> None:
    """Print the seconds until two calls of a step have returned, and those of a later call."""
    name, net = sys.argv[1:]
    problem, start = make_problem(NETS[net]), time.perf_counter()
    step = FACTORIES[name](problem)
    for _ in range(2):  # the first traces a compiled step
        step().item()
    first, times = time.perf_counter() - start, []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        step().item()
        times.append(time.perf_counter() - start)
    print(json.dumps({"first": first, "step": statistics.median(times)}))


def compare(variants: list[str], nets: list[str], rounds: int) -> list[dict[str, Any]]:
    """Return a row for each net, step and variant: medians, and the ratio to the first variant."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folders = {variant: Path(temporary, str(i)) for i, variant in enumerate(variants)}
        for variant, folder in folders.items():
            copy(variant, folder)
        for net in nets:
            for kind, name in STEPS.items():
                empty: dict[str, list[float]] = {variant: [] for variant in variants}
                filled: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
                for number in range(rounds):
                    for variant in variants[:: -1 if number % 2 else 1]:
                        shutil.rmtree(folders[variant] / "cache", ignore_errors=True)
                        empty[variant].append(run(folders[variant], name, net)["first"])
                        filled[variant].append(run(folders[variant], name, net))
                for variant in variants:
                    steps = [found["step"] for found in filled[variant]]
                    base = [found["step"] for found in filled[variants[0]]]
                    rows.append(
                        {
                            "net": net,
                            "step": kind,
                            "variant": variant,
                            "empty": statistics.median(empty[variant]),
                            "filled": statistics.median(f["first"] for f in filled[variant]),
                            "us": 1e6 * statistics.median(steps),
                            "ratio": statistics.median(
                                a / b for a, b in zip(steps, base, strict=True)
                            ),
                        }
                    )
    return rows


def main() -> None:
    """Read the command line, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=["digits", "wide"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    variants = [BASE, *(v for v in options.variants if v != BASE)]
    print(json.dumps(machine.describe()))
    print(f"{'net':8}{'step':10}{'variant':24}{'empty s':>9}{'filled s':>9}{'step us':>10} ratio")
    for row in compare(variants, options.nets, options.rounds):
        print(
            f"{row['net']:8}{row['step']:10}{row['variant']:24}{row['empty']:9.2f}"
            f"{row['filled']:9.2f}{row['us']:10.1f}{row['ratio']:6.2f}"
        )


if __name__ == "__main__":
    main()
