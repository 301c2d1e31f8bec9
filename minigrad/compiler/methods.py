"""Where the compiled methods of an object are kept: in the object, so that they go when it goes."""

from typing import Any

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
