"""Where the compiled methods of an object are kept: in the object, so that they go when it goes;
and how compiled functions are pickled."""

import pickle
import sys
from collections.abc import Callable
from typing import Any

from numba import cloudpickle

NAME = "_minigrad_compiled"


class Methods(dict[Any, Any]):
    """For compiled functions of a class their bound forms. An object's copy begins with none."""

    def __init__(self, owner: Any = None) -> None:
        super().__init__()
        self.owner = owner

    def __reduce__(self) -> Any:
        return Methods, ()


_elsewhere: dict[int, Methods] = {}  # for objects that have only slots, by identity; for ever


def methods_of(owner: Any) -> Methods:
    """Those of an object, to be added to."""
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
    """How a compiled function is pickled: by its name, as functions are, or else as the function.

    A pickler that takes functions apart, as those that send work to other processes do, does so
    where the other process may not find the name. What has no name at all is pickled by such one.
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
    """Whether the pickler that asks is a cloudpickle, anybody's copy of it."""
    frame = sys._getframe(1)
    while frame is not None:
        pickler = frame.f_locals.get("self") if frame.f_code.co_name == "dump" else None
        if isinstance(pickler, pickle.Pickler) and hasattr(type(pickler), "reducer_override"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
