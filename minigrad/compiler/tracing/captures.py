"""Captures are what a step, and the user's functions that it calls, name outside themselves.

Functions that do not run are ignored; a profile function sees the others as they are entered.
Guards cover what these name in globals, closures and defaults. In every object found in this way,
guards also cover the attributes that one of the functions names, the items of containers, and all
that a Module holds. Libraries are frozen, except for the attributes of their objects. This module
runs none of the user's code.
"""

import gc
import sys
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import _lru_cache_wrapper, partial
from types import (
    CodeType,
    FrameType,
    FunctionType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np

from ...engine.tensor import Tensor
from ...errors import TraceError
from ...nn.module import Module
from ...types import Array
from ..ir.live_numbers import LiveNumber, Number, is_number
from .guards import CELL, OF, SLOT, TYPE, Guards
from .inspection import (
    ABSENT,
    PARTS,
    Space,
    builtins_of,
    catches,
    class_dict,
    comes_from,
    dict_code,
    dict_getter,
    is_builtin,
    is_foreign,
    is_hidden,
    is_iterator,
    is_library,
    is_plain,
    keys_of,
    module_of,
    mro,
    names_of,
    own,
    slots,
    texts,
    wrapped_by,
)
from .kinds import (
    HOLDERS,
    REFERENT,
    dtype_of,
    is_buffer,
    is_holder,
    is_proxy,
    is_scalar,
    items_of,
    leads_away,
)
from .locations import ITEMS, Identity, Location, Others

_nbytes: Callable[[Array], int] = np.ndarray.nbytes.__get__
MOST_BYTES = 1 << 13  # the largest array whose elements are guarded


class Captures:
    """Captures finds what the step reads outside itself; `guards` tells whether it is unchanged.

    roots: the step, and the objects among its arguments, by name; name_tensor: called with the
        name of each Tensor that is found, and the Tensor; meet_number: called with the location of
        each number, before the step reads it.
    """

    def __init__(
        self,
        roots: Mapping[str, object],
        name_tensor: Callable[[str, Tensor], None] = lambda *_: None,
        meet_number: Callable[[Location, Number], None] = lambda *_: None,
    ) -> None:
        self.guards = Guards()
        self.bound = Guards()  # for what changes only together with `bindings` of the tape
        self.tensors: list[tuple[Location, Tensor]] = []
        self.arrays: dict[int, tuple[Array, int | None]] = {}  # with checksums of small ones
        # The first object found, by identity of its location.
        self.originals: dict[Identity, object] = {}
        self.live: list[tuple[Location, LiveNumber]] = []  # live numbers that the step has left
        self.tells_apart = False  # whether a function may tell a live number from a number
        self._roots, self._name_tensor = dict(roots), name_tensor
        self._meet_number = meet_number
        self._read: set[int] = set()  # the defaults of functions, which have been read already
        # For each list or dict that has items without a guard: what returns the other items.
        self._others: dict[int, Others] = {}
        # Libraries read these attributes of functions that they wrap, and of masked arrays.
        self._names = {"__wrapped__", "registry", "_mask"}
        # For each object with attributes: the names, and a function that captures one of them.
        self._namespaces: list[tuple[Iterable[str], Callable[[str], None]]] = []
        # The code and globals of all functions that run, and those of the user's in order.
        self._entered: dict[tuple[int, int], tuple[CodeType, Space]] = {}
        self._runs: list[tuple[CodeType, Space]] = []
        self._inner: set[int] = set()  # code of functions that a running function defines
        self._functions: dict[int, list[FunctionType]] = {}  # by the identity of their code
        self._met: dict[int | tuple[str, int], object] = {}  # kept alive
        self._queue: deque[tuple[object, Location]] = deque()
        for name, x in roots.items():
            self.meet(x, name)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Inside this context, capture what each of the user's functions names before it runs."""
        before = sys.getprofile()

        def entered(frame: FrameType, event: Any, arg: object) -> None:
            if event == "call":
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

    def meet(self, x: object, name: str) -> None:
        """Capture an object that is an argument of the step, or that the step calls."""
        if type(x) is LiveNumber:
            return
        if id(x) not in self._met:
            self._roots[name] = x
        self._add(x, name)
        self._drain()

    def call(self, module: Module) -> None:
        """Capture a Module that is called."""
        if id(module) not in self._met:
            self.meet(module, f"module_{len(self._roots)}")

    def again(self) -> "Captures":
        """Return new Captures, made now from the same roots and functions."""
        now = Captures(self._roots)
        for code, space in self._runs:
            now._enter(code, space)
        return now

    def elements(self, is_operand: Callable[[Array], bool]) -> list[Callable[[], bool]]:
        """Return functions that tell whether small arrays, which Python may read, are unchanged.

        Arrays that are operands are left out, since each call reads them.
        """
        return [
            partial(_has_checksum, array, seen)
            for array, seen in self.arrays.values()
            if seen is not None and not is_operand(array)
        ]

    def release(self, location: Location) -> tuple[str, tuple[object, ...]]:
        """Drop the guards of a number, and return the expression, with its objects, that reads it.

        The guard of a list or dict then ignores its item at this position.
        """
        reading = location.reading
        assert reading is not None
        owner: Any = location.owner
        for guards in (self.guards, self.bound):
            guards.drop(reading[0], *reading[1])
        if location.position >= 0:
            others = self._others.get(id(owner)) or Others(PARTS[type(owner)], frozenset())
            self.guards.drop(OF, owner, others if others.without else others.parts)
            others = Others(others.parts, others.without | {location.position})
            self._others[id(owner)] = others
            self.guards.read(OF, owner, others, each=True)
        return reading

    def _add(
        self,
        x: object,
        name: str,
        owner: object = None,
        key: object = None,
        position: int = -1,
    ) -> None:
        location = Location(name, owner, key, position)
        self.originals.setdefault(location.identity, x)
        self._queue.append((x, location))

    def _drain(self) -> None:
        while self._queue:
            x, location = self._queue.popleft()
            if is_number(x) and location.reading and id(location.owner) not in self._read:
                self._meet_number(location, x)
            self._visit(x, location)

    # --- functions and names -------------------------------------------------------------------

    def _enter(self, code: CodeType, space: Space) -> None:
        """Capture what a function names, before it runs for the first time."""
        key = id(code), id(space)
        if key in self._entered:
            return
        self._entered[key] = code, space
        made = str(space.get("__name__")).startswith("namedtuple_")  # made by namedtuple
        if made or is_library(code.co_filename):
            return
        self._runs.append((code, space))
        self._inner.update(id(x) for x in code.co_consts if type(x) is CodeType)
        outside, attributes = names_of(code)
        self.tells_apart = self.tells_apart or "type" in outside or catches(code)
        for name in sorted(outside):
            self._global(space, name)
        for name in sorted(outside | attributes):  # modules that the function may import itself
            if comes_from(sys.modules.get(name), ModuleType):
                self._add(sys.modules[name], name)
        self._add_names(attributes)
        if code.co_freevars and id(code) not in self._functions and id(code) not in self._inner:
            for function in gc.get_referrers(code):
                if type(function) is FunctionType:
                    self._add(function, function.__name__)
        for function in self._functions.get(id(code), ()):
            self._run(function)
        self._drain()

    def _global(self, space: Space, name: str) -> None:
        """Capture what a function finds under a name in its globals or else in `builtins`."""
        found = self.guards.item(space, name)
        if found is ABSENT:
            below = builtins_of(space)
            if not is_builtin(name, below.get(name, ABSENT)):
                space, found = below, self.guards.item(below, name)
        self._add(found, name, space, name)

    def _run(self, function: FunctionType) -> None:
        """Capture the closure and defaults of a function that runs."""
        self.guards.read("{0}.__code__", function)
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            self._add(self.guards.read(CELL, cell), name, cell, "cell_contents")
        defaults = (function.__defaults__, function.__kwdefaults__)
        for code, found in zip(("{0}.__defaults__", "{0}.__kwdefaults__"), defaults, strict=True):
            self._read.add(id(found))
            if found is not None:  # otherwise each call gives all arguments
                self._add(self.guards.read(code, function), f"{function.__name__}.default")

    def _add_names(self, names: set[str]) -> None:
        """Capture the attributes of these names in all objects, also in objects found later."""
        new = names - self._names
        self._names |= new
        for there, read in list(self._namespaces):
            for name in sorted(new.intersection(there)):
                read(name)

    def _namespace(self, there: Iterable[str], read: Callable[[str], None]) -> None:
        """Capture the attributes of an object whose names a function uses, now or later.

        there: the names of all its attributes; read: captures the attribute of a name.
        """
        self._namespaces.append((there, read))
        for name in sorted(self._names.intersection(there)):
            read(name)

    def _dict_items(
        self, space: Space, name: str, owner: object, guards: Guards, order: Guards | None = None
    ) -> None:
        """Capture the named items of a dict that holds the attributes of an object or class.

        guards: the Guards of the items; order: the Guards of the keys and their order (None: the
            same).
        """
        (guards if order is None else order).names(space)
        self._namespace(
            space, lambda key: self._add(guards.item(space, key), f"{name}.{key}", owner, key)
        )

    # --- objects -------------------------------------------------------------------------------

    def _visit(self, x: Any, location: Location) -> None:
        if is_plain(x) or x is ABSENT or is_scalar(x):
            return
        if type(x) is LiveNumber:
            self.live.append((location, x))
            return
        if type(x) is tuple:  # its parts have the location of the tuple
            for i, part in enumerate(x):
                self._visit(part, location._replace(name=f"{location.name}[{i}]"))
            return
        elements = comes_from(x, np.ndarray) and not dtype_of(x).hasobject
        if elements:
            small = _nbytes(x) <= MOST_BYTES
            self.arrays.setdefault(id(x), (x, _checksum(x) if small else None))
        elif comes_from(x, Tensor):
            self.tensors.append((location, x))
            self._name_tensor(location.name, x)
            self.bound.read("{0}._requires_grad", x)
            self.bound.read("{0}._data.dtype", x)
        # Arrays and Tensors of these classes have no attributes that a user sets.
        bare = (elements or comes_from(x, Tensor)) and dict_getter(x) is None
        if id(x) not in self._met and not (bare and is_foreign(module_of(type(x)))):
            self._met[id(x)] = x
            self._object(x, location.name)

    def _object(self, x: Any, name: str) -> None:
        if is_proxy(x):
            self._add(self.guards.read("{1} + {0}", x, REFERENT), name)
            return
        kind, module = type(x), module_of(type(x))
        library = is_foreign(module)
        if is_iterator(x):
            raise TraceError(
                f"compile: {name}, a {kind.__name__}, would advance in the first call alone, since "
                "the step is traced once; take its items outside it, and pass them as arguments"
            )
        if leads_away(x):
            raise TraceError(
                f"compile: {name}, a {kind.__name__}, leads to memory whose changes the next calls "
                "would not notice; read it outside the step, and pass what it holds as an argument"
            )
        if comes_from(x, ModuleType):
            if not is_foreign(own(x).get("__name__")):
                self._dict_items(own(x), name, own(x), self.guards)
        elif comes_from(x, type):
            self._class(x, name)
        elif kind is FunctionType:
            if own(x) or not is_library(x.__code__.co_filename):
                self._dict_items(own(x), name, own(x), self.guards)
            self._functions.setdefault(id(x.__code__), []).append(x)
            runs = (id(x.__code__), id(x.__globals__)) in self._entered
            if runs and not is_library(x.__code__.co_filename):
                self._run(x)
        elif kind is _lru_cache_wrapper:
            # A cache that has the result calls nothing, but may be without it in the next call.
            self._attributes(x, name)
            for function in wrapped_by(x):
                if type(function) is FunctionType:
                    self._enter(function.__code__, function.__globals__)
        elif kind is ContextVar:
            self._add(self.guards.read("{0}.get({1})", x, ABSENT), name, x)
        elif kind is memoryview:
            self._add(self.guards.read("{0}.obj", x), name)
        else:
            if comes_from(x, weakref.ref):
                self._add(self.guards.read(OF, x, weakref.ref.__call__), name)
            holder = library and module in HOLDERS
            if not holder:
                self._attributes(x, name)  # first, since a `__dict__` that is looked at is a part
            if comes_from(x, np.ndarray) and dtype_of(x).hasobject:
                for part in self.guards.read(OF, x, items_of, each=True):
                    self._add(part, name)
            elif is_buffer(x):
                self.guards.read("(bytes(memoryview({0})) == {1})", x, bytes(memoryview(x)))
            elif comes_from(x, dict) and (
                dict.__contains__(x, "__builtins__") or (library and not holder)
            ):
                self._dict_items(x, name, x, self.guards)
            elif is_holder(x):
                self._parts(x, name)

    def _parts(self, x: object, name: str) -> None:
        """Capture all objects that a container, method or property refers to."""
        base = next((kind for kind in PARTS if comes_from(x, kind)), object)
        parts = self.guards.read(OF, x, PARTS[base], each=True)
        if issubclass(base, dict):
            keys = self.guards.read(OF, x, keys_of, each=True)
            for i, (key, part) in enumerate(zip(keys, parts, strict=True)):
                text = repr(key) if is_plain(key) else type(key).__name__
                self._add(part, f"{name}[{text}]", x, key, i)
                self._add(key, name)
        elif base is list or base is deque:
            self.originals[id(x), id(ITEMS)] = parts
            for i, part in enumerate(parts):
                self._add(part, f"{name}[{i}]", x, ITEMS, i)
        else:
            self._add_names(texts(parts))  # an attrgetter, for example, has names
            for part in parts:
                bound = type(x) is MethodType and part is x.__self__
                self._add(part, "self" if bound else name)

    def _attributes(self, x: object, name: str) -> None:
        """Capture the named attributes of an object and its class, and all that a Module holds."""
        module = comes_from(x, Module)
        # A layer of a library changes by assignments only, which Module notes in `bindings`.
        guards = self.bound if module and is_foreign(module_of(type(x))) else self.guards
        guards.read(TYPE, x)
        getter = dict_getter(x)
        if getter is not None:
            space = guards.read(dict_code(x), x, getter)
            self._dict_items(space, name, space, guards, self.bound if module else guards)
            if module:
                guards.read("len({0})", space)
                for key, value in dict.items(space):
                    guards.item(space, key)
                    self.originals[Location(name, space, key).identity] = value
                    if comes_from(value, Tensor, Module) or is_number(value):
                        self._add(value, f"{name}.{key}", space, key)
        elif is_hidden(x):
            self._parts(x, name)
        members = slots(x)
        self._namespace(
            members,
            lambda key: self._add(
                self.guards.read(SLOT, x, members[key]), f"{name}.{key}", x, members[key]
            ),
        )
        self._class(type(x), name)

    def _class(self, x: type, name: str) -> None:
        """Capture the named attributes of a class, of its bases, and of their metaclasses."""
        for kind in mro(x):
            if ("class", id(kind)) not in self._met:
                self._met["class", id(kind)] = kind
                self._positional(kind)
                if not is_foreign(module_of(kind)):
                    self.guards.read(OF, kind, mro)
                    self._dict_items(class_dict(kind), name, None, self.guards)  # read-only
                    self._class(type(kind), name)

    def _positional(self, kind: type) -> None:
        """Capture the attributes that stand for positions in patterns, once a function has some."""
        names = texts(class_dict(kind).get("__match_args__"))
        self._namespace(["__match_args__"], lambda _: self._add_names(names))


def _checksum(array: Array) -> int:
    return zlib.crc32(np.ndarray.tobytes(array))  # even if a subclass defines tobytes


def _has_checksum(array: Array, seen: int) -> bool:
    return _checksum(array) == seen
