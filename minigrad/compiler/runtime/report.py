"""A report on a plan: a text for users."""

import math
from collections import Counter
from collections.abc import Iterable
from itertools import chain

from ..codegen.aliases import is_python
from ..codegen.fusion import Stage
from ..ir.program import Operation, Value
from .executable import Plan


def report(plan: Plan) -> str:
    """Return a text on fusion, with a line for each nest of loops, on calls, memory and seconds."""
    stages = plan.emitted.stages
    nests = [stage for stage in stages if stage.space is not None]
    fused = sum(len(stage.operations) for stage in nests)
    left = by_numpy(plan)
    called = [stage.operations[0] for stage in stages if stage.space is None]
    calls = Counter(operation.name for operation in called if not is_python(operation))
    moved = [_moved(stage, plan.emitted.stored) for stage in nests]
    return "\n".join(
        [
            f"{len(plan.traced.operations)} operations traced, "
            f"{len(plan.program.operations)} after passes",
            f"{fused} operations fused into {len(nests)} nests of loops, each one pass over "
            f"memory, {_bytes(chain.from_iterable(moved))}",
            *map(_nest, nests, moved),
            f"{calls.total()} calls of kernels and BLAS: {_counted(calls)}",
            f"{len(plan.emitted.draws)} arrays of random numbers, drawn before",
            f"by NumPy, outside compiled code: {', '.join(left) or 'nothing'}",
            f"{plan.buffer_bytes:,} bytes of buffers",
            f"traced and written in {plan.compile_seconds:.3f} s",
            *(f"{name}: {how}, {took:.3f} s" for name, (how, took) in plan.built.items()),
        ]
    )


def by_numpy(plan: Plan) -> list[str]:
    """Return the names of operations that NumPy runs between compiled functions."""
    return [step.name for step in plan.emitted.steps if isinstance(step, Operation)]


def _moved(nest: Stage, stored: set[Value]) -> tuple[Value, ...]:
    """Return the arrays that a nest reads from memory or writes to it."""
    made = dict.fromkeys(v for operation in nest.operations for v in operation.makes)
    read = dict.fromkeys(v for operation in nest.operations for v in operation.reads)
    return (*(v for v in read if v not in made), *(v for v in made if v in stored))


def _counted(calls: Counter[str]) -> str:
    counted = (name if count == 1 else f"{name} x {count}" for name, count in calls.items())
    return ", ".join(counted) or "none"


def _nest(nest: Stage, moved: tuple[Value, ...]) -> str:
    names = ", ".join(dict.fromkeys(operation.name for operation in nest.operations))
    return f"    {nest.space} {names}: {len(moved)} arrays, {_bytes(moved)}"


def _bytes(moved: Iterable[Value]) -> str:
    return f"{sum(math.prod(v.shape) * v.dtype.itemsize for v in moved):,} bytes"
