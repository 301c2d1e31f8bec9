"""Tensors that a step leaves outside while it is traced, as `self.h = h` does. Compiled calls run
no Python that would do so again, and whoever reads such a Tensor would read that of the trace."""

import functools
import operator
from collections.abc import Callable, Mapping
from types import CellType
from typing import Any

from ..errors import TraceError
from .attributes import attributes
from .passes import RANDOM
from .program import Value
from .trace import Trace
from .watch import ABSENT, Place, Watched, content


class Outside:
    """What there is outside before a trace; Tensors there have their names from it."""

    def __init__(self, watched: Watched, trace: Trace) -> None:
        self._trace = trace
        for place in watched.places:
            trace.know(place.name, place.tensor)
        self._before = {id(owner): (owner, _contents(owner)) for owner in watched.owners}

    def refuse_left(self, watched: Watched) -> None:
        """Errors: TraceError for Tensors that were put outside since, unless they are the same in
        each call. When the trace is taken back, what was there is there again."""
        trace, varying = self._trace, _varying(self._trace)
        left: dict[Any, Place] = {}
        for place in watched.places:
            if trace.value_of(place.tensor) in varying:
                left[id(place.owner), place.key] = place
        for place in left.values():
            if id(place.owner) in self._before:
                _, contents = self._before[id(place.owner)]
                was = contents.get(place.key, ABSENT)
                trace.undo(functools.partial(_put, place.owner, place.key, was))
        if left:
            names = ", ".join(place.name for place in left.values())
            raise TraceError(
                f"compile: the step puts a Tensor that it was given or has made into {names}, "
                "where compiled calls would not put theirs; return it, and put it there outside "
                "the step, or overwrite the Tensor that is there by .copy_() inside mg.no_grad()"
            )


def _varying(trace: Trace) -> set[Value | None]:
    """The Values that may be others in each call."""
    found: set[Value | None] = set(trace.arguments)
    for operation in trace.operations:
        if operation.name in RANDOM or any(
            v in found or (v.origin == "state" and trace.is_known(v)) for v in operation.reads
        ):
            found.update(operation.makes)
    return found


def _contents(owner: Any) -> dict[Any, Any]:
    """By attribute or key what an object, a cell, a dict or a list holds."""
    if isinstance(owner, CellType):
        return {"cell_contents": content(owner)}
    if isinstance(owner, list):
        return dict(enumerate(owner))
    return dict(owner if isinstance(owner, Mapping) else attributes(owner))


def _put(owner: Any, key: Any, value: Any) -> None:
    """Put a value in its place, or nothing if there was none."""
    put: Callable[..., None] = setattr
    take: Callable[..., None] = delattr
    if isinstance(owner, (Mapping, list)):
        put, take = operator.setitem, operator.delitem
    if value is ABSENT:
        take(owner, key)
    else:
        put(owner, key, value)
