"""Passes turn a program into an equal one that does less; each takes and returns operations.

All passes keep the order of updates, and the order of an update and the operations that read the
Values that it changes.
"""

from collections.abc import Sequence

import numpy as np

from ... import ops
from ...names import Names
from ...ops.inplace import Update
from ...ops.primitive import Attribute, Primitive
from ..ir.may_alias import MayAlias
from ..ir.program import Input, Operation, Program, Value
from .decompose import decomposed
from .reductions import sums_of_sums, wide_sums

_PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None), type(...)})
Operations = list[Operation]
Wanted = Sequence[Value]


def optimised(program: Program) -> Program:
    """Return the program after all passes."""
    done = program.operations
    passes = same_shape, decomposed, wide_sums, sums_of_sums, same_dtype, common, dead, updates_last
    for simplify in passes:
        done = simplify(done, program.wanted)
    _name_apart(done)
    replaced = Program(program.arguments, done, program.results, program.grads, program.lent)
    replaced.check()
    return replaced


def dead(operations: Operations, wanted: Wanted) -> Operations:
    """Eliminate dead code: operations that no update, result or gradient needs.

    An operation whose primitive is `kept` stays in any case.
    """
    live = set(wanted)
    kept: Operations = []
    for operation in reversed(operations):
        needed = isinstance(operation.what, Update) or operation.what.kept
        if needed or not live.isdisjoint(operation.makes):
            kept.append(operation)
            live.update(operation.reads)
    return kept[::-1]


def common(operations: Operations, wanted: Wanted) -> Operations:
    """Eliminate common subexpressions: apply the same primitive to the same inputs only once."""
    aliases = MayAlias(operations)
    keep = set(wanted)
    first: dict[object, Operation] = {}
    kept, same = [], Same()
    for operation in operations:
        operation = same.renamed(operation)
        key = _key(operation)
        known = first.get(key)
        fixed = not aliases.changes(*operation.reads)
        if known is None or not fixed or not keep.isdisjoint(operation.makes):
            kept.append(operation)
            if fixed and not isinstance(operation.what, Update) and not operation.what.random:
                first.setdefault(key, operation)
            continue
        for old, new in zip(operation.outputs, known.outputs, strict=True):
            if old is not None and new is not None:
                same.put(old, new)
    return kept


def same_shape(operations: Operations, wanted: Wanted) -> Operations:
    """Eliminate reshapes and broadcasts to the shape of an input that is not changed in place.

    This pass runs before decompositions, whose last operations must stay: `check` compares results.
    """
    return _unchanged(operations, wanted, (ops.TABLE["reshape"], ops.TABLE["broadcast_to"]))


def same_dtype(operations: Operations, wanted: Wanted) -> Operations:
    """Eliminate casts to the dtype of the input, unless the input is changed in place."""
    return _unchanged(operations, wanted, (ops.astype,))


def _unchanged(operations: Operations, wanted: Wanted, of: Sequence[Primitive]) -> Operations:
    """Eliminate operations of these primitives whose result equals the input."""
    aliases = MayAlias(operations)
    keep = set(wanted)
    kept, same = [], Same()
    for operation in operations:
        operation = same.renamed(operation)
        if operation.what in of and operation.makes and operation.reads:
            (source,), (target,) = operation.reads, operation.makes
            alike = source.dtype == target.dtype and source.shape == target.shape
            if alike and target not in keep and not aliases.changes(source):
                same.put(target, source)
                continue
        kept.append(operation)
    return kept


def updates_last(operations: Operations, wanted: Wanted) -> Operations:
    """Move updates to the end; if an operation before them fails, nothing has changed.

    An update stays before later operations that read what it changes.
    """
    order: Operations = []
    late: Operations = []
    changed: set[Value] = set()  # the Values that late updates change
    root = MayAlias(operations).root
    for operation in operations:
        if isinstance(operation.what, Update):
            late.append(operation)
            changed.update(map(root, operation.changes))
        elif not changed.isdisjoint(map(root, operation.reads)):
            order += [*late, operation]
            late = []
            changed.clear()
        else:
            order.append(operation)
    return order + late


def _name_apart(operations: Operations) -> None:
    """Give unique names to the results of all operations."""
    names = Names({v.name for op in operations for v in op.reads if v.origin != "result"})
    for operation in operations:
        for v in operation.makes:
            v.name = names.fresh_name(v.label)


class Same:
    """Same is a substitution: it replaces Values by equal ones."""

    def __init__(self) -> None:
        self._of: dict[Value, Value] = {}

    def put(self, old: Value, new: Value) -> None:
        """Replace `old` by `new` from now on."""
        self._of[old] = new

    def now(self, v: Value) -> Value:
        """Return the Value that stands for v now."""
        return self._of.get(v, v)

    def renamed(self, operation: Operation) -> Operation:
        """Return the operation with its inputs substituted."""
        if self._of.keys().isdisjoint(operation.reads):
            return operation
        inputs = [self._of.get(x, x) if isinstance(x, Value) else x for x in operation.inputs]
        return Operation(
            operation.what, inputs, operation.attributes, operation.outputs, operation.rule
        )


def _key(operation: Operation) -> object:
    attributes = tuple((k, _part(v)) for k, v in sorted(operation.attributes.items()))
    dtypes = tuple(None if v is None else v.dtype for v in operation.outputs)
    return operation.what, tuple(map(_part, operation.inputs)), attributes, dtypes


def _part(x: Input | Attribute) -> object:
    """Return the part of the key for an input or attribute: equal parts mean equal results.

    What may change, or may have parts that its text does not show, is compared by identity.
    """
    if isinstance(x, (Value, np.dtype)):
        return x
    if isinstance(x, (tuple, slice)):
        parts = x if isinstance(x, tuple) else (x.start, x.stop, x.step)
        return type(x), tuple(map(_part, parts))
    return (type(x), repr(x)) if type(x) in _PLAIN or isinstance(x, np.generic) else id(x)
