"""What a traced function takes for constant, and whether it still is: the names, attributes and
items outside that the function, and the user's functions that it may call, can reach by name; and
the attributes of Modules."""

import functools
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..nn.module import Module
from ..tensor import Tensor
from .attributes import attributes, has_attributes

# Whose functions and objects are taken to be as they are.
FOREIGN = frozenset(["minigrad", "numba", "numpy", "scipy"])
NUMBERS = (bool, int, float, complex, str, bytes)
MOST = 64  # items of a list or dict that are watched
MOST_ITEMS = 1000  # and in all: what reaches further is a library

# Special methods that a step which is given an object does not call, and ways to attributes whose
# names are texts in the code.
MAKING = frozenset(["__init__", "__new__", "__init_subclass__", "__repr__", "__del__"])
BY_TEXT = frozenset(["getattr", "hasattr", "vars", "__dict__", "__getattribute__"])

ABSENT = object()  # in the place of a value, where there is none


class Place(NamedTuple):
    """Where a Tensor was met, as text and as an owner (an object, a cell, a dict or a list) with an
    attribute or a key; of a tuple's part, where the tuple is."""

    name: str
    owner: Any
    key: Any
    tensor: Tensor


class Watched:
    """Whether everything is as it was when this was made, but for the attributes of Modules.

    places, modules: the Tensors and the Modules that were met; owners: what was looked into.
    modules: as names and Modules, what else to look into.
    """

    def __init__(self, function: Any, modules: Mapping[str, Module]) -> None:
        # A function may hand on objects to others, so that each name counts for every object, and
        # brings more functions, with more names.
        self._names: set[str] = set()
        known = -1
        while known < len(self._names):
            known = len(self._names)
            self.places: list[Place] = []
            self.modules: list[Module] = []
            self.owners: list[Any] = []
            self._cells: list[tuple[Any, Any]] = []
            self._items: list[tuple[Any, Any, Any]] = []  # of a dict or list, at a key, a value
            self._sizes: list[tuple[Any, int]] = []
            self._met: set[Any] = set()
            self._kept: list[Any] = []  # so that no other object gets the identity of one
            self._follow(function)
            for name, module in modules.items():
                self._visit(module, name)

    def __len__(self) -> int:
        return len(self._cells) + len(self._sizes) + len(self._items)

    def __call__(self) -> bool:
        for cell, value in self._cells:
            now = content(cell)
            if now is not value and not same(now, value):
                return False
        for size in self._sizes:
            if len(size[0]) != size[1]:
                return False
        for items, key, value in self._items:
            try:
                now = items[key]
            except LookupError:
                now = ABSENT
            if now is not value and not same(now, value):
                return False
        return True

    def _follow(self, function: Any, owner: Any = None) -> None:
        """Watch what a function names, and what it is bound to."""
        while isinstance(function, functools.partial):
            for name, x in (*enumerate(function.args), *function.keywords.items()):
                self._visit(x, f"{name}", function, name)
            function = function.func
        owner = getattr(function, "__self__", owner)
        function = getattr(function, "__func__", function)
        if hasattr(function, "__wrapped__"):
            self._follow(function.__wrapped__, owner)
        if not isinstance(function, types.FunctionType):
            if not isinstance(function, type):  # an object that is called
                self._visit(function, "self")
            return
        self._visit(owner, "self")
        if is_foreign(function.__module__) or not self._is_new(function):
            return
        names = _names(function.__code__)
        self._names |= names
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):  # noqa: B905
            self._cells.append((cell, content(cell)))
            self.owners.append(cell)
            self._visit(content(cell), name, cell, "cell_contents")
        for x in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._visit(x, "default", function, "__defaults__")
        self._attributes(function.__globals__, names)
        self._attributes(vars(function), self._names, f"{function.__name__}.")
        for name in names:  # of modules that it imports itself
            if isinstance(sys.modules.get(name), types.ModuleType):
                self._visit(sys.modules[name], name)

    def _visit(self, x: Any, name: str, owner: Any = None, key: Any = None) -> None:
        """Watch what is in x, of that name and place: all items, or the attributes that functions
        name."""
        if x is None or isinstance(x, (*NUMBERS, np.ndarray, np.generic)):
            return
        if isinstance(x, Tensor):
            self.places.append(Place(name, owner, key, x))
        elif isinstance(x, tuple):
            for i, part in enumerate(x):
                self._visit(part, f"{name}[{i}]", owner, key)
            self._own(x, name)
        elif isinstance(x, (Mapping, list)):
            if self._is_new(x) and len(x) <= MOST:
                self.owners.append(x)
                self._sizes.append((x, len(x)))
                for part in x if isinstance(x, Mapping) else range(len(x)):
                    self._item(x, part, f"{name}[{part!r}]")
                self._own(x, name)
        elif isinstance(x, types.ModuleType):
            if not is_foreign(x.__name__) and self._is_new(x):
                self._attributes(vars(x), self._names, f"{name}.")
        elif isinstance(x, (types.FunctionType, types.MethodType, functools.partial)):
            self._follow(x)
        elif hasattr(x, "__wrapped__"):  # a function that is compiled, too
            self._follow(x.__wrapped__)
        elif isinstance(x, Module):
            if self._is_new(x):
                self.modules.append(x)
                for own, found in vars(x).items():
                    if isinstance(found, Tensor):
                        self.places.append(Place(f"{name}.{own}", x, own, found))
                self._object(x, "forward", name)
        elif has_attributes(x) and _package(x) not in FOREIGN and self._is_new(x):
            self._object(x, "__call__", name)

    def _own(self, x: Any, name: str) -> None:
        """Watch what a list, dict or tuple of a class of the user's has besides its items."""
        if not is_foreign(type(x).__module__) and ("own", id(x)) not in self._met:
            self._met.add(("own", id(x)))
            self._kept.append(x)
            self._object(x, "__call__", name)

    def _object(self, x: Any, call: str, called: str) -> None:
        """Watch an object, or a class: attributes, and what its methods name."""
        self.owners.append(x)
        kinds = x.__mro__ if isinstance(x, type) else (x, *type(x).__mro__)
        owners = [owner for owner in kinds if owner is x or not is_foreign(owner.__module__)]
        # Operators, len, with and the like call methods without naming them.
        special = {n for owner in owners if isinstance(owner, type) for n in _special(owner)}
        for name in sorted({*self._names, call, *special}):
            if not any(name in attributes(owner) for owner in owners):
                continue
            for owner in owners:  # all, as super() finds those behind
                found = attributes(owner).get(name, ABSENT)
                self._note(owner, name, found)
                if isinstance(found, property):
                    self._follow(found.fget, x)
                elif owner is x or isinstance(found, (type, Tensor, Mapping, list)):
                    self._visit(found, f"{called}.{name}", owner, name)
                else:
                    self._follow(found, x)

    def _note(self, owner: Any, name: str, value: Any) -> None:
        key = id(owner), name  # a class may be that of many objects
        # What Modules have of their own is for the guard of that name.
        if isinstance(owner, Module) or key in self._met or len(self._items) == MOST_ITEMS:
            return
        self._met.add(key)
        self._items.append((attributes(owner), name, value))

    def _attributes(self, found: Any, names: Iterable[str], of: str = "") -> None:
        self.owners.append(found)
        for name in sorted(names):
            if name in found:
                self._item(found, name, f"{of}{name}")

    def _item(self, items: Any, key: Any, name: str) -> None:
        if len(self._items) < MOST_ITEMS:
            self._items.append((items, key, items[key]))
            self._visit(items[key], name, items, key)

    def _is_new(self, x: Any) -> bool:
        if id(x) in self._met:
            return False
        self._met.add(id(x))
        self._kept.append(x)
        return True


def _names(code: types.CodeType) -> frozenset[str]:
    """Those that the code, and functions in it, look up outside, or as attributes."""
    names = set(code.co_names)
    by_text = not BY_TEXT.isdisjoint(names)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names |= _names(inner)
        elif isinstance(inner, str) and by_text:
            names.add(inner)
        elif isinstance(inner, tuple):  # as of `match`
            names |= {text for text in inner if isinstance(text, str)}
    return frozenset(names)


def _special(kind: type) -> Iterator[str]:
    """The special methods of a class, but for those of its making and its display."""
    for name, found in vars(kind).items():
        if name.startswith("__") and name not in MAKING and isinstance(found, types.FunctionType):
            yield name


def is_foreign(module: Any) -> bool:
    """Whether this is, by its name, a module of Python's or of those above."""
    top = str(module).partition(".")[0]
    return top in FOREIGN or (top in sys.stdlib_module_names and top != "__main__")


def _package(x: Any) -> str:
    kind = x if isinstance(x, type) else type(x)
    return kind.__module__.partition(".")[0]


def content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet bound
        return None


def same(a: Any, b: Any) -> bool:
    """Whether a step would take one for the other, unlike 1, 1.0 and True, or 0.0 and -0.0."""
    if type(a) is tuple is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    return a is b or (type(a) is type(b) and type(a) in NUMBERS and repr(a) == repr(b))
