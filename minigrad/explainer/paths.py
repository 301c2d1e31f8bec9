"""Paths: what each way from the loss back to a variable contributes to its gradient.

A cotangent is a sum over all paths; a rule is linear in the cotangent, so that each path can be
walked alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..walk import fitted
from .derivation import Derivation, Step, Variable, cotangents

MAX_PATHS = 64  # to one variable: their number doubles with each fork, and nobody reads more


class Path(NamedTuple):
    """One way: the variables from the loss (first) to the one differentiated (last)."""

    variables: tuple[Variable, ...]
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
    leading = _leading(derivation.steps, wanted)
    maker = {v.name: step for step in leading for v in step.outputs}
    found: list[Path] = []
    begin: Any = derivation.values[derivation.loss.cotangent]
    stack: list[tuple[tuple[Variable, ...], Any]] = [((derivation.loss,), begin)]
    with np.errstate(all="ignore"):
        while stack:
            way, g = stack.pop()
            if way[-1] is wanted:
                found.append(Path(way, g))
            step = maker.get(way[-1].name)
            if step is not None:
                stack += [((*way, v), gx) for v, gx in _pulled(step, way[-1], g, wanted, leading)]
    return sorted(found, key=lambda path: -float(np.abs(path.contribution).max(initial=0.0)))


def _leading(steps: Sequence[Step], wanted: Variable) -> list[Step]:
    """The steps that make something of the variable."""
    reached, leading = {wanted.name}, []
    for step in steps:
        if any(v.name in reached for v in step.differentiated):
            leading.append(step)
            reached |= {v.name for v in step.outputs}
    return leading


def _pulled(
    step: Step, y: Variable, g: Array, wanted: Variable, leading: Sequence[Step]
) -> list[tuple[Variable, Array]]:
    """What the rules of a step give from a cotangent of one of its outputs, for the inputs on the
    way to what is wanted."""
    reached = {wanted.name} | {v.name for other in leading for v in other.outputs}
    needs = [
        i for i in step.record.needs if (v := step.inputs[i]) is not None and v.name in reached
    ]
    whole: Any = g
    if step.record.primitive.outputs > 1:
        whole = tuple(g if v is y else None for v in step.places)
    result = []
    for i, gx in cotangents(step.record, whole, needs):
        v = step.inputs[i]
        if v is not None:
            array = gx if gx.shape == v.value.shape else fitted(gx, v.value.shape, True)
            result.append((v, np.asarray(array, v.value.dtype)))
    return result
