"""These functions time a training that is not alone on the machine.

Trainings run in processes of their own, beside a second training of the same kind, or beside a
program that keeps one core busy.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench import machine
from bench.workloads import FACTORIES, NETS, can_train, make_problem

SITUATIONS = ("alone", "two trainings", "busy core")
SETTLE = 0.1  # seconds between two situations
WARM_UP = 0.3  # seconds of training before a process is ready
# Each BLAS, and OpenMP, which some use for their threads, has a variable of its own.
LIMITS = ("OPENBLAS_NUM", "MKL_NUM", "BLIS_NUM", "VECLIB_MAXIMUM", "OMP_NUM")
ONE_THREAD = {f"{limit}_THREADS": "1" for limit in LIMITS}
# The code of a busy program, which ends with its parent even if that is killed.
BUSY = """
import os
parent = os.getppid()
print(1, flush=True)
while os.getppid() == parent:
    sum(range(10_000))
"""

# --- in the process of a training ---------------------------------------------------------------


def train() -> None:
    """Train for the seconds in each line of the input, and print the seconds of each step."""
    name, net = sys.argv[1:]
    step = FACTORIES[name](make_problem(NETS[net]))
    _steps(step, WARM_UP)
    print(json.dumps(machine.threads()), flush=True)  # ready
    for line in sys.stdin:
        print(json.dumps(_steps(step, float(line))), flush=True)


def _steps(step: Any, seconds: float) -> list[float]:
    times = []
    start = now = time.perf_counter()
    while len(times) < 2 or now - start < seconds:
        before = now
        step().item()
        now = time.perf_counter()
        times.append(now - before)
    return times


# --- measuring ----------------------------------------------------------------------------------


class Program:
    """A Program is a process of Python that answers lines of JSON; it ends with the `with`."""

    def __init__(self, code: str, *arguments: str, **variables: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *error: Any) -> None:
        self._process.kill()
        self._process.communicate()

    def tell(self, value: Any) -> None:
        """Write a line to the process."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Wait for a line from the process, and return its value."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("company: a process has failed, see above")
        return json.loads(line)


def _measure(situation: str, trainings: Sequence[Program], seconds: float) -> list[float]:
    """Return the seconds of each step of all trainings in a situation."""
    time.sleep(SETTLE)
    if situation == "busy core":
        with Program(BUSY) as busy:
            busy.answer()
            return _times(trainings[:1], seconds)
    return _times(trainings if situation == "two trainings" else trainings[:1], seconds)


def _times(trainings: Sequence[Program], seconds: float) -> list[float]:
    for training in trainings:
        training.tell(seconds)
    return [t for training in trainings for t in training.answer()]


def _round(
    name: str, net: str, seconds: float, order: int, variables: dict[str, str]
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Return, from two new processes, the seconds of each step by situation, and the threads."""
    code = "from bench.company import train; train()"
    with Program(code, name, net, **variables) as one, Program(code, name, net, **variables) as two:
        threads, _ = [training.answer() for training in (one, two)]
        times = {
            situation: _measure(situation, (one, two), seconds) for situation in SITUATIONS[::order]
        }
        return times, threads


def compare_company(
    nets: Sequence[str], names: Sequence[str], rounds: int, seconds: float, one_thread: bool
) -> dict[str, Any]:
    """Return microseconds of a step by net, name and situation, and their ratios to `alone`.

    seconds: how long each training runs in each situation; one_thread: whether BLAS gets one
        thread; otherwise the environment stays as it is.
    """
    variables = ONE_THREAD if one_thread else {}
    heads = "".join(f"{situation:>16}{'/ alone':>8}{'(means)':>9}" for situation in SITUATIONS[1:])
    print(f"{'':36}{'alone':>10}{heads}")
    result: dict[str, Any] = {}
    threads: dict[str, Any] = {}
    for net in nets:
        known = [name for name in names if can_train(name, NETS[net])]
        found: dict[str, list[dict[str, list[float]]]] = {name: [] for name in known}
        for number in range(rounds):
            order = -1 if number % 2 else 1
            for name in known[::order]:
                times, counts = _round(name, net, seconds, order, variables)
                found[name].append(times)
                threads |= counts
        result[net] = {name: _summary(rows) for name, rows in found.items()}
        for name, row in result[net].items():
            print(f"{net:<8}{name:<28}{_line(row)}", flush=True)
    return {"company": result, "threads": threads}


def _summary(rounds: list[dict[str, list[float]]]) -> dict[str, Any]:
    """Return medians over the rounds: of the median step, the mean step, and their ratios."""
    result = {}
    for situation in SITUATIONS:
        one: dict[str, float] = {}
        for kind, middle in (("median", statistics.median), ("mean", statistics.fmean)):
            each = [middle(row[situation]) for row in rounds]
            alone = [middle(row["alone"]) for row in rounds]
            one[f"{kind}_us"] = 1e6 * statistics.median(each)
            ratios = [a / b for a, b in zip(each, alone, strict=True)]
            one[f"{kind}_ratio"] = statistics.median(ratios)
        result[situation] = one
    return result


def _line(row: dict[str, Any]) -> str:
    """Return the medians and their ratios; ratios of means tell of stalls that medians hide."""
    line = f"{row['alone']['median_us']:>10,.0f}"
    for situation in SITUATIONS[1:]:
        one = row[situation]
        means = f"({one['mean_ratio']:.1f})"
        line += f"{one['median_us']:>16,.0f}{one['median_ratio']:>8.1f}{means:>9}"
    return line
