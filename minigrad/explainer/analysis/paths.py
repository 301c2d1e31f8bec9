"""Paths: what each way from the loss back to a variable contributes to its gradient.

A cotangent is a sum over all paths; a rule is linear in the cotangent, so that each path can be
walked alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...arrays import Array
from ..derive.derivation import Derivation
from ..derive.steps import Step, Variable
from .folding import Inside

MAX_PATHS = 64  # to one variable: their number doubles with each fork, and nobody reads more
MANY = 10**9  # paths that are counted; beyond, their number has as many digits as there are forks


class Path(NamedTuple):
    """One way: the variables from the loss (first) to the one differentiated (last), and the
    operands that these are, of the primitives that made those before: "mul's a"."""

    variables: tuple[Variable, ...]
    operands: tuple[str, ...]
    contribution: Array


class Way(NamedTuple):
    """What tells a path from the others, or all that differ inside folded modules only, in words;
    and what they contribute."""

    text: str
    contribution: Array


def count_paths(derivation: Derivation) -> dict[str, int]:
    """How many paths lead from the loss to each variable, by its name; MANY + 1 for any more."""
    count = {derivation.loss.name: 1}
    for step in reversed(derivation.steps):
        through = sum(count.get(v.name, 0) for v in step.outputs)
        for v in step.differentiated if through else ():
            count[v.name] = min(count.get(v.name, 0) + through, MANY + 1)
    return count


def paths_to(derivation: Derivation, wanted: Variable) -> list[Path]:
    """All paths to one variable, the largest contribution first; they sum to its gradient."""
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
    found.sort(key=lambda path: size(path.contribution), reverse=True)
    return found


@np.errstate(all="ignore")
def ways(paths: Sequence[Path], folded: Mapping[str, Inside] | None = None) -> list[Way]:
    """How to tell the paths to a variable: by the variables that not all have, in forward order,
    and by its operand, too, where those are alike.

    folded: the variables of folded calls: what these hide goes by the name of the module.
    """
    together: dict[tuple[Place, ...], list[Path]] = {}
    for path in paths:
        together.setdefault(_places(path, folded or {}), []).append(path)
    common = set.intersection(*({place[:2] for place in places} for places in together))
    own = {
        places: ", ".join(name for name, call, _ in reversed(places) if (name, call) not in common)
        for places in together
    }
    alike: dict[str, list[tuple[Place, ...]]] = {}
    for places, through in own.items():
        alike.setdefault(through, []).append(places)
    found = []
    for places, same in together.items():
        text = f"through {own[places]}" if own[places] else "directly"
        if len(others := alike[own[places]]) > 1:
            text += f", as {_apart(places, others)}"
        if len(same) > 1:
            calls = dict.fromkeys(name for name, call, _ in reversed(places) if call is not None)
            text += f": {len(same)} paths inside {', '.join(calls)}"
        found.append(Way(text, sum((p.contribution for p in same[1:]), same[0].contribution)))
    found.sort(key=lambda way: size(way.contribution), reverse=True)
    return found


def size(array: Array) -> float:
    """The largest magnitude among the elements."""
    return float(np.abs(array).max(initial=0.0))


Place = tuple[str, int | None, str]  # a variable, or a folded call and its position; the operand


def _places(path: Path, folded: Mapping[str, Inside]) -> tuple[Place, ...]:
    """What the path goes through, as far as one sees it."""
    places: list[Place] = []
    before: Inside | None = None
    for variable, operand in zip(path.variables, ("", *path.operands), strict=True):
        inside = folded.get(variable.name)
        shown = operand if before is None else ""
        if inside is None or inside.shown:
            places.append((variable.name, None, shown))
        elif places[-1][1] != inside.call:
            places.append((inside.label, inside.call, shown))
        before = inside
    return tuple(places)


def _apart(places: tuple[Place, ...], others: Sequence[tuple[Place, ...]]) -> str:
    """The operand, nearest to the loss, by which one way differs from another through the same
    variables."""
    for i, (*place, operand) in enumerate(places):
        for other in others:
            if i < len(other) and [*other[i][:2]] == place and other[i][2] != operand:
                return operand
    return places[-1][2]


def _leading(steps: Sequence[Step], wanted: Variable) -> tuple[list[Step], set[str]]:
    """The steps that make something of the variable, and the names of all that is made of it."""
    reached, leading = {wanted.name}, []
    for step in steps:
        if any(v.name in reached for v in step.differentiated):
            leading.append(step)
            reached |= {v.name for v in step.outputs}
    return leading, reached


class _End(NamedTuple):
    """The end of a path on its way, and what lies before it: paths share their beginnings."""

    variable: Variable
    operand: str
    contribution: Any
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
    """The ends behind this one: each input of the step that made it that is among `reached`."""
    needs = step.record.needs
    positions = [i for i in needs if (v := step.inputs[i]) is not None and v.name in reached]
    names = step.record.primitive.operands(len(step.inputs))
    for i, contribution in step.pull(path.variable, path.contribution, positions):
        v = step.inputs[i]
        assert v is not None
        yield _End(v, f"{step.primitive}'s {names[i]}", contribution, path)
