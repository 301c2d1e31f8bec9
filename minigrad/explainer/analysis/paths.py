"""Paths lead from the loss back to a variable; each contributes to the variable's gradient.

A cotangent is the sum over all paths. Rules are linear in the cotangent, so each path can be
followed alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...types import Array
from ..derive.derivation import Derivation
from ..derive.steps import Step, Variable
from .folding import FoldedVariable

MAX_PATHS = 64  # to one variable; nobody reads more of them
MANY = 10**9  # paths are counted up to here: each fork may double their number
MOST_SHOWN = 8  # the largest paths to one variable; more would hide these


class Path(NamedTuple):
    """One way from the loss back to a variable, and what it contributes to the gradient.

    variables: from the loss (first) to the one differentiated (last); operands: what each variable
    but the first is to the primitive that made the variable before it, such as "mul's a".
    """

    variables: tuple[Variable, ...]
    operands: tuple[str, ...]
    contribution: Array


class DistinctPath(NamedTuple):
    """The words that tell a path from others to the same variable, and its contribution.

    Paths that differ only inside folded modules are one distinct path, and contribute their sum.
    """

    text: str
    contribution: Array


def count_paths(derivation: Derivation) -> dict[str, int]:
    """Return how many paths lead from the loss to each variable, by name; at most MANY + 1."""
    count = {derivation.loss.name: 1}
    for step in reversed(derivation.steps):
        through = sum(count.get(v.name, 0) for v in step.outputs)
        for v in step.differentiated if through else ():
            count[v.name] = min(count.get(v.name, 0) + through, MANY + 1)
    return count


def totals(derivation: Derivation) -> Iterator[tuple[Variable, Array, int]]:
    """Yield each parameter and input with its gradient and the number of paths to it."""
    count = count_paths(derivation)
    for v in derivation.variables:
        if v.kind in ("parameter", "input") and v.cotangent in derivation.values:
            yield v, derivation.values[v.cotangent], count.get(v.name, 0)


def paths_to(derivation: Derivation, wanted: Variable) -> list[Path]:
    """Return all paths to one variable, the largest contribution first."""
    leading, reached = _leading(derivation.steps, wanted)
    maker = {v.name: step for step in leading for v in step.outputs}
    found: list[Path] = []
    stack = [_End(derivation.loss, "", derivation.begin.value, None)]
    with np.errstate(all="ignore"):
        while stack:
            end = stack.pop()
            if end.variable is wanted:
                found.append(end.path())
            step = maker.get(end.variable.name)
            if step is not None:
                stack += reversed(list(_continued(end, step, reached)))
    found.sort(key=lambda path: magnitude(path.contribution), reverse=True)
    return found


def magnitude(array: Array) -> float:
    """Return the largest magnitude among the elements."""
    return float(np.abs(array).max(initial=0.0))


def _leading(steps: Sequence[Step], wanted: Variable) -> tuple[list[Step], set[str]]:
    """Return the steps that depend on a variable, and the names of all variables that do."""
    reached, leading = {wanted.name}, []
    for step in steps:
        if any(v.name in reached for v in step.differentiated):
            leading.append(step)
            reached |= {v.name for v in step.outputs}
    return leading, reached


class _End(NamedTuple):
    """The end of an unfinished path; `before` links to the rest, which paths share."""

    variable: Variable
    operand: str
    contribution: Array
    before: "_End | None"

    def path(self) -> Path:
        ends, end = [], self
        while end.before is not None:
            ends.append(end)
            end = end.before
        ends.append(end)
        ends.reverse()
        operands = tuple(end.operand for end in ends[1:])
        return Path(tuple(end.variable for end in ends), operands, self.contribution)


def _continued(path: _End, step: Step, reached: set[str]) -> Iterator[_End]:
    """Yield the path continued to each input of the step that is among `reached`."""
    wrt = step.record.wrt
    positions = [i for i in wrt if (v := step.inputs[i]) is not None and v.name in reached]
    names = step.record.primitive.operands(len(step.inputs))
    for i, contribution in step.pull(path.variable, path.contribution, positions):
        v = step.inputs[i]
        assert v is not None
        yield _End(v, f"{step.primitive}'s {names[i]}", contribution, path)


# --- in words -----------------------------------------------------------------------------------

# What a path visibly passes: the (name, None, operand) of a variable, or the (label, position,
# operand) of a folded call.
Stop = tuple[str, int | None, str]


def shown_paths(
    derivation: Derivation, v: Variable, n: int, folded: Mapping[str, FoldedVariable]
) -> tuple[list[DistinctPath], int]:
    """Return the largest distinct paths to a variable, and how many more there are.

    n: the number of paths; no paths are returned if it is 1 or more than MAX_PATHS.
    """
    found = distinct_paths(paths_to(derivation, v), folded) if 1 < n <= MAX_PATHS else []
    return found[:MOST_SHOWN], max(0, len(found) - MOST_SHOWN)


@np.errstate(all="ignore")
def distinct_paths(
    paths: Sequence[Path], folded: Mapping[str, FoldedVariable] | None = None
) -> list[DistinctPath]:
    """Return the paths to one variable, with the words that tell each from the others.

    The words are the variables that not all paths pass, in forward order, and an operand where
    these are the same. folded: the variables of folded calls, for which the module's name stands.
    """
    together: dict[tuple[Stop, ...], list[Path]] = {}
    for path in paths:
        together.setdefault(_stops(path, folded or {}), []).append(path)
    common = set.intersection(*({stop[:2] for stop in stops} for stops in together))
    own = {
        stops: ", ".join(name for name, call, _ in reversed(stops) if (name, call) not in common)
        for stops in together
    }
    namesakes: dict[str, list[tuple[Stop, ...]]] = {}
    for stops, through in own.items():
        namesakes.setdefault(through, []).append(stops)
    found = []
    for stops, same in together.items():
        text = f"through {own[stops]}" if own[stops] else "directly"
        if len(others := namesakes[own[stops]]) > 1:
            text += f", as {_differing_operand(stops, others)}"
        if len(same) > 1:
            calls = dict.fromkeys(name for name, call, _ in reversed(stops) if call is not None)
            text += f": {len(same)} paths inside {', '.join(calls)}"
        total = sum((path.contribution for path in same[1:]), same[0].contribution)
        found.append(DistinctPath(text, total))
    found.sort(key=lambda path: magnitude(path.contribution), reverse=True)
    return found


def _stops(path: Path, folded: Mapping[str, FoldedVariable]) -> tuple[Stop, ...]:
    """Return what the path visibly passes, from the loss on."""
    stops: list[Stop] = []
    before: FoldedVariable | None = None
    for variable, operand in zip(path.variables, ("", *path.operands), strict=True):
        inside = folded.get(variable.name)
        shown = operand if before is None else ""
        if inside is None or inside.shown:
            stops.append((variable.name, None, shown))
        elif stops[-1][1] != inside.call:
            stops.append((inside.label, inside.call, shown))
        before = inside
    return tuple(stops)


def _differing_operand(stops: tuple[Stop, ...], others: Sequence[tuple[Stop, ...]]) -> str:
    """Return the operand, nearest to the loss, by which a path differs from one of the others."""
    for i, (*stop, operand) in enumerate(stops):
        for other in others:
            if i < len(other) and [*other[i][:2]] == stop and other[i][2] != operand:
                return operand
    return stops[-1][2]
