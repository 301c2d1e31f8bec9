"""`python -m bench.compare` measures minigrad and the installed peers in turn, on this machine.

It has these commands: `steps` (the default: a training step of each net), `norms` (BatchNorm by
shape), `company` (a training beside a second one, or beside a busy core), `cold` (the first step,
by what the disk has), `overhead` (what a compiled call costs around its machine code), `import`
(the time of `import minigrad` and of `import numba`), `memory` (growth over many training steps),
`epoch` (an epoch in compiled code and a loop of compiled steps), `peak` (peak memory of training)
and `commits` (two commits of minigrad).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import commits, company, first, machine, memory, norms, overhead, steps
from bench.problems import NETS, SHAPES, make_problem
from bench.workloads import FACTORIES, WITHOUT_NORM, available

DESCRIPTION = "Compare minigrad with the installed peers; without a command it runs `steps`."
NAMED = ["tiny", "digits", "mnist", "wide"]  # the nets that every commit has


def those_available(names: Sequence[str]) -> list[str]:
    """Return the names whose libraries are installed, and say which are left out."""
    for name in names:
        if not available(name):
            print(f"{name} is not installed: left out (pip install -e '.[peers]')")
        elif name in WITHOUT_NORM:
            print(f"{name} has no BatchNorm: left out where a net has it")
    return [name for name in names if available(name)]


def run_steps(args: argparse.Namespace) -> dict[str, Any]:
    """Run the `steps` command."""
    names = ["minigrad", *those_available(args.peers)]
    print(f"one training step, of {args.rounds} rounds in turn")
    given = args.steps, names, args.rounds
    if args.threads:
        return {"rounds": args.rounds, **steps.compare_threads(*given, args.threads)}
    return {"rounds": args.rounds, **steps.compare_steps(*given)}


def run_norms(args: argparse.Namespace) -> dict[str, Any]:
    """Run the `norms` command."""
    print(f"BatchNorm in training, forward and backward, of {args.rounds} rounds in turn")
    print(f"{'':41}{'median us':>10} {'(quartiles)':>18}{'/ fused':>12}")
    return {"rounds": args.rounds, **norms.compare_norms(args.shapes, args.rounds)}


def run_company(args: argparse.Namespace) -> dict[str, Any]:
    """Run the `company` command."""
    names = those_available(args.names)
    print(f"one training step in us, medians of {args.rounds} rounds in new processes")
    about = {"rounds": args.rounds, "one_thread": args.one_thread}
    given = args.nets, names, args.rounds, args.seconds, args.one_thread
    return {**about, **company.compare_company(*given)}


def run_cold(args: argparse.Namespace) -> dict[str, Any]:
    """Run the `cold` command."""
    names = ["numba-plain", *those_available(args.names)]
    print(f"{args.net}: seconds until the first step has returned, by what was on the disk before,")
    print("and the ratio to plain Numba kernels")
    return {"rounds": args.rounds, "cold": first.compare_cold(args.net, names, args.rounds)}


def run_overhead(args: argparse.Namespace) -> dict[str, Any]:
    """Run the `overhead` command."""
    print(f"a compiled call and its parts, medians of {args.rounds} rounds in turn")
    found = overhead.compare_overhead(args.programs, args.rounds)
    return {"rounds": args.rounds, "overhead_us": found}


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
        if about[topic]:
            values = (f"{name} {value}" for name, value in about[topic].items())
            print(f"{topic}: " + ", ".join(values))


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


def seconds(text: str) -> float:
    """Return a number of seconds above 0, as an argparse type does."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def counts(text: str) -> list[int]:
    """Return a list of counts of at least 1, separated by commas, as an argparse type does."""
    return [at_least(1)(count) for count in text.split(",")]


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

    nets = names_from(list(NETS))
    peers = [name for name in FACTORIES if name != "minigrad"]
    each = commands.add_parser("steps", parents=[shared], help="a training step of each net")
    each.add_argument("--steps", type=nets, default=list(NETS), metavar="NETS")
    each.add_argument("--peers", type=names_from(peers), default=peers, metavar="NAMES")
    each.add_argument("--rounds", type=at_least(2), default=40, metavar="N")
    each.add_argument(
        "--threads", type=counts, metavar="COUNTS", help="for each library, such as 1,2"
    )
    each.set_defaults(run=run_steps)

    shapes_known = ["x".join(map(str, shape)) for shape in SHAPES]
    shapes = names_from(shapes_known)
    norm = commands.add_parser("norms", parents=[shared], help="BatchNorm by shape")
    norm.add_argument("--shapes", type=shapes, default=shapes_known, metavar="SHAPES")
    norm.add_argument("--rounds", type=at_least(2), default=40, metavar="N")
    norm.set_defaults(run=run_norms)

    beside = commands.add_parser("company", parents=[shared], help="a training that is not alone")
    beside.add_argument("--nets", type=nets, default=["digits", "mnist"], metavar="NETS")
    beside.add_argument(
        "--names",
        type=names_from(list(FACTORIES)),
        default=["minigrad", "minigrad-compiled", "torch", "jax"],
        metavar="NAMES",
    )
    beside.add_argument("--rounds", type=at_least(1), default=5, metavar="N")
    beside.add_argument(
        "--seconds", type=seconds, default=1.0, metavar="S", help="of each training"
    )
    beside.add_argument("--one-thread", action="store_true", help="give BLAS and OpenMP one thread")
    beside.set_defaults(run=run_company)

    cold = commands.add_parser("cold", parents=[shared], help="the first step")
    cold.add_argument("--net", choices=list(NETS), default="digits")
    cold.add_argument(
        "--names",
        type=names_from([name for name in FACTORIES if name != "numba-plain"]),
        default=["minigrad", "minigrad-compiled", "minigrad-compiled-composed"],
        metavar="NAMES",
    )
    cold.add_argument("--rounds", type=at_least(1), default=3, metavar="N")
    cold.set_defaults(run=run_cold)

    around = commands.add_parser("overhead", parents=[shared], help="around machine code")
    programs = ["empty", *NETS]
    around.add_argument(
        "--programs", type=names_from(programs), default=programs[:2], metavar="NAMES"
    )
    around.add_argument("--rounds", type=at_least(1), default=25, metavar="N")
    around.set_defaults(run=run_overhead)

    imports = commands.add_parser("import", parents=[shared], help="time that an import takes")
    imports.add_argument("--rounds", type=at_least(1), default=9, metavar="N")
    imports.set_defaults(run=run_import)

    growth = commands.add_parser("memory", parents=[shared], help="growth over many steps")
    growth.add_argument("--count", type=at_least(1), default=10_000, metavar="N")
    growth.add_argument("--warm-up", type=at_least(0), default=1_000, metavar="N")
    growth.set_defaults(run=run_memory)

    two = commands.add_parser("commits", parents=[shared], help="two commits of minigrad")
    two.add_argument("before", help="a commit, such as v0.1.0 or main~10")
    two.add_argument("after", nargs="?", default="HEAD", help="another (default: %(default)s)")
    two.add_argument("--steps", type=nets, default=NAMED, metavar="NETS")
    two.add_argument("--shapes", type=shapes, default=shapes_known, metavar="SHAPES")
    two.add_argument("--rounds", type=at_least(2), default=11, metavar="N")
    two.set_defaults(run=run_commits)

    for name, run, net, rounds, what in (
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
    # Where other processes have measured, they have found the threads, too.
    about = {**machine.describe(), "threads": figures.pop("threads", None) or machine.threads()}
    report_machine(about)
    if args.json:
        args.json.write_text(json.dumps({**figures, "machine": about}, indent=2) + "\n")


if __name__ == "__main__":
    main()
