"""An object keeps its compiled methods, which live as long as the object if it has a `__dict__`.

This module also pickles compiled functions: by name or, if another process may not find the name,
by value.
"""

import pickle
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from numba import cloudpickle

if TYPE_CHECKING:
    from .api import CompiledFunction

NAME = "_minigrad_compiled"


class Methods(dict["CompiledFunction", "CompiledFunction"]):
    """Methods has the compiled methods of an object, by function; a copy of it has none."""

    def __init__(self, owner: object = None) -> None:
        super().__init__()
        self.owner = owner

    def __reduce__(self) -> tuple[object, ...]:
        return Methods, ()


# The methods of objects without `__dict__`, by identity. A trace keeps its object alive, so nothing
# tells when the object is no longer in use; only the methods that were used last are kept.
_elsewhere: dict[int, Methods] = {}
MOST_ELSEWHERE = 64


def methods_of(owner: object) -> Methods:
    """Return the compiled methods of an object; the caller may add others."""
    attributes = getattr(owner, "__dict__", None)
    if not isinstance(attributes, dict):
        kept = _elsewhere[id(owner)] = _elsewhere.pop(id(owner), Methods(owner))
        if len(_elsewhere) > MOST_ELSEWHERE:
            del _elsewhere[next(iter(_elsewhere))]
        return kept
    methods = attributes.get(NAME)
    if methods is None:
        methods = attributes.setdefault(NAME, Methods(owner))
    if methods.owner is not owner:  # the object is a copy, made by copy.copy
        methods = attributes[NAME] = Methods(owner)
    return methods


def reduced(
    compiled: object,
    function: Callable[..., object],
    compile: Callable[[Callable[..., object]], object],
) -> str | tuple[object, ...]:
    """Return what pickle needs for a compiled function: its name, or else the pickled function.

    A pickler that can pickle functions by value, such as cloudpickle's, pickles the function itself
    if another process may not find the name. For other picklers, cloudpickle pickles it.
    """
    module, name = function.__module__, getattr(function, "__qualname__", "")
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if _takes_functions_apart():
        if found is compiled and module != "__main__":
            return name
        return compile, (function,)
    if found is compiled:
        return name
    return pickle.loads, (cloudpickle.dumps(compiled),)  # type: ignore[no-untyped-call]


def _takes_functions_apart() -> bool:
    """Return whether the calling pickler belongs to a copy of cloudpickle."""
    frame = sys._getframe(1)
    while frame is not None:
        pickler = frame.f_locals.get("self") if frame.f_code.co_name == "dump" else None
        if isinstance(pickler, pickle.Pickler) and hasattr(type(pickler), "reducer_override"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
