"""A leak is a Tensor that a step puts outside itself while it is traced, as `self.h = h` does.

Compiled calls run no Python, so they would not put a new one there.
"""

from collections import deque
from contextvars import ContextVar
from functools import partial
from types import CellType, MemberDescriptorType
from typing import Any

from ...errors import TraceError
from ..ir.program import Value
from .captures import Captures
from .inspection import ABSENT, comes_from
from .locations import ITEMS, Location
from .trace import Trace


def refuse_leaks(before: Captures, after: Captures, trace: Trace) -> None:
    """Refuse Tensors that the step has put outside itself, unless they are the same in each call.

    before, after: the captures before and after the step.

    `trace.take_back` gives the locations their former values. Errors: TraceError for a leak.
    """
    varying = _varying(trace)
    leaks = [location for location, x in after.tensors if trace.value_of(x) in varying]
    for identity, location in {location.identity: location for location in leaks}.items():
        trace.undo(partial(put, location, before.originals.get(identity, ABSENT)))
    if leaks:
        names = ", ".join(dict.fromkeys(location.name for location in leaks))
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
            v in found or (v.origin == "state" and trace.existed_before(v)) for v in operation.reads
        ):
            found.update(operation.makes)
    return found


def put(location: Location, value: object) -> None:
    """Put a value back into its location, or clear the location if the value is ABSENT.

    This runs none of the user's code.
    """
    owner: Any = location.owner
    key: Any = location.key
    if key is ITEMS and value is not ABSENT:
        base: Any = list if comes_from(owner, list) else deque
        base.clear(owner)
        base.extend(owner, value)
    elif type(owner) is ContextVar and value is not ABSENT:
        owner.set(value)
    elif type(key) is MemberDescriptorType:
        key.__delete__(owner) if value is ABSENT else key.__set__(owner, value)
    elif type(owner) is CellType:
        delattr(owner, key) if value is ABSENT else setattr(owner, key, value)
    elif comes_from(owner, dict):
        dict.__delitem__(owner, key) if value is ABSENT else dict.__setitem__(owner, key, value)
