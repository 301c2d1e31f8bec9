"""Passes: from a program to an equal one that does less. Each takes operations and returns some.

In an update a Value is changed; all passes leave the order of updates, and of what reads the
changed Values before or after them, alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ops.update import Update
from .expansions import expanded
from .names import Names
from .program import Operation, Program, Value
from .sums import sums_of_sums, wide_sums
from .views import Views

Operations = list[Operation]
Wanted = Sequence[Value]

# Draw anew at each call, so that two with the same inputs are not one.
RANDOM = {"keep_mask", "uniform"}
# Not left out where nobody reads what they make: what is random is drawn, so that the generator is
# where it would be, and what is out of range is an error.
NEEDED = RANDOM | {"in_range", "label_cross_entropy"}


def optimised(program: Program) -> Program:
    """The program after all passes."""
    done = program.operations
    for simplify in (expanded, wide_sums, sums_of_sums, same_dtype, common, dead, updates_last):
        done = simplify(done, program.wanted)
    _name_apart(done)
    replaced = Program(program.arguments, done, program.results, program.grads)
    replaced.check()
    return replaced


def dead(operations: Operations, wanted: Wanted) -> Operations:
    """Without what nobody reads: neither an update, nor a result, nor what leads to one."""
    live = set(wanted)
    kept: Operations = []
    for operation in reversed(operations):
        needed = isinstance(operation.what, Update) or operation.name in NEEDED
        if needed or not live.isdisjoint(operation.makes):
            kept.append(operation)
            live.update(operation.reads)
    return kept[::-1]


def common(operations: Operations, wanted: Wanted) -> Operations:
    """The same primitive of the same inputs is applied once: common subexpressions."""
    views = Views(operations)
    keep = set(wanted)
    first: dict[Any, Operation] = {}
    kept, same = [], Same()
    for operation in operations:
        operation = same.renamed(operation)
        key = _key(operation)
        known = first.get(key)
        fixed = not views.changes(*operation.reads)
        if known is None or not fixed or not keep.isdisjoint(operation.makes):
            kept.append(operation)
            if fixed and not isinstance(operation.what, Update) and operation.name not in RANDOM:
                first.setdefault(key, operation)
            continue
        for old, new in zip(operation.outputs, known.outputs, strict=True):
            if old is not None and new is not None:
                same.put(old, new)
    return kept


def same_dtype(operations: Operations, wanted: Wanted) -> Operations:
    """Without copies: a conversion to the dtype that is there already is its input, where that is
    not changed later."""
    views = Views(operations)
    keep = set(wanted)
    kept, same = [], Same()
    for operation in operations:
        operation = same.renamed(operation)
        if operation.name == "astype" and operation.makes:
            (source,), (target,) = operation.reads, operation.makes
            fixed = not views.changes(source) and target not in keep
            if source.dtype == target.dtype and fixed:
                same.put(target, source)
                continue
        kept.append(operation)
    return kept


def updates_last(operations: Operations, wanted: Wanted) -> Operations:
    """Updates stand at the end, so that what fails before them has changed nothing; but for those
    whose changed Values are read later."""
    order: Operations = []
    late: Operations = []
    changed: set[Value] = set()  # what the late ones change
    root = Views(operations).root
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
    """Values that passes made get names of their own."""
    names = Names({v.name for op in operations for v in op.reads if v.origin != "result"})
    for operation in operations:
        for v in operation.makes:
            v.name = names.free(v.name)


class Same:
    """Values that are others under another name."""

    def __init__(self) -> None:
        self._of: dict[Value, Value] = {}

    def put(self, old: Value, new: Value) -> None:
        """From now on `old` is `new`."""
        self._of[old] = new

    def renamed(self, operation: Operation) -> Operation:
        """The operation with inputs of their one name."""
        if self._of.keys().isdisjoint(operation.reads):
            return operation
        inputs = [self._of.get(x, x) if isinstance(x, Value) else x for x in operation.inputs]
        return Operation(
            operation.what, inputs, operation.attributes, operation.outputs, operation.rule
        )


def _key(operation: Operation) -> Any:
    inputs = tuple(x if isinstance(x, Value) else (type(x), repr(x)) for x in operation.inputs)
    attributes = tuple(
        (k, id(v) if isinstance(v, np.ndarray) else repr(v))
        for k, v in sorted(operation.attributes.items())
    )
    dtypes = tuple(None if v is None else v.dtype for v in operation.outputs)
    return operation.name, inputs, attributes, dtypes
