"""Fusion decides which operations share one loop nest, and which results are stored.

A group is a loop nest over one iteration shape. It contains elementwise operations, whose elements
are scalars in the loop, and reductions of such elements. An operation joins the first group of its
shape that comes after everything it reads; it may also join a group that makes what it reads, if it
reads the element at the same place, and not the result of a reduction. An element that is cheap to
compute is computed again in each group that reads it; other results are stored.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import numpy as np

from ... import ops
from ...types import DType, Shape
from ..ir.live_numbers import plain
from ..ir.program import Operation, Program, Value
from .casts import casts_as_numpy

# Storing and reading a result moves two arrays; computing it again reads its inputs, which the nest
# mostly reads anyway.
MOST_LEAVES, MOST_STEPS = 3, 8

# Numba's compile time grows faster than the nest, and LLVM does not vectorise a very long nest.
MOST_OPERATIONS = 32

# A function that returns the Value whose memory a Value has.
Root: TypeAlias = Callable[[Value], Value]


@dataclass
class FusionGroup:
    """A FusionGroup is a loop nest over a shape or, if shape is None, one call.

    Updates by one kernel are one group, too, without a shape: a loop calls the kernel.
    """

    shape: Shape | None
    operations: list[Operation] = field(default_factory=list)


def compared_in(operation: Operation) -> DType | None:
    """Return the dtype in which NumPy compares the inputs; Python's numbers are weak.

    Return None if NumPy compares in no common dtype: if a number does not fit the integer dtype
    that it is compared with, or if a signed integer is compared with a uint64.
    """
    dtype = np.result_type(
        *[x.dtype if isinstance(x, Value) else plain(x) for x in operation.inputs]
    )
    if dtype.kind == "f" and all(x.dtype.kind in "iu" for x in operation.reads):
        return dtype if len(operation.reads) < len(operation.inputs) else None
    numbers = [x for x in operation.inputs if type(x) is int and dtype.kind in "iu"]
    fit = all(np.iinfo(dtype).min <= x <= np.iinfo(dtype).max for x in numbers)
    return dtype if fit else None


def iteration_shape(operation: Operation) -> Shape | None:
    """Return the shape of a loop nest for the operation, or None if it cannot be a loop."""
    if not operation.makes:
        return None
    result, scalar = operation.makes[0], operation.scalar
    if operation.reduction is not None:
        a: Value = operation.inputs[0]
        # The forward reduces other integers, and empty arrays, whose mean is NaN.
        total = operation.what is ops.sum_over
        if total and a.dtype == result.dtype == np.int64:
            return a.shape
        floats = a.dtype.kind == result.dtype.kind == "f"
        return a.shape if floats and (total or 0 not in a.shape) else None
    if scalar is None or not operation.reads:
        return None
    if scalar.compares:
        return None if compared_in(operation) is None else result.shape
    if operation.what is ops.astype and result.dtype.kind in "iu":
        source = operation.reads[0].dtype
        if source.kind == "f" and not casts_as_numpy(source, result.dtype):
            return None
    return result.shape if result.dtype.kind == "f" or scalar.integers else None


def fusion_groups(
    operations: Sequence[Operation], root: Root, loop_key: Callable[[Operation], object]
) -> list[FusionGroup]:
    """Return the operations in groups; each group comes after the groups that make what it reads.

    root: a function that returns the Value whose memory a Value has. loop_key: a function that
        returns a key for an update, equal for those that one loop can run, or None.
    """
    done: list[FusionGroup] = []
    # By the shape of a nest, or the key of updates, the groups that have room, in order.
    with_room: dict[object, list[int]] = {}
    made: dict[Value, int] = {}  # the group that makes each Value
    pointwise: dict[Value, Shape] = {}  # the shape of each elementwise result
    changed: dict[Value, int] = {}  # the last group that changes a Value in place
    readers: dict[Value, int] = {}  # the last group that reads a Value
    for operation in operations:
        shape, first = iteration_shape(operation), 0
        key = loop_key(operation) if shape is None else shape
        for read in operation.reads:
            v = root(read)
            group = made.get(v, -1)
            # A view may have another element at the same place.
            here = read is v and shape is not None and pointwise.get(v) == shape
            first = max(first, group if here else group + 1)
            first = max(first, changed.get(v, -1) + 1)
        first = max([first, *(readers.get(v, 0) for v in map(root, operation.changes))])
        chosen = len(done)
        if key is not None:
            open_groups = with_room.setdefault(key, [])
            at = bisect_left(open_groups, first)
            if at == len(open_groups):
                open_groups.append(chosen)
            chosen = open_groups[at]
        if chosen == len(done):
            done.append(FusionGroup(shape))
        done[chosen].operations.append(operation)
        if shape is not None and len(done[chosen].operations) == MOST_OPERATIONS:
            del open_groups[at]
        for v in map(root, operation.reads):
            readers[v] = max(chosen, readers.get(v, 0))
        for v in operation.makes:
            made[v] = chosen
            if operation.scalar is not None:
                pointwise[v] = v.shape
        for v in map(root, operation.changes):
            changed[v] = chosen
    return done


def stored_values(done: Sequence[FusionGroup], program: Program, root: Root) -> set[Value]:
    """Return the results that are stored, and add to each nest the operations that it repeats.

    Elements that only their own nest reads, or that are cheap, are not stored.

    root: a function that returns the Value whose memory a Value has.
    """
    read = [v for op in program.operations for v in op.reads]
    viewed = [root(v) for v in (*read, *program.wanted) if root(v) is not v]
    maker = {v: op for group in done for op in group.operations for v in op.makes}
    stored = {*program.wanted, *viewed}
    for group in done:
        for operation in group.operations:
            if group.shape is None or operation.reduction is not None:
                stored.update(operation.makes)
            if group.shape is None:
                stored.update(operation.reads)
    # No element is computed again after one of its inputs has been changed in place.
    changed: dict[Value, int] = {}  # the first group that changes a Value
    for k, group in enumerate(done):
        for v in (root(v) for op in group.operations for v in op.changes):
            changed.setdefault(v, k)

    def stale(v: Value, k: int) -> bool:
        return changed.get(root(v), math.inf) < k

    for k, group in enumerate(done):
        if group.shape is not None:
            _recompute(group, group.shape, maker, stored, partial(stale, k=k))
    for group in done:  # drop elements that are neither stored nor read in their nest
        if group.shape is not None:
            _prune(group, stored)
    return stored


def _recompute(
    group: FusionGroup,
    shape: Shape,
    maker: dict[Value, Operation],
    stored: set[Value],
    stale: Callable[[Value], bool],
) -> None:
    here = {v for op in group.operations for v in op.makes}
    before: list[Operation] = []

    def load(v: Value) -> None:
        """Make the element of v available in this nest."""
        made = maker.get(v)
        if v in here or v in stored or made is None:
            return
        cheap = v.shape == shape and _is_cheap(v, maker, (stored, here))
        if not cheap or any(map(stale, made.reads)):
            stored.add(v)
            return
        for x in made.reads:
            load(x)
        before.append(made)
        here.add(v)

    for operation in group.operations:
        for v in operation.reads:
            load(v)
    group.operations[:0] = before


def _is_cheap(v: Value, maker: dict[Value, Operation], at_hand: Sequence[set[Value]]) -> bool:
    """Return whether a few cheap operations compute v from a few available elements."""
    leaves: set[Value] = set()
    steps, stack = 0, [v]
    while stack:
        x = stack.pop()
        made = maker.get(x)
        known = x is not v and any(x in values for values in at_hand)
        if made is None or known or x.shape != v.shape:
            leaves.add(x) if x.shape == v.shape else None
            continue
        if made.scalar is None or not made.scalar.cheap or steps == MOST_STEPS:
            return False
        steps += 1
        stack += made.reads
    return len(leaves) <= MOST_LEAVES


def _prune(group: FusionGroup, stored: set[Value]) -> None:
    live: set[Value] = set()
    kept: list[Operation] = []
    for operation in reversed(group.operations):
        if any(v in stored or v in live for v in operation.makes):
            kept.append(operation)
            live.update(operation.reads)
    group.operations = kept[::-1]
