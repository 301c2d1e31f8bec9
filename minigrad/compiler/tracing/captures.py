"""Watching: find what a step, and the user's functions that it calls, name outside themselves.

Only functions that really run count; a profiler sees them as they are entered. Whatever they name
in globals, closures and defaults is guarded, and so are, in every object that is found in this way,
the attributes that any of these functions names. All state of a Module is guarded. Libraries are
frozen, except for the attributes of their objects. Nothing here runs the user's code.
"""

import gc
import sys
import threading
import weakref
from array import array
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

from ...engine.tensor import Tensor
from ...nn.module import Module
from .guards import Elements, Guards
from .inspection import (
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

# Classes of these modules only hold other objects, which are all guarded ...
_HOLDERS = frozenset(["builtins", "collections", "functools", "operator", "_operator"])
# ... except for these, which change as they are used, or lead to everything.
_CLOSED = (
    AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType, TracebackType,
    _lru_cache_wrapper,
)  # fmt: skip

# How to look up what these objects hold, which depends on the thread, context or call.
_ANEW: dict[Any, Callable[[Any], Any]] = {
    ContextVar: lambda variable: ContextVar.get(variable, ABSENT),
    weakref.ref: weakref.ref.__call__,
}


class Place(NamedTuple):
    """Where a Tensor was met: its name, the object that holds it, and the key there."""

    name: str
    owner: Any
    key: Any
    tensor: Tensor


class Watched:
    """What is outside the step, as it was when it was met; `guards` tells whether it still is.

    roots: the step, and the objects among its arguments, by name; know: called with the name of
        each Tensor that is met, and the Tensor.
    """

    def __init__(
        self, roots: Mapping[str, Any], know: Callable[[str, Tensor], None] = lambda *_: None
    ) -> None:
        self.guards = Guards()
        self.places: list[Place] = []
        self.elements = Elements()
        # Objects that may hold Tensors, with the keys and values that they held, by identity.
        self.owners: dict[int, tuple[Any, list[tuple[Any, Any]]]] = {}
        self._roots, self._know = dict(roots), know
        self._names = {"__wrapped__"}
        self._lookers: list[Callable[[set[str]], None]] = []  # each looks for names in one object
        self._codes: dict[int, CodeType] = {}
        self._runs: list[tuple[CodeType, dict[str, Any]]] = []
        self._inner: set[int] = set()  # code of functions that a running function makes
        self._functions: dict[int, list[FunctionType]] = {}  # by the identity of their code
        self._met: dict[Any, Any] = {}  # by identity, and kept alive so that it stays unique
        self._queue: deque[tuple[Any, str, Any, Any]] = deque()
        self._later: deque[tuple[Any, str, Any, Any]] = deque()  # visited last, under a poorer name
        for name, x in roots.items():
            self.meet(x, name)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Within, watch each of the user's functions before this thread runs it."""
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
                before.enable()  # a cProfile below Python 3.12

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
        """Watch the same once more, and return what is there now."""
        now = Watched(self._roots)
        for code, space in self._runs:
            now._enter(code, space)
        return now

    def _drain(self) -> None:
        while self._queue or self._later:
            self._visit(*(self._queue or self._later).popleft())

    # --- functions and names -------------------------------------------------------------------

    def _enter(self, code: CodeType, space: dict[str, Any]) -> None:
        """Watch what a function names that is about to run for the first time."""
        self._codes[id(code)] = code
        made = str(space.get("__name__")).startswith("namedtuple_")  # code of namedtuple's
        if made or is_library(code.co_filename):
            return
        self._runs.append((code, space))
        self._inner.update(id(x) for x in code.co_consts if type(x) is CodeType)
        outside, attributes = names_of(code)
        self.owners.setdefault(id(space), (space, list(dict.items(space))))
        for name in sorted(outside):
            self._value(space, name, name)
        for name in sorted(outside | attributes):  # modules that the function may import itself
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
        """Watch the closure and defaults of a function that runs."""
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
        """Look for these names in all objects, those that were met before included."""
        new = names - self._names
        self._names |= new
        for look in list(self._lookers):
            look(new)

    def _space(self, space: dict[str, Any], name: str, kind: str = "object") -> None:
        """Watch the named items of a dict that holds the attributes of an object, class or
        Module."""
        if ("space", id(space)) in self._met:
            return
        self._met["space", id(space)] = space
        if kind != "class":  # the dict of a class must not be written to
            self.owners[id(space)] = space, list(dict.items(space))
        if kind != "module":  # a Module is guarded as a whole
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
        elif comes_from(x, bytearray, array):
            self.guards.look(bytes, x)
        elif comes_from(x, Tensor):
            self.places.append(Place(name, owner, key, x))
            self._know(name, x)
        elif type(x) is tuple:  # the place of its parts is its own
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
        """Watch all that a container, method, property or the like refers to."""
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
        """Watch the named attributes of an object, and that it gets no others."""
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
        """Give names to the parameters of an optimizer."""
        groups = space.get("param_groups")
        if type(groups) is list and all(comes_from(group, dict) for group in groups):
            found = (dict.get(group, "params") for group in groups)
            listed = [p for params in found if type(params) is list for p in params]
            for i, p in enumerate(listed):
                self._later.append((p, f"{name}.{i}", None, None))

    def _module(self, x: Module, name: str) -> None:
        """Watch all attributes of a Module."""
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
        """Watch the named attributes of a class, of its bases, and of their metaclasses."""
        for kind in mro(x):
            if ("class", id(kind)) not in self._met and not is_foreign(module_of(kind)):
                self._met["class", id(kind)] = kind
                self.guards.whole(kind)
                self._space(class_dict(kind), name, "class")
                self._class(type(kind), name)

    def _local(self, x: Any, name: str) -> None:
        """Watch what the calling thread has in a threading.local."""
        space = _of_thread(x)
        self.owners[id(space)] = space, list(dict.items(space))
        self.guards.look(lambda local: len(_of_thread(local)), x)
        for key in space:
            found = self.guards.look(partial(_item_of_thread, key), x)
            self._queue.append((found, f"{name}.{key}", space, key))
        self._class(type(x), name)


def _of_thread(x: threading.local) -> dict[str, Any]:
    """Return the attributes that a threading.local has in the calling thread."""
    return threading.local.__getattribute__(x, "__dict__")  # type: ignore[no-any-return]


def _item_of_thread(key: str, x: threading.local) -> Any:
    return _of_thread(x).get(key, ABSENT)


def _is_holder(x: Any) -> bool:
    """Return whether x, by its class or a base of it, only holds other objects."""
    named = (module_of(kind) for kind in mro(type(x)) if kind is not object)
    return not comes_from(x, *_CLOSED) and any(name in _HOLDERS for name in named)


def _content(cell: CellType) -> list[tuple[str, Any]]:
    """Return what a cell holds, as its key and value, or nothing if it is unbound."""
    return [("cell_contents", content) for content in gc.get_referents(cell)]
