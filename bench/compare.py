"""`python -m bench.compare` measures minigrad and the installed peers in turn, on this machine.

It has these commands: `steps` (the default: the four training steps), `import` (the time of `import
minigrad` and of `import numba`), `memory` (growth over many training steps), `first` (the first
calls of a compiled step), `epoch` (an epoch in compiled code and a loop of compiled steps), `peak`
(peak memory of training) and `commits` (two commits of minigrad).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import commits, first, machine, memory
from bench.workloads import FACTORIES, NETS, SHAPES, Step, available, check_agreement, make_problem

DESCRIPTION = "Compare minigrad with the installed peers; without a command it runs `steps`."
WARM_UP = 10  # steps, before anything is timed
SETTLE = 0.03  # seconds in which idle threads of BLAS and OpenMP stop spinning
BURST = 0.03  # about the seconds of timed steps in one turn


def burst(step: Step, count: int) -> float:
    """Return the seconds per step of `count` steps, including the reading of the last loss."""
    start = time.perf_counter()
    for _ in range(count):
        loss = step()
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


def compare_steps(nets: Sequence[str], names: Sequence[str], rounds: int) -> dict[str, Any]:
    """Return, by net, the quartiles of each name in microseconds, and its ratio to minigrad's."""
    result = {}
    for net in nets:
        problem = make_problem(NETS[net])
        check_agreement(problem, names)
        times = time_in_turn({name: FACTORIES[name](problem) for name in names}, rounds)
        quartiles = {
            name: [1e6 * q for q in statistics.quantiles(t, n=4, method="inclusive")]
            for name, t in times.items()
        }
        medians = {name: q[1] for name, q in quartiles.items()}
        ratios = {name: medians[name] / medians[names[0]] for name in names[1:]}
        result[net] = {"quartiles_us": quartiles, "ratios": ratios}
        report_step(net, quartiles, ratios)
    return result


def report_step(net: str, quartiles: dict[str, list[float]], ratios: dict[str, float]) -> None:
    """Print a line for each library, under the head that `run_steps` prints."""
    for name, (q1, q2, q3) in quartiles.items():
        times = f"{q2:>10,.0f} {f'({q1:,.0f}-{q3:,.0f})':>18}"
        print(f"{net:<8}{name:<28}{times}{ratios.get(name, 1.0):>12.2f}", flush=True)


def run_steps(args: argparse.Namespace) -> dict[str, Any]:
    """Run the `steps` command."""
    missing = [name for name in args.peers if not available(name)]
    for name in missing:
        print(f"{name} is not installed: left out (pip install -e '.[peers]')")
    names = ["minigrad", *(name for name in args.peers if name not in missing)]
    print(f"one training step in microseconds, of {args.rounds} rounds in turn")
    print(f"{'':36}{'median':>10} {'(quartiles)':>18}{'/ minigrad':>12}")
    return {"rounds": args.rounds, "steps": compare_steps(args.steps, names, args.rounds)}


def import_seconds(module: str) -> float:
    """Return the seconds of one `import module` in a new process, after the process's start."""
    code = (
        "import time; start = time.perf_counter(); "
        f"import {module}; print(time.perf_counter() - start)"
    )
    run = [sys.executable, "-c", code]
    return float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


def run_import(args: argparse.Namespace) -> dict[str, Any]:
    """Run the `import` command."""
    modules = ("numba", "minigrad")
    for module in modules:
        import_seconds(module)  # to write byte code and fill the disk's cache
    times: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(args.rounds):
        for module in modules:
            times[module].append(import_seconds(module))
    medians = {module: statistics.median(t) for module, t in times.items()}
    for module, seconds in medians.items():
        print(f"import {module:<9} {seconds:7.3f} s  (median of {args.rounds}, in turn)")
    print(f"difference       {medians['minigrad'] - medians['numba']:7.3f} s")
    return {"rounds": args.rounds, "import_s": medians}


def run_memory(args: argparse.Namespace) -> dict[str, Any]:
    """Run the `memory` command."""
    step = FACTORIES["minigrad"](make_problem(NETS["tiny"]))
    kilobytes = memory.growth(step, args.count, args.warm_up)
    print(f"memory growth over {args.count:,} tiny training steps: {kilobytes:,.0f} kB")
    return {"steps": args.count, "growth_kb": kilobytes}


def run_first(args: argparse.Namespace) -> dict[str, Any]:
    """Run the `first` command."""
    print(f"{args.net}: seconds until the second call has returned, by what was compiled before")
    print(f"{'':28}{'nothing':>12}{'kernels':>12}{'everything':>12}")
    names = [name for name in FACTORIES if name.startswith("minigrad-compiled")]
    return {"first_s": first.compare_first(args.net, names, args.rounds)}


def run_epoch(args: argparse.Namespace) -> dict[str, Any]:
    """Run the `epoch` command."""
    medians = first.compare_epochs(args.net, args.rounds)
    for name, microseconds in medians.items():
        print(f"{args.net} {name:<8}{microseconds:10.1f} us per batch")
    print(f"loop / epoch {medians['loop'] / medians['epoch']:11.2f}")
    return {"epoch_us": medians}


def run_peak(args: argparse.Namespace) -> dict[str, Any]:
    """Run the `peak` command."""
    names = ["minigrad-compiled", "minigrad", "torch", "jax"]
    names = [name for name in names if available(name)]
    print(f"{args.net}: peak resident memory of {first.STEPS} training steps, with imports")
    return {"peak_mb": first.compare_peaks(args.net, names, args.rounds)}


def run_commits(args: argparse.Namespace) -> dict[str, Any]:
    """Run the `commits` command."""
    shapes = args.shapes
    print(f"{args.before}, {args.after}: medians of {args.rounds} rounds in turn, and their ratio")
    names = args.before, args.after
    return {"commits": names, **commits.compare_commits(names, args.steps, shapes, args.rounds)}


def report_machine(about: dict[str, Any]) -> None:
    """Print the machine, the versions and the thread counts of a run."""
    print(f"\n{about['cpu']}, {about['cores']} cores, {about['system']}")
    for topic in ("versions", "threads"):
        print(f"{topic}: " + ", ".join(f"{name} {value}" for name, value in about[topic].items()))


def names_from(known: Sequence[str]) -> Any:
    """Return an argparse type for a list of names in `known`, separated by commas, maybe empty."""

    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"unknown name {name!r}; choose from {', '.join(known)}, separated by commas"
                )
        return list(dict.fromkeys(names))

    return parse


def at_least(least: int) -> Any:
    """Return an argparse type for an integer of at least `least`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected an integer, got {text!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"expected {least} or more, got {value}")
        return value

    return parse


def writable(text: str) -> Path:
    """Return the path of a file to write, as an argparse type that refuses it before measuring."""
    path = Path(text)
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: a folder, or in none that exists")
    return path


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=DESCRIPTION)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--json", type=writable, metavar="PATH", help="write the figures there, too"
    )
    commands = parser.add_subparsers(dest="command", required=True)

    peers = [name for name in FACTORIES if name != "minigrad"]
    steps = commands.add_parser("steps", parents=[shared], help="the four training steps")
    steps.add_argument("--steps", type=names_from(list(NETS)), default=list(NETS), metavar="NAMES")
    steps.add_argument("--peers", type=names_from(peers), default=peers, metavar="NAMES")
    steps.add_argument("--rounds", type=at_least(2), default=40, metavar="N")
    steps.set_defaults(run=run_steps)

    imports = commands.add_parser("import", parents=[shared], help="time that an import takes")
    imports.add_argument("--rounds", type=at_least(1), default=9, metavar="N")
    imports.set_defaults(run=run_import)

    growth = commands.add_parser("memory", parents=[shared], help="growth over many steps")
    growth.add_argument("--count", type=at_least(1), default=10_000, metavar="N")
    growth.add_argument("--warm-up", type=at_least(0), default=1_000, metavar="N")
    growth.set_defaults(run=run_memory)

    shapes_known = ["x".join(map(str, shape)) for shape in SHAPES]
    two = commands.add_parser("commits", parents=[shared], help="two commits of minigrad")
    two.add_argument("before", help="a commit, such as v0.1.0 or main~10")
    two.add_argument("after", nargs="?", default="HEAD", help="another (default: %(default)s)")
    two.add_argument("--steps", type=names_from(list(NETS)), default=list(NETS), metavar="NAMES")
    two.add_argument(
        "--shapes", type=names_from(shapes_known), default=shapes_known, metavar="SHAPES"
    )
    two.add_argument("--rounds", type=at_least(2), default=11, metavar="N")
    two.set_defaults(run=run_commits)

    for name, run, net, rounds, what in (
        ("first", run_first, "digits", 3, "the first call of a compiled step"),
        ("epoch", run_epoch, "tiny", 15, "an epoch in compiled code"),
        ("peak", run_peak, "mnist", 3, "peak memory of training"),
    ):
        command = commands.add_parser(name, parents=[shared], help=what)
        command.add_argument("--net", choices=list(NETS), default=net)
        command.add_argument("--rounds", type=at_least(1), default=rounds, metavar="N")
        command.set_defaults(run=run)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command, print its figures and, with --json, write them as JSON."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments.insert(0, "steps")
    args = build_parser().parse_args(arguments)
    load = machine.load()
    if load > 0.5:
        print(f"warning: load average {load:.1f}, something else is running: expect noise")
    figures = args.run(args)
    about = {**machine.describe(), "threads": machine.threads()}
    report_machine(about)
    if args.json:
        args.json.write_text(json.dumps({**figures, "machine": about}, indent=2) + "\n")


if __name__ == "__main__":
    main()
