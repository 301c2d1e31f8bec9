"""Scheduling: which operations become one nest of loops, and what has to be stored between them.

A nest runs over one space, a shape. In it are elementwise operations, whose elements it holds in
scalars, and reductions of these. An operation joins the first nest of its space that comes after
all that it reads; what it reads of the same nest must be an element at the same place, which the
result of a reduction is not. An element that is cheap to compute is computed again in each nest
that reads it; others are stored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .program import Operation, Program, Value
from .scalars import CHEAP, COMPARISONS, EXPRESSIONS, INTEGER, REDUCTIONS, casts_as_numpy

# Storing an element and reading it back moves two arrays; computing it again reads what it is made
# of, mostly read there anyway.
MOST_LEAVES, MOST_STEPS = 3, 8

Shape = tuple[int, ...]
Root = Callable[[Value], Value]


@dataclass
class Stage:
    """One operation that is a call (space None), or a nest of loops over a space."""

    space: Shape | None
    operations: list[Operation] = field(default_factory=list)


def compared_in(operation: Operation) -> Any:
    """The dtype in which NumPy compares the inputs; Python's numbers are weak. None where one does
    not fit the integers it is compared with, or one may be negative and the other above all int64,
    which NumPy knows how to do."""
    dtype = np.result_type(*[x.dtype if isinstance(x, Value) else x for x in operation.inputs])
    if dtype.kind == "f" and all(x.dtype.kind in "iu" for x in operation.reads):
        return dtype if len(operation.reads) < len(operation.inputs) else None
    numbers = [x for x in operation.inputs if type(x) is int and dtype.kind in "iu"]
    fit = all(np.iinfo(dtype).min <= x <= np.iinfo(dtype).max for x in numbers)
    return dtype if fit else None


def space_of(operation: Operation) -> Shape | None:
    """What a nest would have to run over, or None for what is no loop."""
    if not operation.makes:
        return None
    if operation.name in COMPARISONS and compared_in(operation) is None:
        return None
    result = operation.makes[0]
    if operation.name == "astype" and result.dtype.kind in "iu":
        source = operation.reads[0].dtype
        if source.kind == "f" and not casts_as_numpy(source, result.dtype):
            return None
    if operation.name in REDUCTIONS:
        a: Value = operation.inputs[0]
        # NumPy's forward does the rest of integers, and of nothing, whose mean is NaN.
        total = operation.name == "sum"
        if total and a.dtype == result.dtype == np.int64:
            return a.shape
        floats = a.dtype.kind == result.dtype.kind == "f"
        return a.shape if floats and (total or 0 not in a.shape) else None
    if operation.name not in EXPRESSIONS or not operation.reads:
        return None
    floats = result.dtype.kind == "f" or operation.name in COMPARISONS
    return result.shape if floats or operation.name in INTEGER else None


def stages(operations: Sequence[Operation], root: Root) -> list[Stage]:
    """The operations in stages, in an order in which each finds what it reads; root: of a view the
    Value that it is the memory of."""
    done: list[Stage] = []
    made: dict[int, int] = {}  # the stage of each Value
    pointwise: dict[int, Shape] = {}  # and in which space it is an element, not yet a whole
    changed: dict[int, int] = {}  # the last stage that changes a Value in place
    for operation in operations:
        space, first = space_of(operation), 0
        for read in operation.reads:
            v = root(read)
            stage = made.get(id(v), -1)
            # Of a view the element at the same place is another.
            here = read is v and space is not None and pointwise.get(id(v)) == space
            first = max(first, stage if here else stage + 1)
            first = max(first, changed.get(id(v), -1) + 1)
        chosen = len(done)
        if space is not None:
            chosen = next((i for i in range(first, len(done)) if done[i].space == space), len(done))
        if chosen == len(done):
            done.append(Stage(space))
        done[chosen].operations.append(operation)
        for v in operation.makes:
            made[id(v)] = chosen
            if operation.name in EXPRESSIONS:
                pointwise[id(v)] = v.shape
        for v in map(root, operation.changes):
            changed[id(v)] = chosen
    return done


def materialise(done: Sequence[Stage], program: Program, root: Root) -> set[int]:
    """Which results are stored, by identity; and nests get what they compute again.

    All but elements that only their own nest reads, or that are cheap. root: as above.
    """
    read = [v for op in program.operations for v in op.reads]
    viewed = [root(v) for v in (*read, *program.wanted) if root(v) is not v]
    maker = {id(v): op for stage in done for op in stage.operations for v in op.makes}
    stored = {id(v) for v in (*program.wanted, *viewed)}
    for stage in done:
        for operation in stage.operations:
            if stage.space is None or operation.name in REDUCTIONS:
                stored.update(id(v) for v in operation.makes)
            if stage.space is None:
                stored.update(id(v) for v in operation.reads)
    # What is changed in place is another array by the time that an element would be made again.
    changed: dict[int, int] = {}
    for k, stage in enumerate(done):
        for v in (root(v) for op in stage.operations for v in op.changes):
            changed.setdefault(id(v), k)
    for k, stage in enumerate(done):
        if stage.space is not None:
            before = {i for i, when in changed.items() if when < k}
            stale = {id(v) for v in read if id(root(v)) in before}
            _recompute(stage, stage.space, maker, stored, stale)
    for stage in done:  # what nobody reads any more from memory is not computed for it
        if stage.space is not None:
            _prune(stage, stored)
    return stored


def _recompute(
    stage: Stage, space: Shape, maker: dict[int, Operation], stored: set[int], stale: set[int]
) -> None:
    here = {id(v) for op in stage.operations for v in op.makes}
    before: list[Operation] = []

    def bring(v: Value) -> None:
        """See to it that the element v can be had in this nest."""
        made = maker.get(id(v))
        if id(v) in here or id(v) in stored or made is None:
            return
        steps = _steps(v, maker, stored | here)
        if v.shape != space or steps is None or any(id(x) in stale for x in made.reads):
            stored.add(id(v))
            return
        for x in made.reads:
            bring(x)
        before.append(made)
        here.add(id(v))

    for operation in stage.operations:
        for v in operation.reads:
            bring(v)
    stage.operations[:0] = before


def _steps(v: Value, maker: dict[int, Operation], at_hand: set[int]) -> int | None:
    """How many cheap operations make v of what is at hand; None if it is too much."""
    leaves: set[int] = set()
    steps, stack = 0, [v]
    while stack:
        x = stack.pop()
        made = maker.get(id(x))
        if made is None or (id(x) in at_hand and x is not v) or x.shape != v.shape:
            leaves.add(id(x)) if x.shape == v.shape else None
            continue
        if made.name not in CHEAP or steps == MOST_STEPS:
            return None
        steps += 1
        stack += made.reads
    return steps if len(leaves) <= MOST_LEAVES else None


def _prune(stage: Stage, stored: set[int]) -> None:
    live: set[int] = set()
    kept: list[Operation] = []
    for operation in reversed(stage.operations):
        if any(id(v) in stored or id(v) in live for v in operation.makes):
            kept.append(operation)
            live.update(id(v) for v in operation.reads)
    stage.operations = kept[::-1]
