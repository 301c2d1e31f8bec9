"""The partition turns a traced function and its backward pass into two programs.

The forward program saves what the backward program reads of its results.
"""

from ... import ops
from ...ops.inplace import Update
from ..ir.may_alias import MayAlias
from ..ir.program import Operation, Program, Value
from ..tracing.derivative import Derivative
from .pipeline import Same, dead, optimised


def partitioned(program: Program, derivative: Derivative) -> tuple[Program, Program]:
    """Return the forward and the backward program.

    program: the traced function. The arguments of the backward program are the cotangents, and
    those arguments of the function that it reads; its results are the gradients that exist. It
    reads arguments and the user's Tensors where they are, makes again what costs nothing, and gets
    copies of other state.
    """
    assert derivative.gradients is not None
    gradients = [v for v in derivative.gradients if v is not None]
    operations = dead(list(map(_without_unread, derivative.operations)), gradients)
    aliases = MayAlias(program.operations)
    maker = {v: operation for operation in program.operations for v in operation.makes}
    same, saved, copies, views = Same(), {}, [], set()
    made = {v for operation in operations for v in operation.makes}
    seen = set(made)
    stack = [*gradients, *(v for operation in operations for v in operation.reads)]
    while stack:
        v = stack.pop()
        if v in seen:
            continue
        seen.add(v)
        operation = maker.get(v)
        if operation is not None and _is_free(operation, aliases):
            views.add(operation)
            stack += operation.reads
        elif operation is not None or (v.origin == "state" and v not in derivative.owners):
            source = v
            if operation is None:
                source = Value.like(f"{v.name}_saved", v.shape, v.dtype)
                copies.append(Operation(ops.astype, [v], {"dtype": v.dtype}, [source]))
            kept = Value.like(v.name, v.shape, v.dtype)
            kept.origin = "saved"
            saved[kept] = source
            same.put(v, kept)
    again = []
    for operation in program.operations:
        if operation in views:
            (v,) = operation.makes
            fresh = Value.like(v.label, v.shape, v.dtype)
            renamed = same.renamed(operation)
            again.append(Operation(renamed.what, renamed.inputs, renamed.attributes, [fresh]))
            same.put(v, fresh)
    arguments = [*derivative.cotangents, *program.arguments]
    operations = [*again, *map(same.renamed, operations)]
    backward = optimised(Program(arguments, operations, map(same.now, gradients), []))
    read = {v for operation in backward.operations for v in operation.reads} | {*backward.results}
    needed = [v for v in saved if v in read]
    made = {v for operation in backward.operations for v in operation.makes}
    backward.lent = [*needed, *dict.fromkeys(v for v in backward.results if v in made)]
    first = len(derivative.cotangents)
    backward.arguments[first:] = [v for v in program.arguments if v in read]
    forward = Program(
        program.arguments,
        [*program.operations, *copies],
        program.results,
        program.grads,
        [saved[v] for v in needed],
    )
    return forward, backward


def _without_unread(operation: Operation) -> Operation:
    """Return the operation without the inputs that only its formula reads."""
    what, inputs = operation.what, operation.inputs
    if isinstance(what, Update):
        return operation
    kept = [x if what.forward_reads(i) else None for i, x in enumerate(inputs)]
    return Operation(what, kept, operation.attributes, operation.outputs, operation.rule)


def _is_free(operation: Operation, aliases: MayAlias) -> bool:
    """Return whether an operation is a view, or a cast to the same dtype of what stays the same."""
    if operation.what is ops.astype and operation.reads:
        (source,), (made,) = operation.reads, operation.makes
        return source.dtype == made.dtype and not aliases.changes(source)
    return getattr(operation.what, "is_view", False)
