"""What a step, and the user's functions that it calls, name outside themselves.

Only functions that really run count: they are seen as they are entered. What they name in globals,
closures and defaults is looked at, and in every object that is met so, the attributes that any of
them names. The state of Modules counts whole. Libraries are frozen, except for the attributes of
their objects. Nothing here runs the user's code.
"""

import gc
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import _lru_cache_wrapper, partial
from operator import attrgetter, methodcaller
from types import (
    AsyncGeneratorType,
    CellType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import Any, NamedTuple

import numpy as np

from ..nn.module import Module
from ..tensor import Tensor
from .guards import Elements, Guards
from .looking import (
    ABSENT,
    class_dict,
    comes_from,
    dict_getter,
    is_foreign,
    is_hidden,
    is_library,
    is_plain,
    module_of,
    mro,
    names_of,
    own,
    slot,
    slots,
    texts,
)

# Objects of these modules' classes only hold others, all of which count ...
_HOLDERS = frozenset(["builtins", "collections", "functools", "operator", "_operator"])
# ... but for those that change as they are used, or that lead to everything.
_CLOSED = (
    AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType, TracebackType,
    _lru_cache_wrapper,
)  # fmt: skip

# What is found anew in each thread, context or call.
_ANEW: dict[Any, Callable[[Any], Any]] = {
    ContextVar: lambda variable: ContextVar.get(variable, ABSENT),
    weakref.ref: weakref.ref.__call__,
}


class Place(NamedTuple):
    """Where a Tensor was met: its name, and what holds it, at a key."""

    name: str
    owner: Any
    key: Any
    tensor: Tensor


class Watched:
    """What is outside, as it is when it is met; `guards` tells whether it is still so.

    roots: the step, and the objects among its arguments, by name; know: is told the name of each
    Tensor that is met.
    """

    def __init__(
        self, roots: Mapping[str, Any], know: Callable[[str, Tensor], None] = lambda *_: None
    ) -> None:
        self.guards = Guards()
        self.places: list[Place] = []
        self.elements = Elements()
        # What may hold Tensors, and the keys and values that it held.
        self.owners: dict[int, tuple[Any, list[tuple[Any, Any]]]] = {}
        self._roots, self._know = dict(roots), know
        self._names = {"__wrapped__"}
        self._lookers: list[Callable[[set[str]], None]] = []  # look for more names in an object
        self._codes: dict[int, CodeType] = {}
        self._runs: list[tuple[CodeType, dict[str, Any]]] = []
        self._inner: set[int] = set()  # code of functions that are made by those that run
        self._functions: dict[int, list[FunctionType]] = {}  # by the identity of their code
        self._met: dict[Any, Any] = {}  # by identity; kept, so that no other object gets it
        self._queue: deque[tuple[Any, str, Any, Any]] = deque()
        self._later: deque[tuple[Any, str, Any, Any]] = deque()  # what may have a better name
        for name, x in roots.items():
            self.meet(x, name)

    @contextmanager
    def following(self) -> Iterator[None]:
        """The user's functions that this thread enters inside are watched before they run."""
        before = sys.getprofile()

        def entered(frame: FrameType, event: Any, arg: Any) -> None:
            if event == "call" and id(frame.f_code) not in self._codes:
                self._enter(frame.f_code, frame.f_globals)
            if callable(before):
                before(frame, event, arg)

        sys.setprofile(entered)
        try:
            yield
        finally:
            if before is None or callable(before):
                sys.setprofile(before)
            else:
                before.enable()  # cProfile's, below Python 3.12

    def meet(self, x: Any, name: str) -> None:
        """Watch an object that the step is given or calls."""
        if id(x) not in self._met:
            self._roots[name] = x
        self._queue.append((x, name, None, None))
        self._drain()

    def call(self, module: Module) -> None:
        """Watch a Module that is called."""
        if id(module) not in self._met:
            self.meet(module, f"module_{len(self._roots)}")

    def again(self) -> "Watched":
        """The same, as it is now."""
        now = Watched(self._roots)
        for code, space in self._runs:
            now._enter(code, space)
        return now

    def _drain(self) -> None:
        while self._queue or self._later:
            self._visit(*(self._queue or self._later).popleft())

    # --- functions and names -------------------------------------------------------------------

    def _enter(self, code: CodeType, space: dict[str, Any]) -> None:
        """A function is about to run for the first time."""
        self._codes[id(code)] = code
        made = str(space.get("__name__")).startswith("namedtuple_")  # by the standard library
        if made or is_library(code.co_filename):
            return
        self._runs.append((code, space))
        self._inner.update(id(x) for x in code.co_consts if type(x) is CodeType)
        outside, attributes = names_of(code)
        self.owners.setdefault(id(space), (space, list(dict.items(space))))
        for name in sorted(outside):
            self._value(space, name, name)
        for name in sorted(outside | attributes):  # of modules that it imports itself
            if comes_from(sys.modules.get(name), ModuleType):
                self._queue.append((sys.modules[name], name, None, None))
        self._learn(attributes)
        if code.co_freevars and id(code) not in self._functions and id(code) not in self._inner:
            for function in gc.get_referrers(code):
                if type(function) is FunctionType:
                    self._queue.append((function, function.__name__, None, None))
        for function in self._functions.get(id(code), ()):
            self._run(function)
        self._drain()

    def _run(self, function: FunctionType) -> None:
        """A function that runs: what it finds by itself."""
        self.guards.whole(function)
        names = function.__code__.co_freevars
        for name, cell in zip(names, function.__closure__ or (), strict=True):
            self.guards.whole(cell)
            for key, content in _content(cell):
                self._queue.append((content, name, cell, key))
            self.owners.setdefault(id(cell), (cell, _content(cell)))
        for defaults in (function.__defaults__, function.__kwdefaults__):
            self._queue.append((defaults, f"{function.__name__}.default", None, None))

    def _learn(self, names: set[str]) -> None:
        """Look for more names in all objects."""
        new = names - self._names
        self._names |= new
        for look in list(self._lookers):
            look(new)

    def _space(self, space: dict[str, Any], name: str, kind: str = "object") -> None:
        """Watch the named items of a dict that holds attributes of an object, class or Module."""
        if ("space", id(space)) in self._met:
            return
        self._met["space", id(space)] = space
        if kind != "class":  # whose dict must not be written to
            self.owners[id(space)] = space, list(dict.items(space))
        if kind != "module":  # of which all counts
            self.guards.names(space)

        def look(names: set[str]) -> None:
            for found in sorted(found for found in names if found in space):
                if kind != "module":
                    self._value(space, found, f"{name}.{found}")
                else:
                    self._queue.append((space[found], f"{name}.{found}", space, found))

        self._lookers.append(look)
        look(self._names)

    def _value(self, space: dict[str, Any], key: str, name: str) -> None:
        if (id(space), key) not in self._met:
            self._met[id(space), key] = space
            self._queue.append((self.guards.value(space, key), name, space, key))

    def _slots(self, x: Any, name: str) -> None:
        """Watch the named slots of an object."""
        members = slots(x)
        self.owners[id(x)] = x, [(member, slot(member, x)) for member in members.values()]

        def look(names: set[str]) -> None:
            for found in sorted(names & members.keys()):
                value = self.guards.look(partial(slot, members[found]), x)
                self._queue.append((value, f"{name}.{found}", x, members[found]))

        self._lookers.append(look)
        look(self._names)

    # --- objects -------------------------------------------------------------------------------

    def _visit(self, x: Any, name: str, owner: Any, key: Any) -> None:
        if is_plain(x) or x is ABSENT or comes_from(x, np.generic):
            return
        if comes_from(x, np.ndarray):
            self.elements.note(x)
        elif comes_from(x, Tensor):
            self.places.append(Place(name, owner, key, x))
            self._know(name, x)
        elif type(x) is tuple:  # its parts are where it is
            for i, part in enumerate(x):
                self._visit(part, f"{name}[{i}]", owner, key)
        elif id(x) not in self._met:
            self._met[id(x)] = x
            self._object(x, name)

    def _object(self, x: Any, name: str) -> None:
        kind = type(x)
        module = module_of(kind)
        foreign = is_foreign(module)
        if comes_from(x, ModuleType):
            if not is_foreign(own(x).get("__name__")):
                self._space(own(x), name)
        elif comes_from(x, type):
            self._class(x, name)
        elif kind is FunctionType:
            self._space(own(x), name)
            self._functions.setdefault(id(x.__code__), []).append(x)
            if id(x.__code__) in self._codes and not is_library(x.__code__.co_filename):
                self._run(x)
        elif comes_from(x, Module):
            self._module(x, name)
        elif comes_from(x, threading.local):
            self._local(x, name)
        elif foreign and kind in _ANEW:
            found = self.guards.look(_ANEW[kind], x)
            self.owners[id(x)] = x, [(None, found)]
            self._queue.append((found, name, x, None))
        else:
            if comes_from(x, dict) and (
                dict.__contains__(x, "__builtins__") or (foreign and module not in _HOLDERS)
            ):
                self._space(x, name)
            elif _is_holder(x):
                self._holder(x, name)
            if not foreign or module not in _HOLDERS:
                self._attributes(x, name)
            if not foreign:
                self._class(kind, name)

    def _holder(self, x: Any, name: str) -> None:
        """Watch all that an object refers to, such as a container, a method or a property."""
        self.guards.whole(x)
        if type(x) is attrgetter or type(x) is methodcaller:
            self._learn(texts(tuple(gc.get_referents(x))))
        base = next((kind for kind in (dict, list, deque) if comes_from(x, kind)), None)
        if base is not None:
            held = list(dict.items(x) if base is dict else enumerate(base.__iter__(x)))
            self.owners[id(x)] = x, held
            if base is dict:
                self.guards.keys(x)
            for key, part in held:
                text = repr(key) if is_plain(key) else type(key).__name__
                self._queue.append((part, f"{name}[{text}]", x, key))
                self._queue.append((key, name, None, None))
        elif comes_from(x, partial):
            args, keywords = partial.args.__get__(x), partial.keywords.__get__(x)
            named = (*((f"arg{i}", part) for i, part in enumerate(args)), *keywords.items())
            for called, part in (*named, (name, keywords), (name, partial.func.__get__(x))):
                self._queue.append((part, called, None, None))
        elif type(x) is MethodType:
            self._queue.append((x.__self__, "self", None, None))
            self._queue.append((x.__func__, name, None, None))
        else:
            for part in gc.get_referents(x):
                self._queue.append((part, name, None, None))

    def _attributes(self, x: Any, name: str) -> None:
        """Watch the named attributes that an object has itself, and that these are all."""
        self.guards.look(type, x)
        getter = dict_getter(x)
        if getter is not None:
            space = self.guards.look(getter, x)
            self._space(space, name)
            self._parameters(space, name)
        elif is_hidden(x):
            self.guards.whole(x)
            for part in gc.get_referents(x):
                self._queue.append((part, name, None, None))
        self._slots(x, name)

    def _parameters(self, space: dict[str, Any], name: str) -> None:
        """Names for the parameters of an optimizer."""
        groups = space.get("param_groups")
        if type(groups) is list and all(comes_from(group, dict) for group in groups):
            found = (dict.get(group, "params") for group in groups)
            listed = [p for params in found if type(params) is list for p in params]
            for i, p in enumerate(listed):
                self._later.append((p, f"{name}.{i}", None, None))

    def _module(self, x: Module, name: str) -> None:
        """Watch all that a Module holds itself."""
        space = own(x)
        self.guards.whole(x)
        self.guards.whole(space)
        self.guards.names(space)
        for called, found in space.items():
            if comes_from(found, Tensor, Module):
                self._queue.append((found, f"{name}.{called}", space, called))
        self._space(space, name, "module")
        self._class(type(x), name)

    def _class(self, x: type, name: str) -> None:
        """Watch the named attributes of a class, of those above it, and of their metaclass."""
        for kind in mro(x):
            if ("class", id(kind)) not in self._met and not is_foreign(module_of(kind)):
                self._met["class", id(kind)] = kind
                self.guards.whole(kind)
                self._space(class_dict(kind), name, "class")
                self._class(type(kind), name)

    def _local(self, x: Any, name: str) -> None:
        """Watch what the calling thread has there."""
        space = _of_thread(x)
        self.owners[id(space)] = space, list(dict.items(space))
        self.guards.look(lambda local: len(_of_thread(local)), x)
        for key in space:
            found = self.guards.look(partial(_item_of_thread, key), x)
            self._queue.append((found, f"{name}.{key}", space, key))
        self._class(type(x), name)


def _of_thread(x: threading.local) -> dict[str, Any]:
    """The attributes that a threading.local has in the calling thread."""
    return threading.local.__getattribute__(x, "__dict__")  # type: ignore[no-any-return]


def _item_of_thread(key: str, x: threading.local) -> Any:
    return _of_thread(x).get(key, ABSENT)


def _is_holder(x: Any) -> bool:
    """Whether the class of an object is, or comes from, one that only holds others."""
    named = (module_of(kind) for kind in mro(type(x)) if kind is not object)
    return not comes_from(x, *_CLOSED) and any(name in _HOLDERS for name in named)


def _content(cell: CellType) -> list[tuple[str, Any]]:
    """What a cell holds, if it is bound."""
    return [("cell_contents", content) for content in gc.get_referents(cell)]
