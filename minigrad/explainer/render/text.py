"""An explanation as plain text of at most 100 columns, which `evaluate` reads back."""

from collections.abc import Iterator, Mapping, Sequence

from ..analysis.folding import Dataflow, FoldedVariable, Folds, folded_variables, sections_of
from ..analysis.paths import shown_paths, totals
from ..analysis.wording import call_text, counted, magnitude_text, shape_text
from ..derive.derivation import Derivation
from ..derive.scopes import Scope
from ..derive.steps import Step

COLUMNS, REMARK = 100, 56  # the width of a line, and the column where its remark begins
SHAPE = 16  # the width of the column of shapes in the backward part; a longer shape widens its line


def text(derivation: Derivation, folds: Folds) -> str:
    """Return the explanation: inputs, forward, backward and gradients."""
    sections, flow = sections_of(derivation.steps, folds), Dataflow(derivation)
    shown = (line for scope, steps in sections if not scope for line in steps[0].backward)
    widest = min(SHAPE, max((len(shape_text(line.value)) for line in shown), default=0))
    lines = [
        "inputs",
        *_inputs(derivation),
        "",
        f"forward: {counted(len(derivation.steps), 'record')}",
    ]
    for scope, steps in sections:
        lines += _folded(scope, steps, flow) if scope else _forward(steps[0])
    lines += ["", f"backward: cotangents, g of each v, from {derivation.loss.name}"]
    lines += _wrapped(derivation.begin.text, shape_text(derivation.begin.value))
    for scope, steps in reversed(sections):
        lines += _folded_backward(scope, steps, flow) if scope else _backward(steps[0], widest)
    lines += ["", "gradients: totals, each the sum over its paths"]
    lines += _gradients(derivation, folded_variables(sections, flow))
    return "\n".join(lines)


# --- parts --------------------------------------------------------------------------------------


def _inputs(derivation: Derivation) -> Iterator[str]:
    """Yield a line for each variable that no record makes."""
    inputs = [v for v in derivation.variables if v.kind != "result"]
    width = max((len(v.name) for v in inputs), default=0)
    for v in inputs:
        label = f" {v.label}" if v.label not in (None, v.name) else ""
        remark = f"{shape_text(v.value)} {v.value.dtype}   {v.kind}"
        yield f"  {v.name:<{width}}   {remark}{label}"[:COLUMNS]


def _forward(step: Step) -> Iterator[str]:
    module = f"   {step.scopes[-1].short}" if step.scopes else ""
    for line in step.forward:
        yield from _wrapped(line.text, shape_text(line.value) + module)


def _backward(step: Step, widest: int) -> Iterator[str]:
    for line in step.backward:
        shape = shape_text(line.value)
        source = f"{shape:<{widest}}   from {line.primitive}, w.r.t. {line.wrt}"
        yield from _wrapped(line.text, source if line.wrt else shape)


def _folded(scope: Scope, steps: Sequence[Step], flow: Dataflow) -> Iterator[str]:
    """Yield the line of a folded call: outputs <- module(inputs)."""
    outputs = flow.outputs(steps)
    inputs = ", ".join(v.name for v in flow.inputs(steps))
    call = f"{', '.join(v.name for v in outputs)} <- {scope.short}({inputs})"
    yield from _wrapped(call, f"{shape_text(outputs[-1].value)}   {call_text(scope, steps)}")


def _folded_backward(scope: Scope, steps: Sequence[Step], flow: Dataflow) -> Iterator[str]:
    """Yield the line of a folded call's rules: cotangents of inputs <- module(those of outputs)."""
    inputs = ", ".join(v.cotangent for v in flow.differentiated(steps))
    outputs = ", ".join(v.cotangent for v in flow.outputs(steps))
    rules = counted(sum(len(step.record.wrt) for step in steps), "rule")
    yield from _wrapped(f"{inputs} <- {scope.short}({outputs})", f"{scope.kind}, {rules}")


def _gradients(derivation: Derivation, folded: Mapping[str, FoldedVariable]) -> Iterator[str]:
    for v, total, n in totals(derivation):
        remark = f"{shape_text(total)}   largest element {magnitude_text(total)}"
        yield from _wrapped(f"  {v.cotangent}: {counted(n, 'path')}", remark, 0)
        paths, more = shown_paths(derivation, v, n, folded)
        for path in paths:
            yield from _wrapped(f"    {path.text}", magnitude_text(path.contribution), 0)
        if more:
            yield f"    and {more} more: .paths({v.name!r})"


def _wrapped(line: str, remark: str, indent: int = 2) -> Iterator[str]:
    """Yield a line with its remark, broken where it would exceed COLUMNS."""
    line = " " * indent + line
    # What is too long is a list of names: longer parts of an expression have names of their own.
    while len(line) > COLUMNS and ", " in line[:COLUMNS]:
        end = line.rindex(", ", 0, COLUMNS) + 1
        yield line[:end]
        line = " " * 8 + line[end:].lstrip()
    if len(line) + 3 + len(remark) > COLUMNS:
        yield line
        line = ""
    width = max(0, min(REMARK, COLUMNS - 3 - len(remark)))
    yield f"{line:<{width}}   {remark}"[:COLUMNS].rstrip()
