"""An explanation as plain text of at most 100 columns, which `evaluate` reads back."""

from collections.abc import Iterator, Mapping, Sequence

from ...arrays import Array
from ..analysis.folding import Borders, Folds, Inside, grouped, insides
from ..analysis.paths import MAX_PATHS, Way, count_paths, paths_to, ways
from ..analysis.wording import counted, said_of, shape_of, size_of
from ..derive.derivation import Derivation
from ..derive.scopes import Scope
from ..derive.steps import Step, Variable

COLUMNS, SAID = 100, 56  # of a line, and before what is said of it
SHAPE = 16  # of a shape, before the rule that it is of; longer ones push that aside
MOST_PATHS = 8  # to one variable, the largest; more hide what they should show


def text(derivation: Derivation, folds: Folds) -> str:
    """All of it: what was given, forward, backward, gradients."""
    groups, borders = grouped(derivation.steps, folds), Borders(derivation)
    shown = (line for scope, steps in groups if not scope for line in steps[0].backward)
    widest = min(SHAPE, max((len(shape_of(line.value)) for line in shown), default=0))
    lines = [
        "inputs",
        *_given(derivation),
        "",
        f"forward: {counted(len(derivation.steps), 'record')}",
    ]
    for scope, steps in groups:
        lines += _folded(scope, steps, borders) if scope else _forward(steps[0])
    lines += ["", f"backward: cotangents, g of each v, from {derivation.loss.name}"]
    lines += _wrapped(derivation.begin.text, shape_of(derivation.begin.value))
    for scope, steps in reversed(groups):
        lines += _folded_back(scope, steps, borders) if scope else _backward(steps[0], widest)
    lines += ["", "gradients: totals, each the sum over its paths"]
    lines += _totals(derivation, insides(groups, borders))
    return "\n".join(lines)


# --- parts --------------------------------------------------------------------------------------


def _given(derivation: Derivation) -> Iterator[str]:
    given = [v for v in derivation.variables if v.kind != "result"]
    width = max((len(v.name) for v in given), default=0)
    for v in given:
        label = f" {v.label}" if v.label not in (None, v.name) else ""
        said = f"{shape_of(v.value)} {v.value.dtype}   {v.kind}"
        yield f"  {v.name:<{width}}   {said}{label}"[:COLUMNS]


def _forward(step: Step) -> Iterator[str]:
    where = _place(step)
    for line in step.forward:
        yield from _wrapped(line.text, shape_of(line.value) + where)


def _backward(step: Step, widest: int) -> Iterator[str]:
    for line in step.backward:
        shape = shape_of(line.value)
        source = f"{shape:<{widest}}   from {line.primitive}, w.r.t. {line.wrt}"
        yield from _wrapped(line.text, source if line.wrt else shape)


def _folded(scope: Scope, steps: Sequence[Step], borders: Borders) -> Iterator[str]:
    made = borders.makes(steps)
    taken = ", ".join(v.name for v in borders.takes(steps))
    call = f"{', '.join(v.name for v in made)} <- {scope.short}({taken})"
    yield from _wrapped(call, f"{shape_of(made[-1].value)}   {said_of(scope, steps)}")


def _folded_back(scope: Scope, steps: Sequence[Step], borders: Borders) -> Iterator[str]:
    wanted = ", ".join(v.cotangent for v in borders.differentiated(steps))
    given = ", ".join(v.cotangent for v in borders.makes(steps))
    rules = counted(sum(len(step.record.needs) for step in steps), "rule")
    yield from _wrapped(f"{wanted} <- {scope.short}({given})", f"{scope.kind}, {rules}")


def totals(derivation: Derivation) -> Iterator[tuple[Variable, Array, int]]:
    """Parameters and inputs with their gradients and how many paths these are summed over."""
    count = count_paths(derivation)
    for v in derivation.variables:
        if v.kind in ("parameter", "input") and v.cotangent in derivation.values:
            yield v, derivation.values[v.cotangent], count.get(v.name, 0)


def shown_ways(
    derivation: Derivation, v: Variable, n: int, folded: Mapping[str, Inside]
) -> tuple[list[Way], int]:
    """The ways to a variable to which n paths lead, as far as one looks at them, and how many more
    there are; none of a single one, or of too many paths."""
    found = ways(paths_to(derivation, v), folded) if 1 < n <= MAX_PATHS else []
    return found[:MOST_PATHS], max(0, len(found) - MOST_PATHS)


def _totals(derivation: Derivation, folded: Mapping[str, Inside]) -> Iterator[str]:
    for v, total, n in totals(derivation):
        said = f"{shape_of(total)}   largest element {size_of(total)}"
        yield from _wrapped(f"  {v.cotangent}: {counted(n, 'path')}", said, 0)
        found, more = shown_ways(derivation, v, n, folded)
        for way in found:
            yield from _wrapped(f"    {way.text}", size_of(way.contribution), 0)
        if more:
            yield f"    and {more} more: .paths({v.name!r})"


def _place(step: Step) -> str:
    return f"   {step.scopes[-1].short}" if step.scopes else ""


def _wrapped(line: str, said: str, indent: int = 2) -> Iterator[str]:
    line = " " * indent + line
    # A list, of names at most: longer parts of what is computed have names of their own.
    while len(line) > COLUMNS and ", " in line[:COLUMNS]:
        end = line.rindex(", ", 0, COLUMNS) + 1
        yield line[:end]
        line = " " * 8 + line[end:].lstrip()
    if len(line) + 3 + len(said) > COLUMNS:
        yield line
        line, said = "", said
    width = max(0, min(SAID, COLUMNS - 3 - len(said)))
    yield f"{line:<{width}}   {said}"[:COLUMNS].rstrip()
