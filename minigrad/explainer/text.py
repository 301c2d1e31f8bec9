"""An explanation as plain text of at most 100 columns, which `evaluate` reads back."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..arrays import Array
from .derivation import Derivation, Step, Variable
from .paths import MAX_PATHS, Path, count_paths, paths_to, ways
from .scopes import Scope

COLUMNS, SAID = 100, 56  # of a line, and before what is said of it
LABEL = 30  # characters of a module's name
MOST_PATHS = 8  # to one variable, the largest; more hide what they should show
Folds = Callable[[Scope], bool]


def text(derivation: Derivation, folds: Folds) -> str:
    """All of it: what was given, forward, backward, gradients."""
    groups = grouped(derivation.steps, folds)
    lines = ["inputs", *_given(derivation), "", f"forward: {len(derivation.steps)} records"]
    for scope, steps in groups:
        lines += _folded(scope, steps) if scope else _forward(steps[0])
    lines += ["", f"backward: cotangents, g of each v, from {derivation.loss.name}"]
    lines += _wrapped(derivation.begin.text, shape_of(derivation.begin.value))
    for scope, steps in reversed(groups):
        lines += _folded_back(scope, steps) if scope else _backward(steps[0])
    lines += ["", "gradients: totals, each the sum over its paths", *_totals(derivation)]
    return "\n".join(lines)


def grouped(steps: Sequence[Step], folds: Folds) -> list[tuple[Scope | None, list[Step]]]:
    """The steps one by one, without a scope, or those of a folded call of a module together."""
    groups: list[tuple[Scope | None, list[Step]]] = []
    for step in steps:
        scope = next((s for s in step.scopes if folds(s)), None)
        if scope is not None and groups and groups[-1][0] == scope:
            groups[-1][1].append(step)
        else:
            groups.append((scope, [step]))
    return groups


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


def _backward(step: Step) -> Iterator[str]:
    for line in step.backward:
        source = f"from {line.primitive}, w.r.t. {line.wrt}" if line.wrt else shape_of(line.value)
        yield from _wrapped(line.text, source)


def _folded(scope: Scope, steps: Sequence[Step]) -> Iterator[str]:
    given, made = border(steps)
    call = f"{made[-1].name} <- {_label(scope)}({', '.join(v.name for v in given)})"
    yield from _wrapped(call, f"{shape_of(made[-1].value)}   {scope.kind}, {len(steps)} records")


def _folded_back(scope: Scope, steps: Sequence[Step]) -> Iterator[str]:
    given, made = border(steps)
    names = [v.cotangent for v in given if v.kind != "constant"]
    call = f"{', '.join(names)} <- {_label(scope)}({made[-1].cotangent})"
    yield from _wrapped(call, f"{scope.kind}, {sum(len(s.record.needs) for s in steps)} rules")


def border(steps: Sequence[Step]) -> tuple[list[Variable], list[Variable]]:
    """What folded steps take from outside, and what they make."""
    made = [v for step in steps for v in step.outputs]
    inside = {v.name for v in made}
    given = {v.name: v for step in steps for v in step.inputs if v is not None}
    return [v for v in given.values() if v.name not in inside], made


def totals(derivation: Derivation) -> Iterator[tuple[Variable, Array, int]]:
    """Parameters and inputs with their gradients and how many paths these are summed over."""
    count = count_paths(derivation)
    for v in derivation.variables:
        if v.kind in ("parameter", "input") and v.cotangent in derivation.values:
            yield v, derivation.values[v.cotangent], count.get(v.name, 0)


def _totals(derivation: Derivation) -> Iterator[str]:
    for v, total, n in totals(derivation):
        said = f"{shape_of(total)}   largest element {size_of(total)}"
        yield from _wrapped(f"  {v.cotangent}: {n} path{'s' * (n != 1)}", said, 0)
        if 1 < n <= MAX_PATHS:
            yield from _paths(paths_to(derivation, v), v)


def _paths(paths: Sequence[Path], v: Variable) -> Iterator[str]:
    for path, way in list(zip(paths, ways(paths), strict=True))[:MOST_PATHS]:
        yield from _wrapped(f"    {way}", size_of(path.contribution), 0)
    if len(paths) > MOST_PATHS:
        yield f"    and {len(paths) - MOST_PATHS} more: .paths({v.name!r})"


def _place(step: Step) -> str:
    return f"   {_label(step.scopes[-1])}" if step.scopes else ""


def _label(scope: Scope) -> str:
    """Its name, or the end of a long one."""
    label = scope.label
    return label if len(label) <= LABEL else f"…{label[1 - LABEL :]}"


def shape_of(array: Array) -> str:
    """As Python writes a shape."""
    return str(tuple(array.shape))


def size_of(array: Array) -> str:
    """The largest magnitude among the elements."""
    return f"{np.abs(array).max(initial=0.0):.3g}"


def _wrapped(line: str, said: str, indent: int = 2) -> Iterator[str]:
    line = " " * indent + line
    # A list: no line that is to be computed is so long.
    while len(line) > COLUMNS and ", " in line[:COLUMNS]:
        end = line.rindex(", ", 0, COLUMNS) + 1
        yield line[:end]
        line = " " * 8 + line[end:].lstrip()
    if len(line) + 3 + len(said) > COLUMNS:
        yield line
        line, said = "", said
    width = max(0, min(SAID, COLUMNS - 3 - len(said)))
    yield f"{line:<{width}}   {said}"[:COLUMNS].rstrip()
