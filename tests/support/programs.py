"""Generate training programs as users write them, run each compiled and eagerly, and compare.

Everything that a user can see must agree after every step.

    python tests/support/programs.py --count 5000 --seed 0 --minutes 60
    python tests/support/programs.py --each
    python tests/support/programs.py --run program.py

A program follows from its choices, which have names and follow from a seed. A failing program is
made smaller: its choices are replaced by simpler ones as long as it fails in the same way.
"""

import argparse
import contextlib
import functools
import json
import random
import re
import signal
import sys
import tempfile
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from interpreted import as_python
from program_text import alone, write
from program_writer import Choices

import minigrad as mg
from minigrad.engine.tensor import Tensor, as_tensor

PASSED, FAILED, UNFINISHED = 0, 1, 2  # exit statuses
FEW = 100.0  # seconds to shrink one program; all of it may take three times as long
COMPILE = "compile = mg.compile\n"  # the line that is different in the eager run


# --- running one ---------------------------------------------------------------------------------


def eager(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with arrays as Tensors, as mg.compile passes them, but not compiled."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*map(lifted, args), **{k: lifted(x) for k, x in kwargs.items()})

    return call


def lifted(x: Any) -> Any:
    return as_tensor(x, "step") if isinstance(x, np.ndarray) else x


def seen(x: Any, name: str, found: dict[str, Any]) -> None:
    """Collect the visible parts of a result by name: arrays as copies, the rest as it is."""
    if isinstance(x, (tuple, list)):
        found[f"{name} is"] = type(x).__name__
        for i, part in enumerate(x):
            seen(part, f"{name}[{i}]", found)
    elif isinstance(x, dict):
        found[f"{name} has"] = list(x)
        for key, part in x.items():
            seen(part, f"{name}[{key!r}]", found)
    else:
        found[name] = np.array(x.data) if isinstance(x, (Tensor, np.ndarray)) else x


def snapshots(text: str, path: Path, compiled: bool) -> tuple[list[dict[str, Any]], Any]:
    """Return the visible state after each step, and the error that ended the program, or None."""
    name = f"{path.stem}_{'compiled' if compiled else 'eager'}"
    module = types.ModuleType(name)
    vars(module).update(__file__=str(path), eager=eager)
    if not compiled:
        text = text.replace(COMPILE, "compile = eager\n")
    sys.modules[name] = module  # where dataclasses look
    after: list[dict[str, Any]] = []
    try:
        exec(compile(text, str(path), "exec"), vars(module))
        for result, tensors, opt in module.train():
            found: dict[str, Any] = {}
            seen(result, "result", found)
            for key, x in tensors.items():
                seen(x, key, found)
                seen(x.grad, f"{key}.grad", found)
                if opt is not None:
                    seen(opt.state.get(x, {}).get("momentum_buffer"), f"{key}.momentum", found)
            after.append(found)
    except TimeoutError:  # the program took too long; it did not raise this
        raise
    except Exception as error:
        return after, error
    finally:
        del sys.modules[name]
    return after, None


def difference(got: dict[str, Any], wanted: dict[str, Any], loose: bool) -> str:
    """Return a sentence about the first difference, or an empty text."""
    if list(got) != list(wanted):
        return f"there is {sorted(set(got) ^ set(wanted))} in one of the two only"
    rtol, atol = (2e-3, 1e-4) if loose else (1e-9, 1e-11)
    floats = [np.asarray(x) for x in wanted.values() if isinstance(x, (np.ndarray, float))]
    floats = [x for x in floats if x.dtype.kind == "f"]
    scale = max([1.0, *(float(np.abs(x[np.isfinite(x)]).max(initial=0.0)) for x in floats)])
    for name, expected in wanted.items():
        found = got[name]
        if type(found) is not type(expected):
            return f"{name} is of {type(found).__name__}, eagerly of {type(expected).__name__}"
        if not isinstance(expected, (np.ndarray, float)):
            if found != expected:
                return f"{name} is {found!r}, eagerly {expected!r}"
            continue
        found, expected = np.asarray(found), np.asarray(expected)
        if (found.dtype, found.shape) != (expected.dtype, expected.shape):
            return (
                f"{name} is {found.dtype} {found.shape}, eagerly {expected.dtype} {expected.shape}"
            )
        if not np.allclose(found, expected, rtol, atol * scale, equal_nan=True):
            worst = np.nanmax(np.abs(found - expected), initial=0.0)
            return f"{name} differs by {worst:.3g}, of values to {np.abs(expected).max():.3g}"
    return ""


class Outcome:
    """An Outcome is what came of a program: a failure, unless `failure` and `kind` are empty.

    kind: a text that is the same for similar failures; text: the program; notes: warnings.
    """

    def __init__(self, text: str, failure: str = "", kind: str = "", notes: Any = ()) -> None:
        self.text, self.failure, self.kind, self.notes = text, failure, kind, list(notes)


def run(text: str, folder: Path, name: str = "program", numba: bool = False) -> Outcome:
    """Run a program eagerly and compiled, and compare."""
    path = folder / f"{name}.py"
    path.write_text(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        expected, wrong = snapshots(text, path, compiled=False)
        if wrong is not None:
            return Outcome(text, told(wrong), "the program itself raises")
        with contextlib.nullcontext() if numba else as_python(files=False):
            got, error = snapshots(text, path, compiled=True)
    notes = {str(w.message) for w in caught if "compile" in str(w.message)}
    loose = "float32" in text
    for i, (a, b) in enumerate(zip(got, expected, strict=False)):
        if found := difference(a, b, loose):
            if is_ill_conditioned(text, path, i, b, loose):
                notes.add("compared up to where eager itself depends on rounding")
                break
            what = re.sub(r"[\d.]+(e[-+]?\d+)?", "#", re.sub(r"^\S+", "", found))
            return Outcome(text, f"after step {i}: {found}", f"difference:{what}", notes)
    if error is not None:
        kind = re.sub(r"'[^']*'|\d+|\b[A-Za-z_]*\d\w*|\([^)]*\)", "#", str(error))[:60]
        failure = f"in step {len(got)}: {told(error)}"
        return Outcome(text, failure, f"{type(error).__name__}: {kind}", notes)
    return Outcome(text, notes=notes)


def is_ill_conditioned(
    text: str, path: Path, step: int, expected: dict[str, Any], loose: bool
) -> bool:
    """Return whether slightly different weights make an eager run differ too, after this step."""
    factor = "0.5000003" if loose else "0.50000000000001"
    after, _ = snapshots(text.replace("return (0.5 *", f"return ({factor} *")
                         .replace("return 0.5 *", f"return {factor} *"), path, False)  # fmt: skip
    return step < len(after) and difference(after[step], expected, loose) != ""


def told(error: Exception) -> str:
    lines = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(lines[-4:]))
    return f"{type(error).__name__}: {str(error)[:400]} ({where})"


# --- smaller -------------------------------------------------------------------------------------


def shrunken(choices: Choices, first: Outcome, again: Callable[[str], Outcome]) -> Outcome:
    """Return the outcome of a simpler program that fails in the same way."""
    best, smallest = dict(choices.made), first
    tried: set[str] = {first.text}

    def accept(attempt: dict[str, Any]) -> bool:
        nonlocal best, smallest
        simpler = Choices(None, attempt)
        text = write(simpler)
        if text in tried:
            return False
        tried.add(text)
        outcome = again(text)
        if outcome.kind == first.kind:
            best, smallest = dict(simpler.made), outcome
            return True
        return False

    until = time.monotonic() + FEW
    progress = True
    while progress and time.monotonic() < until:
        progress = False
        prefixes = {name[:i] for name in best for i, c in enumerate(name) if c == "/"}
        # Whole parts before single choices.
        for prefix in sorted(prefixes, key=len):
            rest = {k: v for k, v in best.items() if not k.startswith(prefix + "/")}
            progress |= len(rest) < len(best) and accept(rest)
        for name in list(best):
            for simpler in choices.simpler(name, best.get(name)):
                if accept({**best, name: simpler}):
                    progress = True
                    break
    return smallest


def outcome_of(seed: int, folder: Path, numba: bool = False) -> Outcome:
    """Return the outcome of the program of this seed; if it fails, of a simpler one that does."""
    choices = Choices(seed)
    name = f"program_{seed}"
    outcome = run(write(choices), folder, name, numba)
    if outcome.kind:
        return shrunken(choices, outcome, lambda text: run(text, folder, name, numba))
    return outcome


# --- many ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise a TimeoutError in the `with` block after these seconds, if the system has alarms."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"took more than {seconds:.0f} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Log:
    """A Log is a file with a line for each program that began and for each that ended.

    A run can continue where it was stopped, and a program that killed the process is known.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.ended: dict[int, dict[str, Any]] = {}
        begun: dict[int, bool] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                if "kind" in entry:
                    self.ended[entry["seed"]] = entry
                begun[entry["seed"]] = "stopped" not in entry
        for seed, unfinished in begun.items():
            if unfinished and seed not in self.ended:
                self.end(seed, "the process died", "the process died", "")

    def begin(self, seed: int) -> None:
        self._write({"seed": seed})

    def stop(self, seed: int) -> None:
        """Record that the next run must begin the program again."""
        self._write({"seed": seed, "stopped": True})

    def end(self, seed: int, kind: str, failure: str, text: str) -> None:
        self.ended[seed] = {"seed": seed, "kind": kind, "failure": failure, "text": text}
        self._write(self.ended[seed])

    def _write(self, entry: dict[str, Any]) -> None:
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(entry) + "\n")


def run_many(options: Any) -> int:
    log, notes = Log(options.log), {}
    started, last = time.monotonic(), time.monotonic()
    seeds = range(options.seed, options.seed + options.count)
    left = [seed for seed in seeds if seed not in log.ended]
    stopped = ""
    with tempfile.TemporaryDirectory() as folder:
        for i, seed in enumerate(left):
            if time.monotonic() - started > options.minutes * 60:
                stopped = "time is up"
                break
            numba = random.Random(f"numba {seed}").random() < options.numba
            log.begin(seed)
            try:
                with at_most(3 * FEW):
                    outcome = outcome_of(seed, Path(folder), numba)
            except TimeoutError as error:
                outcome = Outcome(write(Choices(seed)), str(error), "took too long")
            except KeyboardInterrupt:
                log.stop(seed)
                stopped = "stopped"
                break
            log.end(seed, outcome.kind, outcome.failure, outcome.text if outcome.kind else "")
            for note in outcome.notes:
                notes[note] = notes.get(note, 0) + 1
            if outcome.kind:
                print(f"\n--- seed {seed}{' (Numba)' if numba else ''}: {outcome.failure}\n")
                print(outcome.text, flush=True)
            if time.monotonic() - last > 10 or i + 1 == len(left):
                last = time.monotonic()
                failed = sum(bool(e["kind"]) for e in log.ended.values())
                print(
                    f"{len(log.ended)} programs, {failed} failed, {last - started:.0f} s",
                    flush=True,
                )
    kinds: dict[str, list[int]] = {}
    for seed, entry in sorted(log.ended.items()):
        if entry["kind"] and seed in seeds:
            kinds.setdefault(entry["kind"], []).append(seed)
    print(f"\n{len(log.ended)} programs of {options.count}{stopped and ': ' + stopped}")
    for note, count in notes.items():
        print(f"noted {count} times: {note}")
    for kind, failed in sorted(kinds.items(), key=lambda pair: -len(pair[1])):
        print(f"{len(failed)} x {kind}: seeds {failed[:10]}")
    return FAILED if kinds else UNFINISHED if stopped else PASSED


def run_each() -> int:
    """Run each option by itself, and return the exit status."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for what, text in alone():
            outcome = run(text, Path(folder))
            failed += bool(outcome.kind)
            if outcome.kind:
                print(f"{what}: {outcome.failure}", flush=True)
    print(f"{failed} failed")
    return FAILED if failed else PASSED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=5000, help="how many programs")
    parser.add_argument("--seed", type=int, default=0, help="of the first")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after these")
    parser.add_argument("--numba", type=float, default=0.02, help="share that Numba compiles")
    parser.add_argument("--log", type=Path, help="a file; a run with the same goes on after it")
    parser.add_argument("--show", action="store_true", help="print the program of the seed")
    parser.add_argument("--each", action="store_true", help="each option by itself, as Python")
    parser.add_argument("--run", type=Path, help="run this program instead")
    options = parser.parse_args()
    if options.show:
        print(write(Choices(options.seed)))
        return PASSED
    if options.each:
        return run_each()
    if options.run:
        with tempfile.TemporaryDirectory() as folder:
            outcome = run(options.run.read_text(), Path(folder), numba=options.numba == 1)
        print(outcome.failure or "agrees with eager")
        return FAILED if outcome.kind else PASSED
    return run_many(options)


if __name__ == "__main__":
    mg.set_num_threads(1)
    sys.exit(main())
