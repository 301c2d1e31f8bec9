"""These functions split a call of a compiled function: Python's part, and that of machine code.

Python recognises the arguments, checks the guards, and passes arrays to machine code, and gradients
and results to the caller. One generated function does all of this, so it has no parts to time.
Machine code includes Numba's passing of arguments.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from bench.workloads import NETS, eager_function, make_problem

BURST = 0.01  # about the seconds of timed calls in one turn
WARM_UP = 20  # calls, before anything is timed
PARTS = ("whole call", "machine code")

Call = Callable[[], Any]


def program(name: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return a function and its arguments: one that does nothing, or the step of a net."""
    if name == "empty":
        return lambda: None, ()
    problem = make_problem(NETS[name])
    return eager_function(problem, "minigrad"), (problem.x, problem.labels)


def parts_of(function: Callable[..., Any], arguments: tuple[Any, ...]) -> dict[str, Call]:
    """Return, by name, a function that repeats that part of a call of the compiled function."""
    import minigrad as mg
    from minigrad.compiler.runtime import backend

    calls: dict[Call, Any] = {}  # by function of machine code, the arguments of its latest call
    prepare = backend.prepare

    def recorded(function: Any, given: Sequence[object]) -> Any:
        entry, how = prepare(function, given)

        def noting(*arguments: Any) -> Any:
            calls[entry] = arguments
            return entry(*arguments)

        return noting, how

    def warm(compiled: Callable[..., Any]) -> None:
        for _ in range(WARM_UP):
            compiled(*arguments)

    recording = mg.compile(function)
    with mock.patch.object(backend, "prepare", recorded):
        warm(recording)
    whole = mg.compile(function)  # without recorders
    warm(whole)

    def machine_code(_owner: object = recording) -> None:  # whose memory the code uses
        for code, given in calls.items():
            code(*given)

    return {
        "whole call": lambda: whole(*arguments),
        "machine code": machine_code,
    }


def _seconds(call: Call, count: int) -> float:
    """Return the seconds per call, without those of the loop."""
    turns = range(count)
    start = time.perf_counter()
    for _ in turns:
        call()
    end = time.perf_counter()
    for _ in turns:
        pass
    return (2 * end - start - time.perf_counter()) / count


def compare_overhead(names: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    """Return, by program, the median microseconds of each part of a call, in turn."""
    heads = (*PARTS, "Python")
    print(f"{'us':<8}" + "".join(f"{head:>16}" for head in heads))
    result = {}
    for name in names:
        parts = parts_of(*program(name))
        counts = {part: max(10, round(BURST / _seconds(parts[part], WARM_UP))) for part in PARTS}
        times: dict[str, list[float]] = {head: [] for head in heads}
        for number in range(rounds):
            one = {
                part: _seconds(parts[part], counts[part])
                for part in PARTS[:: -1 if number % 2 else 1]
            }
            one["Python"] = one["whole call"] - one["machine code"]
            for head in heads:
                times[head].append(one[head])
        result[name] = {head: 1e6 * statistics.median(times[head]) for head in heads}
        figures = "".join(f"{result[name][head]:>16.2f}" for head in heads)
        print(f"{name:<8}{figures}", flush=True)
    return result
