"""A report describes an executable to the user, as a text."""

import math
from collections import Counter
from collections.abc import Iterable
from itertools import chain

from ..codegen.calls import runs_in_numpy
from ..codegen.fusion import FusionGroup
from ..ir.program import Operation, Value
from .executable import Executable


def report(executable: Executable) -> str:
    """Return a text on fusion (a line for each loop nest), calls, memory and compile times."""
    groups = executable.emitted.groups
    nests = [group for group in groups if group.shape is not None]
    fused = sum(len(group.operations) for group in nests)
    left = by_numpy(executable)
    called = [group.operations[0] for group in groups if group.shape is None]
    calls = Counter(operation.name for operation in called if not runs_in_numpy(operation))
    moved = [_moved(group, executable.emitted.stored) for group in nests]
    return "\n".join(
        [
            f"{len(executable.traced.operations)} operations traced, "
            f"{len(executable.program.operations)} after passes",
            f"{fused} operations fused into {len(nests)} nests of loops, each one pass over "
            f"memory, {_bytes(chain.from_iterable(moved))}",
            *map(_nest, nests, moved),
            f"{calls.total()} calls of kernels and BLAS: {_counted(calls)}",
            f"numbers read in each call: {', '.join(executable.live_numbers.names()) or 'none'}",
            f"{len(executable.emitted.draws)} arrays of random numbers, drawn before",
            f"by NumPy, outside compiled code: {', '.join(left) or 'nothing'}",
            f"{executable.buffer_bytes:,} bytes of buffers",
            f"traced and written in {executable.compile_seconds:.3f} s",
            *(f"{name}: {how}, {took:.3f} s" for name, (how, took) in executable.built.items()),
        ]
    )


def by_numpy(executable: Executable) -> list[str]:
    """Return the names of operations that NumPy runs between compiled functions."""
    return [step.name for step in executable.emitted.steps if isinstance(step, Operation)]


def _moved(nest: FusionGroup, stored: set[Value]) -> tuple[Value, ...]:
    """Return the arrays that a nest reads from memory or writes to it."""
    made = dict.fromkeys(v for operation in nest.operations for v in operation.makes)
    read = dict.fromkeys(v for operation in nest.operations for v in operation.reads)
    return (*(v for v in read if v not in made), *(v for v in made if v in stored))


def _counted(calls: Counter[str]) -> str:
    counted = (name if count == 1 else f"{name} x {count}" for name, count in calls.items())
    return ", ".join(counted) or "none"


def _nest(nest: FusionGroup, moved: tuple[Value, ...]) -> str:
    names = ", ".join(dict.fromkeys(operation.name for operation in nest.operations))
    return f"    {nest.shape} {names}: {len(moved)} arrays, {_bytes(moved)}"


def _bytes(moved: Iterable[Value]) -> str:
    return f"{sum(math.prod(v.shape) * v.dtype.itemsize for v in moved):,} bytes"
