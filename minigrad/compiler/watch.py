"""What a traced function takes for constant, and whether it still is: the names, attributes and
items outside that the function, and the user's functions that it may call, can reach by name; and
the attributes of Modules."""

import functools
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..nn.module import Module, edits
from ..tensor import Tensor

# Whose functions and objects are taken to be as they are.
FOREIGN = frozenset(["minigrad", "numba", "numpy", "scipy"])
NUMBERS = (bool, int, float, complex, str, bytes)
MOST = 64  # items of a list or dict that are watched
MOST_ITEMS = 1000  # and in all: what reaches further is a library


ABSENT = object()  # in the place of a value, where there is none


class Watched:
    """Whether everything is as it was when this was made, but for the attributes of Modules.

    tensors, modules: the Tensors and the Modules that were met.
    """

    def __init__(self, function: Any, modules: Iterable[Module]) -> None:
        modules = list(modules)
        # A function may hand on objects to others, so that each name counts for every object, and
        # brings more functions, with more names.
        self._names: set[str] = set()
        known = -1
        while known < len(self._names):
            known = len(self._names)
            self.tensors: list[Tensor] = []
            self.modules: list[Module] = []
            self._cells: list[tuple[Any, Any]] = []
            self._items: list[tuple[Any, Any, Any]] = []  # of a dict or list, at a key, a value
            self._sizes: list[tuple[Any, int]] = []
            self._met: set[Any] = set()
            self._kept: list[Any] = []  # so that no other object gets the identity of one
            self._follow(function)
            for module in modules:
                self._visit(module)

    def __len__(self) -> int:
        return len(self._cells) + len(self._sizes) + len(self._items)

    def __call__(self) -> bool:
        for cell, value in self._cells:
            now = _content(cell)
            if now is not value and not _same(now, value):
                return False
        for size in self._sizes:
            if len(size[0]) != size[1]:
                return False
        for items, key, value in self._items:
            try:
                now = items[key]
            except LookupError:
                now = ABSENT
            if now is not value and not _same(now, value):
                return False
        return True

    def _follow(self, function: Any, owner: Any = None) -> None:
        """Watch what a function names, and what it is bound to."""
        while isinstance(function, functools.partial):
            for x in (*function.args, *function.keywords.values()):
                self._visit(x)
            function = function.func
        owner = getattr(function, "__self__", owner)
        function = getattr(function, "__func__", function)
        if hasattr(function, "__wrapped__"):
            self._follow(function.__wrapped__, owner)
        if not isinstance(function, types.FunctionType):
            if not isinstance(function, type):  # an object that is called
                self._visit(function)
            return
        self._visit(owner)
        if _is_foreign(function.__module__) or not self._is_new(function):
            return
        names = _names(function.__code__)
        self._names |= names
        for cell in function.__closure__ or ():
            content = _content(cell)
            self._cells.append((cell, content))
            self._visit(content)
        for x in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._visit(x)
        self._attributes(function.__globals__, names)

    def _visit(self, x: Any) -> None:
        """Watch what is in x: all items, or the attributes that functions name."""
        if x is None or isinstance(x, (*NUMBERS, np.ndarray, np.generic)):
            return
        if isinstance(x, Tensor):
            self.tensors.append(x)
        elif isinstance(x, tuple):
            for part in x:
                self._visit(part)
        elif isinstance(x, (Mapping, list)):
            if self._is_new(x) and len(x) <= MOST:
                self._sizes.append((x, len(x)))
                for key in x if isinstance(x, Mapping) else range(len(x)):
                    self._item(x, key)
        elif isinstance(x, types.ModuleType):
            if not _is_foreign(x.__name__) and self._is_new(x):
                self._attributes(vars(x), self._names)
        elif isinstance(x, (types.FunctionType, types.MethodType, functools.partial)):
            self._follow(x)
        elif hasattr(x, "__wrapped__"):  # a function that is compiled, too
            self._follow(x.__wrapped__)
        elif isinstance(x, Module):
            if self._is_new(x):
                self.modules.append(x)
                self._object(x, "forward")
        elif hasattr(x, "__dict__") and _package(x) not in FOREIGN and self._is_new(x):
            self._object(x, "__call__")

    def _object(self, x: Any, call: str) -> None:
        """Watch an object, or a class: attributes, and what its methods name."""
        kinds = x.__mro__ if isinstance(x, type) else (x, *type(x).__mro__)
        owners = [owner for owner in kinds if owner is x or not _is_foreign(owner.__module__)]
        for name in sorted({*self._names, call}):
            if not any(name in vars(owner) for owner in owners):
                continue
            for owner in owners:  # all, as super() finds those behind
                found = vars(owner).get(name, ABSENT)
                self._note(owner, name, found)
                if isinstance(found, property):
                    self._follow(found.fget, x)
                elif owner is x or isinstance(found, type):
                    self._visit(found)
                else:
                    self._follow(found, x)

    def _note(self, owner: Any, name: str, value: Any) -> None:
        key = id(owner), name  # a class may be that of many objects
        # What Modules have of their own is for the guard of that name.
        if isinstance(owner, Module) or key in self._met or len(self._items) == MOST_ITEMS:
            return
        self._met.add(key)
        self._items.append((vars(owner), name, value))

    def _attributes(self, found: Any, names: Iterable[str]) -> None:
        for name in sorted(names):
            if name in found:
                self._item(found, name)

    def _item(self, items: Any, key: Any) -> None:
        if len(self._items) < MOST_ITEMS:
            self._items.append((items, key, items[key]))
            self._visit(items[key])

    def _is_new(self, x: Any) -> bool:
        if id(x) in self._met:
            return False
        self._met.add(id(x))
        self._kept.append(x)
        return True


def _names(code: types.CodeType) -> frozenset[str]:
    """Those that the code, and functions in it, look up outside, or as attributes."""
    names = set(code.co_names)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names |= _names(inner)
    return frozenset(names)


def _is_foreign(module: Any) -> bool:
    top = str(module).partition(".")[0]
    return top in FOREIGN or (top in sys.stdlib_module_names and top != "__main__")


def _package(x: Any) -> str:
    kind = x if isinstance(x, type) else type(x)
    return kind.__module__.partition(".")[0]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet bound
        return None


def _same(a: Any, b: Any) -> bool:
    """Whether a step would take one for the other, unlike 1, 1.0 and True, or 0.0 and -0.0."""
    if type(a) is tuple is type(b):
        return len(a) == len(b) and all(map(_same, a, b))
    return a is b or (type(a) is type(b) and type(a) in NUMBERS and repr(a) == repr(b))


class Together:
    """Whether Tensors that share an array still do; in a program they are one."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        first: dict[int, Tensor] = {}
        self._pairs = []
        for x in tensors:
            other = first.setdefault(id(x._data), x)
            if other is not x:
                self._pairs.append((x, other))

    def __len__(self) -> int:
        return len(self._pairs)

    def __call__(self) -> bool:
        return all(a._data is b._data for a, b in self._pairs)


class Modules:
    """Whether the attributes of modules, which a trace takes for constants, are as they were."""

    def __init__(self, modules: Iterable[Module]) -> None:
        self._modules = list(modules)
        self._count, self._seen = edits[0], self._attributes()

    def __len__(self) -> int:
        return len(self._modules)

    def __call__(self) -> bool:
        count = edits[0]
        if count != self._count:
            now, seen = self._attributes(), self._seen
            if len(now) != len(seen) or not all(map(_same, now, seen)):
                return False
            self._count = count
        return True

    def _attributes(self) -> list[Any]:
        """Names and values; the objects themselves, so that no other gets the identity of one."""
        return [x for module in self._modules for x in (*vars(module), *vars(module).values())]
