"""An explanation as Markdown with LaTeX, for notebooks and pages that typeset it."""

from collections.abc import Iterator, Sequence

from .derivation import Derivation, Line, Step, Variable
from .latex import latex, name
from .scopes import Scope
from .text import Folds, border, grouped, shape_of, size_of, totals


def markdown(derivation: Derivation, folds: Folds) -> str:
    """Tables of what was given, the forward, the backward and the gradients."""
    given = [v for v in derivation.variables if v.kind != "result"]
    groups = grouped(derivation.steps, folds)
    forward = [row for scope, steps in groups for row in _forward(scope, steps)]
    backward = [row for scope, steps in reversed(groups) for row in _backward(scope, steps)]
    start = (_line(derivation.begin), shape_of(derivation.begin.value), "")
    return "\n\n".join(
        [
            _table("Inputs", ("", "shape", ""), map(_given, given)),
            _table("Forward", ("", "shape", "module"), forward),
            _table("Backward", ("", "shape", "rule"), [start, *backward]),
            _table("Gradients", ("", "shape", "paths", "largest element"), _totals(derivation)),
        ]
    )


def _table(
    title: str, head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]
) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return f"#### {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _given(v: Variable) -> tuple[str, str, str]:
    label = "" if v.label in (None, v.name) else f" `{_code(v.label or '')}`"
    return _maths(name(v.name)), shape_of(v.value), v.kind + label


def _forward(scope: Scope | None, steps: Sequence[Step]) -> Iterator[Sequence[str]]:
    if scope is not None:
        given, made = border(steps)
        operands = ", ".join(name(v.name) for v in given)
        call = rf"{name(made[-1].name)} \leftarrow \left({operands}\right)"
        yield _maths(call), shape_of(made[-1].value), f"`{_code(scope.label)}` ({scope.kind})"
        return
    for step in steps:
        module = f"`{_code(step.scopes[-1].label)}`" if step.scopes else ""
        for line in step.forward:
            yield _line(line), shape_of(line.value), module


def _backward(scope: Scope | None, steps: Sequence[Step]) -> Iterator[Sequence[str]]:
    if scope is not None:
        given, made = border(steps)
        wanted = ", ".join(name(v.cotangent) for v in given if v.kind != "constant")
        call = rf"\left({wanted}\right) \leftarrow {name(made[-1].cotangent)}"
        yield _maths(call), "", f"`{_code(scope.label)}` ({scope.kind})"
        return
    for step in steps:
        for line in step.backward:
            rule = f"{line.primitive}, w.r.t. {line.wrt}" if line.wrt else ""
            yield _line(line), shape_of(line.value), _code(rule)


def _totals(derivation: Derivation) -> Iterator[Sequence[str]]:
    for v, total, n in totals(derivation):
        yield _maths(name(v.cotangent)), shape_of(total), str(n), size_of(total)


def _line(line: Line) -> str:
    sign = "=" if line.sign == "=" else r"\mathrel{+}="
    return _maths(f"{name(line.target)} {sign} {latex(line.expression)}")


def _maths(text: str) -> str:
    return f"${text}$"


def _code(text: str) -> str:
    """Text that can end neither the code it stands in nor the table's cell."""
    return text.replace("`", "'").replace("|", r"\|")
