"""These functions look into objects without running the user's code, and recognise libraries.

They call no `__getattr__`, property, `__eq__`, `__iter__` or `__class__` of an object.
"""

import builtins
import dis
import gc
import os
import sys
import sysconfig
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    GetSetDescriptorType,
    MemberDescriptorType,
    ModuleType,
)
from typing import Any, Final, TypeAlias

ABSENT: Final = object()  # stands for a missing value
# The attributes of an object or class by name: a dict, or a read-only view of one. The type is Any,
# since only some functions of a dict run none of the user's code.
Space: TypeAlias = Any
_PLAIN = (bool, int, float, complex, str, bytes, type(None))

# The getters of `type` itself, which no metaclass can replace.
mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
module_of: Callable[[type], object] = type.__dict__["__module__"].__get__
class_dict: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__

_LIBRARIES = tuple(
    str(place) + os.sep
    for place in (
        Path(__file__).parents[2],
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
    )
)


# Instructions that compare an exception with the class after `except`.
_CATCHING = {"CHECK_EXC_MATCH", "CHECK_EG_MATCH", "JUMP_IF_NOT_EXC_MATCH"}
_LOOKUPS = ("__getattribute__", "__dict__")  # a class that defines these may hide its `__dict__`


def comes_from(x: object, *kinds: type) -> bool:
    """Return whether type(x) derives from one of the kinds, whatever `x.__class__` says."""
    return issubclass(type(x), kinds)


def is_plain(x: object) -> bool:
    """Return whether x is None, or a number, str or bytes of exactly a built-in class."""
    return any(type(x) is kind for kind in _PLAIN)


@cache
def is_library(file: str) -> bool:
    """Return whether a source file belongs to minigrad, the standard library or a package."""
    parts = PurePath(file).parts
    installed = "site-packages" in parts or "dist-packages" in parts
    return installed or file.startswith(("<frozen ", "<__array_function__", *_LIBRARIES))


def builtins_of(space: Space) -> Space:
    """Return the dict in which functions with these globals look up names that are not global."""
    found = dict.get(space, "__builtins__", builtins)
    return vars(found) if type(found) is ModuleType else found


def is_builtin(name: str, x: object) -> bool:
    """Return whether x is the function or class that Python itself has under this name."""
    if type(x) is BuiltinFunctionType:
        return x.__self__ is builtins and x.__name__ == name
    return type(x) is type and module_of(x) == "builtins" and x.__name__ == name


def is_foreign(name: object) -> bool:
    """Return whether the module of this name belongs to a library.

    The package of a module without a file decides for the module.
    """
    while isinstance(name, str) and name:
        if name in sys.builtin_module_names:
            return True
        module = sys.modules.get(name)
        found = own(module) if comes_from(module, ModuleType) else None
        file = None if found is None else found.get("__file__")
        if type(file) is str:
            return is_library(file)
        name = name.rpartition(".")[0]
    return False


def dict_getter(x: object) -> Any:
    """Return the function that returns the true `__dict__` of x, or None if x has none.

    The `__dict__` of a threading.local is that of the calling thread.
    """
    if comes_from(x, threading.local):
        return _thread_dict
    for kind in mro(type(x)):
        getter: Any = class_dict(kind).get("__dict__")
        if type(getter) in (GetSetDescriptorType, MemberDescriptorType):
            return getter.__get__
    return None


def _thread_dict(x: threading.local) -> Space:
    return threading.local.__getattribute__(x, "__dict__")


def dict_code(x: object) -> str:
    """Return the expression that reads the true `__dict__` of x; {0} is x, and {1} its getter."""
    own = (class_dict(kind).get(name) for kind in mro(type(x))[:-1] for name in _LOOKUPS)
    standard = all(found is None or type(found) is GetSetDescriptorType for found in own)
    return "{0}.__dict__" if standard else "{1}({0})"


def own(x: object) -> Space:
    """Return the true `__dict__` of x, or None if it has none or hides it."""
    getter = dict_getter(x)
    return None if getter is None else getter(x)


def is_hidden(x: object) -> bool:
    """Return whether the class of x defines another `__dict__` and so hides the true one."""
    return dict_getter(x) is None and any("__dict__" in class_dict(k) for k in mro(type(x))[:-1])


def wrapped_by(x: object) -> list[object]:
    """Return what x wraps, from the outside to the inside, according to `__wrapped__`."""
    found: dict[int, object] = {}
    while id(x) not in found and (space := own(x)) and "__wrapped__" in space:
        found[id(x)] = x = space["__wrapped__"]
    return list(found.values())


def slots(x: object) -> dict[str, MemberDescriptorType]:
    """Return the slots of an object, by name."""
    return {
        name: member
        for kind in reversed(mro(type(x)))
        for name, member in class_dict(kind).items()
        if type(member) is MemberDescriptorType and not name.startswith("__")
    }


def is_iterator(x: object) -> bool:
    """Return whether x is a generator or an iterator of Python's own, whose position is hidden."""
    own_kind = module_of(type(x)) in ("builtins", "itertools")
    return own_kind and any("__next__" in class_dict(kind) for kind in mro(type(x)))


# By base class, a function that lists what an object holds, and that calls no method of a subclass;
# `object` is for all other classes.
PARTS: dict[type, Callable[[Any], tuple[object, ...]]] = {
    OrderedDict: lambda x: tuple(OrderedDict.values(x)),
    dict: lambda x: tuple(dict.values(x)),
    list: lambda x: tuple(list.__iter__(x)),
    deque: lambda x: tuple(deque.__iter__(x)),
    object: lambda x: tuple(gc.get_referents(x)),
}


def keys_of(x: dict[object, object]) -> tuple[object, ...]:
    """Return the keys of a dict."""
    return tuple((OrderedDict if comes_from(x, OrderedDict) else dict).keys(x))


def names_of(code: CodeType) -> tuple[set[str], set[str]]:
    """Return the names that code looks up in its globals, and the names that may be attributes.

    Possible attributes include the name of the code itself, and names in its string constants,
    which the code may pass to getattr.
    """
    outside: set[str] = set()
    attributes = {code.co_name, *texts(code.co_consts)}
    for instruction in dis.get_instructions(code):
        if instruction.opcode in dis.hasname:
            how = instruction.opname
            is_outside = "_GLOBAL" in how or how.endswith("_NAME")
            (outside if is_outside else attributes).add(instruction.argval)
        elif instruction.opname == "MATCH_CLASS":
            attributes.add("__match_args__")
    if "globals" in outside:
        outside |= texts(code.co_consts)
    return outside, attributes


def catches(code: CodeType) -> bool:
    """Return whether code catches exceptions, by `except` or contextlib.suppress."""
    names = [instruction.opname for instruction in dis.get_instructions(code)]
    bare = ("PUSH_EXC_INFO", "POP_TOP") in pairwise(names)  # since Python 3.11
    return bare or not _CATCHING.isdisjoint(names) or "suppress" in code.co_names


def texts(x: object) -> set[str]:
    """Return the identifiers, between dots, in a str or in a tuple or frozenset of str."""
    if type(x) is tuple or type(x) is frozenset:
        return set().union(*map(texts, x))
    return {part for part in x.split(".") if part.isidentifier()} if type(x) is str else set()
