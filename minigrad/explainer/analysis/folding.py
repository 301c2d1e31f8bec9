"""Groups: what explanations show as one, a record or a call of a folded module."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..derive.derivation import Derivation
from ..derive.expressions import names_in
from ..derive.scopes import Scope
from ..derive.steps import Step, Variable

Folds = Callable[[Scope], bool]


class Group(NamedTuple):
    """A record alone, without a scope, or those of a folded call of a module."""

    scope: Scope | None
    steps: list[Step]


def grouped(steps: Sequence[Step], folds: Folds) -> list[Group]:
    """All steps, in order."""
    groups: list[Group] = []
    for step in steps:
        scope = next((s for s in step.scopes if folds(s)), None)
        if scope is not None and groups and groups[-1].scope == scope:
            groups[-1].steps.append(step)
        else:
            groups.append(Group(scope, [step]))
    return groups


class Borders:
    """What goes into steps that stand together, and what comes out."""

    def __init__(self, derivation: Derivation) -> None:
        self._loss, self._begin = derivation.loss, derivation.begin
        self._constants = {v.name: v for v in derivation.variables if v.kind == "constant"}
        self._last = {  # the last record that takes a variable
            v.name: step.record.number
            for step in derivation.steps
            for v in step.inputs
            if v is not None
        }

    def takes(self, steps: Sequence[Step]) -> list[Variable]:
        """The variables that steps take from outside: Tensors, and the constants that their lines
        mention."""
        found = {v.name: v for step in steps for v in step.inputs if v is not None}
        for name in self._mentioned(steps):
            if name in self._constants:
                found[name] = self._constants[name]
        inside = {v.name for step in steps for v in step.outputs}
        return [v for name, v in found.items() if name not in inside]

    def makes(self, steps: Sequence[Step]) -> list[Variable]:
        """What steps make that others take, or that is the result itself."""
        end = steps[-1].record.number
        made = [v for step in steps for v in step.outputs]
        return [v for v in made if v is self._loss or self._last.get(v.name, 0) > end]

    @staticmethod
    def differentiated(steps: Sequence[Step]) -> list[Variable]:
        """The variables from outside that rules of steps contribute to."""
        inside = {v.name for step in steps for v in step.outputs}
        found = {v.name: v for step in steps for v in step.differentiated}
        return [v for name, v in found.items() if name not in inside]

    def _mentioned(self, steps: Sequence[Step]) -> Iterator[str]:
        for step in steps:
            for line in (*step.forward, *step.backward):
                yield from names_in(line.expression)
            if any(v is self._loss for v in step.outputs):
                yield from names_in(self._begin.expression)


class Inside(NamedTuple):
    """Where a variable of a folded call is: the call's position among the groups and its label, and
    whether the variable is shown, as what the call makes."""

    call: int
    label: str
    shown: bool


def insides(groups: Sequence[Group], borders: Borders) -> dict[str, Inside]:
    """The variables that folded calls make, by name."""
    found: dict[str, Inside] = {}
    for i, (scope, steps) in enumerate(groups):
        if scope is not None:
            shown = {v.name for v in borders.makes(steps)}
            for v in (v for step in steps for v in step.outputs):
                found[v.name] = Inside(i, scope.short, v.name in shown)
    return found
