"""Folding shows all records of a module's call as one."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..derive.derivation import Derivation
from ..derive.expressions import names_in
from ..derive.scopes import Scope
from ..derive.steps import Step, Variable

Folds = Callable[[Scope], bool]  # whether a module's call is folded


class Section(NamedTuple):
    """A part that an explanation shows as one: a single record, or a folded call and its records.

    scope: the folded call; None for a single record.
    """

    scope: Scope | None
    steps: list[Step]


def sections_of(steps: Sequence[Step], folds: Folds) -> list[Section]:
    """Return all steps in order, with those of each folded call in one section."""
    sections: list[Section] = []
    for step in steps:
        scope = next((s for s in step.scopes if folds(s)), None)
        if scope is not None and sections and sections[-1].scope == scope:
            sections[-1].steps.append(step)
        else:
            sections.append(Section(scope, [step]))
    return sections


class Dataflow:
    """Finds the variables that go into a section of a derivation, and those that come out."""

    def __init__(self, derivation: Derivation) -> None:
        self._loss, self._begin = derivation.loss, derivation.begin
        self._constants = {v.name: v for v in derivation.variables if v.kind == "constant"}
        self._last_use = {  # the number of the last record that a variable is an input of
            v.name: step.record.number
            for step in derivation.steps
            for v in step.inputs
            if v is not None
        }

    def inputs(self, steps: Sequence[Step]) -> list[Variable]:
        """Return the variables from outside that the steps use.

        They are inputs of records, and constants that only the lines mention.
        """
        found = {v.name: v for step in steps for v in step.inputs if v is not None}
        for name in self._mentioned(steps):
            if name in self._constants:
                found[name] = self._constants[name]
        made = {v.name for step in steps for v in step.outputs}
        return [v for name, v in found.items() if name not in made]

    def outputs(self, steps: Sequence[Step]) -> list[Variable]:
        """Return the variables made for later steps, and the loss if these steps make it."""
        end = steps[-1].record.number
        made = [v for step in steps for v in step.outputs]
        return [v for v in made if v is self._loss or self._last_use.get(v.name, 0) > end]

    @staticmethod
    def differentiated(steps: Sequence[Step]) -> list[Variable]:
        """Return the variables from outside that the steps' rules contribute to."""
        made = {v.name for step in steps for v in step.outputs}
        found = {v.name: v for step in steps for v in step.differentiated}
        return [v for name, v in found.items() if name not in made]

    def _mentioned(self, steps: Sequence[Step]) -> Iterator[str]:
        """Yield the names in the steps' lines, and in the first line of the backward pass."""
        for step in steps:
            for line in (*step.forward, *step.backward):
                yield from names_in(line.expression)
            if any(v is self._loss for v in step.outputs):
                yield from names_in(self._begin.expression)


class FoldedVariable(NamedTuple):
    """A variable that a folded call makes.

    call: the position of the call among the sections; label: the name of the call; shown: whether
    the variable is visible, because it is an output of the call.
    """

    call: int
    label: str
    shown: bool


def folded_variables(sections: Sequence[Section], flow: Dataflow) -> dict[str, FoldedVariable]:
    """Return the variables that folded calls make, by name."""
    found: dict[str, FoldedVariable] = {}
    for i, (scope, steps) in enumerate(sections):
        if scope is not None:
            shown = {v.name for v in flow.outputs(steps)}
            for v in (v for step in steps for v in step.outputs):
                found[v.name] = FoldedVariable(i, scope.short, v.name in shown)
    return found
