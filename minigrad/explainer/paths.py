"""Paths: what each way from the loss back to a variable contributes to its gradient.

A cotangent is a sum over all paths; a rule is linear in the cotangent, so that each path can be
walked alone.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..walk import fitted
from .derivation import Derivation, Step, Variable, cotangents

MAX_PATHS = 64  # to one variable: their number doubles with each fork, and nobody reads more


class Path(NamedTuple):
    """One way: the variables from the loss (first) to the one differentiated (last), and the
    operands that these are, of the primitives that made those before: "mul's a"."""

    variables: tuple[Variable, ...]
    operands: tuple[str, ...]
    contribution: Array


def count_paths(derivation: Derivation) -> dict[str, int]:
    """How many paths lead from the loss to each variable, by its name."""
    count = {derivation.loss.name: 1}
    for step in reversed(derivation.steps):
        through = sum(count.get(v.name, 0) for v in step.outputs)
        for v in step.differentiated if through else ():
            count[v.name] = count.get(v.name, 0) + through
    return count


def paths_to(derivation: Derivation, wanted: Variable) -> list[Path]:
    """All paths to one variable, the largest contribution first; they sum to its gradient."""
    leading, reached = _leading(derivation.steps, wanted)
    maker = {v.name: step for step in leading for v in step.outputs}
    found: list[Path] = []
    begin: Any = derivation.values[derivation.loss.cotangent]
    stack = [Path((derivation.loss,), (), begin)]
    with np.errstate(all="ignore"):
        while stack:
            path = stack.pop()
            if path.variables[-1] is wanted:
                found.append(path)
            step = maker.get(path.variables[-1].name)
            if step is not None:
                stack += reversed(list(_continued(path, step, reached)))
    return sorted(found, key=lambda path: -float(np.abs(path.contribution).max(initial=0.0)))


def ways(paths: Sequence[Path]) -> list[str]:
    """How to tell each path: by the variables that not all have, in forward order; by its operand,
    too, where those are alike."""
    names = [[v.name for v in path.variables] for path in paths]
    common = set(names[0]).intersection(*names[1:])
    own = [", ".join(name for name in reversed(way) if name not in common) for way in names]
    return [
        (f"through {through}" if through else "directly")
        + (f", as {_apart(path, paths)}" if own.count(through) > 1 else "")
        for path, through in zip(paths, own, strict=True)
    ]


def _apart(path: Path, paths: Sequence[Path]) -> str:
    """The operand, nearest to the loss, by which the path differs from another through the same
    variables."""
    alike = [other for other in paths if other.variables == path.variables]
    for i, operand in enumerate(path.operands):
        if any(other.operands[i] != operand for other in alike):
            return operand
    return path.operands[-1]


def _leading(steps: Sequence[Step], wanted: Variable) -> tuple[list[Step], set[str]]:
    """The steps that make something of the variable, and the names of all that is made of it."""
    reached, leading = {wanted.name}, []
    for step in steps:
        if any(v.name in reached for v in step.differentiated):
            leading.append(step)
            reached |= {v.name for v in step.outputs}
    return leading, reached


def _continued(path: Path, step: Step, reached: set[str]) -> Iterator[Path]:
    """The path, and behind it each input of the step that made its end that is among `reached`."""
    record = step.record
    needs = [i for i in record.needs if (v := step.inputs[i]) is not None and v.name in reached]
    g: Any = path.contribution
    if record.primitive.outputs > 1:
        g = tuple(g if v is path.variables[-1] else None for v in step.places)
    names = record.primitive.operands(len(record.inputs))
    for i, gx in cotangents(record, g, needs):
        v = step.inputs[i]
        if v is not None:
            gx = gx if gx.shape == v.value.shape else fitted(gx, v.value.shape, True)
            operand = f"{record.primitive.name}'s {names[i]}"
            contribution = np.asarray(gx, v.value.dtype)
            yield Path((*path.variables, v), (*path.operands, operand), contribution)
