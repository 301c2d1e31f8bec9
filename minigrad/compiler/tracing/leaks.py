"""Leaks: Tensors that a step puts outside itself while it is traced, as `self.h = h` does.

Compiled calls run no Python that would do so again, so a reader would find the trace's Tensor.
"""

from collections import deque
from contextvars import ContextVar
from functools import partial
from types import CellType, MemberDescriptorType
from typing import Any

from ...errors import TraceError
from ..ir.program import Value
from .captures import Place, Watched
from .guards import same
from .inspection import ABSENT, comes_from
from .trace import Trace


def refuse_left(before: Watched, after: Watched, trace: Trace) -> None:
    """Refuse Tensors that the step has put outside itself, unless they are the same in each call.

    before, after: what was watched before and after the step. When the trace is taken back, the
    places get their former values. Errors: TraceError.
    """
    varying = _varying(trace)
    left: dict[Any, Place] = {}
    for place in after.places:
        if trace.value_of(place.tensor) in varying:
            left[id(place.owner), place.key] = place
    for place in left.values():
        if id(place.owner) in before.owners:
            _, held = before.owners[id(place.owner)]
            was = next((value for key, value in held if same(key, place.key)), ABSENT)
            trace.undo(partial(_put, place.owner, place.key, was))
    if left:
        names = ", ".join(place.name for place in left.values())
        raise TraceError(
            f"compile: the step puts a Tensor that it was given or has made into {names}, "
            "where compiled calls would not put theirs; return it, and put it there outside "
            "the step, or overwrite the Tensor that is there by .copy_() inside mg.no_grad()"
        )


def _varying(trace: Trace) -> set[Value | None]:
    """Return the Values whose elements may differ from call to call."""
    found: set[Value | None] = set(trace.arguments)
    for operation in trace.operations:
        if getattr(operation.what, "random", False) or any(
            v in found or (v.origin == "state" and trace.is_known(v)) for v in operation.reads
        ):
            found.update(operation.makes)
    return found


def _put(owner: Any, key: Any, value: Any) -> None:
    """Put a value back into its place, or clear the place, without running the user's code."""
    if type(owner) is ContextVar:
        if value is not ABSENT:
            owner.set(value)
        return
    put: Any
    take: Any
    if type(key) is MemberDescriptorType:
        put, take = partial(key.__set__, owner), partial(key.__delete__, owner)
    elif type(owner) is CellType:
        put, take = partial(setattr, owner, key), partial(delattr, owner, key)
    else:
        kind: Any = next(k for k in (dict, list, deque) if comes_from(owner, k))
        put, take = partial(kind.__setitem__, owner, key), partial(kind.__delitem__, owner, key)
    take() if value is ABSENT else put(value)
