"""An object keeps its compiled methods, so that these live as long as it. Compiled functions are
pickled by name."""

import pickle
import sys
from collections.abc import Callable
from typing import Any

from numba import cloudpickle

NAME = "_minigrad_compiled"


class Methods(dict[Any, Any]):
    """The compiled methods of an object, by function; a copy of the object begins with none."""

    def __init__(self, owner: Any = None) -> None:
        super().__init__()
        self.owner = owner

    def __reduce__(self) -> Any:
        return Methods, ()


_elsewhere: dict[int, Methods] = {}  # of objects with slots only, by identity, and kept for ever


def methods_of(owner: Any) -> Methods:
    """Return the compiled methods of an object, to which others may be added."""
    held = getattr(owner, "__dict__", None)
    if not isinstance(held, dict):
        return _elsewhere.setdefault(id(owner), Methods(owner))
    methods = held.get(NAME)
    if methods is None:
        methods = held.setdefault(NAME, Methods(owner))
    if methods.owner is not owner:  # as copy.copy leaves it
        methods = held[NAME] = Methods(owner)
    return methods


def reduced(compiled: Any, function: Any, compile: Callable[[Any], Any]) -> Any:
    """Return how a compiled function is pickled: by its name, or else by pickling the function.

    Another process may not find the name. A pickler that can pickle functions by value then does
    so; for any other pickler, cloudpickle does it.
    """
    module, name = function.__module__, getattr(function, "__qualname__", "")
    found: Any = sys.modules.get(module)
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
    """Return whether the pickler that asks is some copy of cloudpickle."""
    frame = sys._getframe(1)
    while frame is not None:
        pickler = frame.f_locals.get("self") if frame.f_code.co_name == "dump" else None
        if isinstance(pickler, pickle.Pickler) and hasattr(type(pickler), "reducer_override"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
