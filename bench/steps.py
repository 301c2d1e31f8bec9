"""These functions time the training steps of all libraries, in turn and in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from bench import machine, process, threads
from bench.workloads import FACTORIES, NETS, Step, can_train, check_agreement, make_problem

WARM_UP = 10  # steps, before anything is timed
SETTLE = 0.03  # seconds in which idle threads of BLAS and OpenMP stop spinning
BURST = 0.03  # about the seconds of timed steps in one turn


def burst(step: Step, count: int) -> float:
    """Return the seconds per step of `count` steps, including the reading of the last loss."""
    start = time.perf_counter()
    for _ in range(count):
        loss = step()
    if hasattr(loss, "item"):  # other results are there when a call returns
        loss.item()
    return (time.perf_counter() - start) / count


def time_in_turn(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Return the seconds per step by name and round; each second round runs in reverse order."""
    counts = {}
    for name, step in steps.items():
        burst(step, WARM_UP)
        counts[name] = max(1, round(BURST / burst(step, WARM_UP)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        for name in list(steps)[:: -1 if number % 2 else 1]:
            time.sleep(SETTLE)
            burst(steps[name], max(2, counts[name] // 10))  # fills the caches after another's turn
            times[name].append(burst(steps[name], counts[name]))
    return times


def compare_in_turn(title: str, steps: dict[str, Step], rounds: int) -> dict[str, Any]:
    """Return the quartiles of each name in microseconds, and its ratio to the first name.

    It also prints a line for each name, which begins with the title.
    """
    quartiles = {
        name: [1e6 * q for q in statistics.quantiles(t, n=4, method="inclusive")]
        for name, t in time_in_turn(steps, rounds).items()
    }
    first, *others = quartiles
    ratios = {name: quartiles[name][1] / quartiles[first][1] for name in others}
    for name, (q1, q2, q3) in quartiles.items():
        times = f"{q2:>10,.0f} {f'({q1:,.0f}-{q3:,.0f})':>18}"
        print(f"{title:<13}{name:<28}{times}{ratios.get(name, 1.0):>12.2f}", flush=True)
    return {"quartiles_us": quartiles, "ratios": ratios}


def compare_steps(
    nets: Sequence[str], names: Sequence[str], rounds: int, count: int | None = None
) -> dict[str, Any]:
    """Return the result of compare_in_turn by net.

    count: how many threads each library uses (default: as many as it would by itself).
    """
    print(f"{'':41}{'median us':>10} {'(quartiles)':>18}{'/ minigrad':>12}")
    result = {}
    for net in nets:
        problem = make_problem(NETS[net])
        known = [name for name in names if can_train(name, problem.net)]
        check_agreement(problem, known)  # loads the libraries
        if count is not None:
            threads.limit(count)
        steps = {name: FACTORIES[name](problem) for name in known}
        result[net] = compare_in_turn(net, steps, rounds)
    return {"steps": result, "threads": machine.threads()}


def compare_threads(
    nets: Sequence[str], names: Sequence[str], rounds: int, counts: Sequence[int]
) -> dict[str, Any]:
    """Return the result of compare_steps by count of threads, each from a process of its own."""
    found = {}
    for count in counts:
        print(f"\nthreads: {count}", flush=True)
        arguments = nets, names, rounds, count
        variables = threads.variables(count)
        found[str(count)] = process.call("steps.compare_steps", *arguments, **variables)
    heads = "".join(f"{count:>10}" for count in counts)
    print(f"\n{'medians in us, by threads':<36}{heads}{f'{counts[0]} / {counts[-1]}':>10}")
    for net, first in found[str(counts[0])]["steps"].items():
        for name in first["quartiles_us"]:
            medians = [one["steps"][net]["quartiles_us"][name][1] for one in found.values()]
            figures = "".join(f"{median:>10,.0f}" for median in medians)
            print(f"{net:<8}{name:<28}{figures}{medians[0] / medians[-1]:>10.2f}")
    each = [one["threads"] for one in found.values()]
    used = {label: "/".join(str(one.get(label)) for one in each) for label in each[0]}
    return {"by_threads": found, "threads": used}
