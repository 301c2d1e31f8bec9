"""The tables of an explanation, row by row; cells are in whatever language shows them."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ..analysis.folding import Borders, Folds, Group, grouped, insides
from ..analysis.wording import number_of, shape_of, size_of
from ..derive.derivation import Derivation
from ..derive.scopes import Scope
from ..derive.steps import Line
from .notation import Notation
from .text import shown_ways, totals

Rows = Iterator[tuple[str, ...]]


class Cells(NamedTuple):
    """How cells are written: formulas of the notation, code, and text."""

    notation: Notation
    formula: Callable[[str], str]
    code: Callable[[str], str]
    text: Callable[[str], str]


class Table(NamedTuple):
    """A title, the heads of columns, and rows of as many cells."""

    title: str
    head: tuple[str, ...]
    rows: Iterable[tuple[str, ...]]


def tables(derivation: Derivation, folds: Folds, cells: Cells) -> list[Table]:
    """What was given, the forward, the backward and the gradients."""
    rows = _Rows(derivation, cells)
    groups = grouped(derivation.steps, folds)
    forward = (row for group in groups for row in rows.forward(group))
    backward = (row for group in reversed(groups) for row in rows.backward(group))
    return [
        Table("Inputs", ("", "shape", ""), rows.given()),
        Table("Forward", ("", "shape", "module"), forward),
        Table("Backward", ("", "shape", "rule"), itertools.chain(rows.begin(), backward)),
        Table("Gradients", ("", "shape", "paths", "largest element"), rows.gradients(groups)),
    ]


class _Rows:
    def __init__(self, derivation: Derivation, cells: Cells) -> None:
        self.derivation, self.cells, self.to = derivation, cells, cells.notation
        self.borders = Borders(derivation)

    def given(self) -> Rows:
        for v in self.derivation.variables:
            if v.kind != "result":
                label = "" if v.label in (None, v.name) else f" {self.cells.code(v.label or '')}"
                yield self._formula(self.to.name(v.name)), shape_of(v.value), v.kind + label

    def forward(self, group: Group) -> Rows:
        if group.scope is not None:
            made = self.borders.makes(group.steps)
            taken = self.to.fenced(self._listed(v.name for v in self.borders.takes(group.steps)))
            call = self.to.row(self._listed(v.name for v in made), self.to.sign("←"), taken)
            yield self._formula(call), shape_of(made[-1].value), self._module(group.scope)
            return
        for step in group.steps:
            module = self.cells.code(step.scopes[-1].label) if step.scopes else ""
            for line in step.forward:
                yield self._line(line, module)

    def begin(self) -> Rows:
        yield self._line(self.derivation.begin, "")

    def backward(self, group: Group) -> Rows:
        if group.scope is not None:
            wanted = self._listed(v.cotangent for v in self.borders.differentiated(group.steps))
            made = self._listed(v.cotangent for v in self.borders.makes(group.steps))
            call = self.to.row(self.to.fenced(wanted), self.to.sign("←"), made)
            yield self._formula(call), "", self._module(group.scope)
            return
        for step in group.steps:
            for line in step.backward:
                rule = f"{line.primitive}, w.r.t. {line.wrt}" if line.wrt else ""
                yield self._line(line, self.cells.text(rule))

    def gradients(self, groups: Sequence[Group]) -> Rows:
        """Totals, and below each what its paths contribute."""
        folded = insides(groups, self.borders)
        for v, total, n in totals(self.derivation):
            cotangent = self._formula(self.to.name(v.cotangent))
            yield cotangent, shape_of(total), number_of(n), size_of(total)
            found, more = shown_ways(self.derivation, v, n, folded)
            for way in found:
                yield self.cells.text(way.text), "", "", size_of(way.contribution)
            if more:
                yield self.cells.code(f".paths({v.name!r})"), "", f"{more} more", ""

    def _formula(self, piece: str) -> str:
        return self.cells.formula(piece)

    def _listed(self, names: Iterable[str]) -> str:
        return self.to.listed([self.to.name(name) for name in names])

    def _line(self, line: Line, said: str) -> tuple[str, ...]:
        return self._formula(self.to.line(line)), shape_of(line.value), said

    def _module(self, scope: Scope) -> str:
        return f"{self.cells.code(scope.label)} ({self.cells.text(scope.kind)})"
