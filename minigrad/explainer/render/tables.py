"""The tables of an explanation, row by row, in whatever markup shows them."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ..analysis.folding import Dataflow, Folds, Section, folded_variables, sections_of
from ..analysis.paths import shown_paths, totals
from ..analysis.wording import count_text, magnitude_text, shape_text
from ..derive.derivation import Derivation
from ..derive.scopes import Scope
from ..derive.steps import Line
from .notation import Notation

Rows = Iterator[tuple[str, ...]]


class Cells(NamedTuple):
    """How a markup writes cells: a formula in the notation, code, and text."""

    notation: Notation
    formula: Callable[[str], str]
    code: Callable[[str], str]
    text: Callable[[str], str]


class Table(NamedTuple):
    """A table: its title, the heads of its columns, and its rows of cells."""

    title: str
    head: tuple[str, ...]
    rows: Iterable[tuple[str, ...]]


def tables(derivation: Derivation, folds: Folds, cells: Cells) -> list[Table]:
    """Return the tables of inputs, forward, backward and gradients."""
    rows = _Rows(derivation, cells)
    sections = sections_of(derivation.steps, folds)
    forward = (row for section in sections for row in rows.forward(section))
    backward = (row for section in reversed(sections) for row in rows.backward(section))
    return [
        Table("Inputs", ("", "shape", ""), rows.inputs()),
        Table("Forward", ("", "shape", "module"), forward),
        Table("Backward", ("", "shape", "rule"), itertools.chain(rows.begin(), backward)),
        Table("Gradients", ("", "shape", "paths", "largest element"), rows.gradients(sections)),
    ]


class _Rows:
    """The rows of each table."""

    def __init__(self, derivation: Derivation, cells: Cells) -> None:
        self.derivation, self.cells, self.notation = derivation, cells, cells.notation
        self.flow = Dataflow(derivation)

    def inputs(self) -> Rows:
        for v in self.derivation.variables:
            if v.kind != "result":
                label = "" if v.label in (None, v.name) else f" {self.cells.code(v.label or '')}"
                name = self.cells.formula(self.notation.name(v.name))
                yield name, shape_text(v.value), v.kind + label

    def forward(self, section: Section) -> Rows:
        scope, steps = section
        if scope is not None:
            outputs = self.flow.outputs(steps)
            inputs = self.notation.fenced(self._listed(v.name for v in self.flow.inputs(steps)))
            call = self._arrow(self._listed(v.name for v in outputs), inputs)
            yield call, shape_text(outputs[-1].value), self._module(scope)
            return
        for step in steps:
            module = self.cells.code(step.scopes[-1].label) if step.scopes else ""
            for line in step.forward:
                yield self._line(line, module)

    def begin(self) -> Rows:
        yield self._line(self.derivation.begin, "")

    def backward(self, section: Section) -> Rows:
        scope, steps = section
        if scope is not None:
            inputs = self._listed(v.cotangent for v in self.flow.differentiated(steps))
            outputs = self._listed(v.cotangent for v in self.flow.outputs(steps))
            yield self._arrow(self.notation.fenced(inputs), outputs), "", self._module(scope)
            return
        for step in steps:
            for line in step.backward:
                rule = f"{line.primitive}, w.r.t. {line.wrt}" if line.wrt else ""
                yield self._line(line, self.cells.text(rule))

    def gradients(self, sections: Sequence[Section]) -> Rows:
        """Yield each total and, below it, what its paths contribute."""
        folded = folded_variables(sections, self.flow)
        for v, total, n in totals(self.derivation):
            cotangent = self.cells.formula(self.notation.name(v.cotangent))
            yield cotangent, shape_text(total), count_text(n), magnitude_text(total)
            paths, more = shown_paths(self.derivation, v, n, folded)
            for path in paths:
                yield self.cells.text(path.text), "", "", magnitude_text(path.contribution)
            if more:
                yield self.cells.code(f".paths({v.name!r})"), "", f"{more} more", ""

    def _listed(self, names: Iterable[str]) -> str:
        return self.notation.listed([self.notation.name(name) for name in names])

    def _arrow(self, left: str, right: str) -> str:
        return self.cells.formula(self.notation.row(left, self.notation.sign("←"), right))

    def _line(self, line: Line, remark: str) -> tuple[str, ...]:
        return self.cells.formula(self.notation.line(line)), shape_text(line.value), remark

    def _module(self, scope: Scope) -> str:
        return f"{self.cells.code(scope.label)} ({self.cells.text(scope.kind)})"
