"""Where the arrays of a program are: the user's own, copies of those that do not lie in C order,
pieces of a block that all programs of a function share, or, of large results, new ones."""

import math
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import ref

import numpy as np

from ..errors import TraceError
from ..kernels.memory import SMALL, empty
from .emit import Emitted
from .layout import laid_out
from .program import Program, Value

LINE = 64  # bytes: arrays begin with a line of the cache
_BYTE = np.dtype(np.uint8)


class Workspace:
    """The memory that all programs of one function share, of which one runs at a time."""

    def __init__(self) -> None:
        self.block = empty((LINE,), _BYTE)
        self._gradients: dict[Any, tuple[Any, Any]] = {}  # by leaf, with a reference to it

    def reserve(self, size: int) -> None:
        """Make the block at least this many bytes, which may put it into another place."""
        if size + LINE > self.block.size:
            self.block = empty((size + LINE,), _BYTE)

    def gradient(self, leaf: Any, v: Value) -> Any:
        """The array that every program puts the gradient of this leaf into."""
        key = id(leaf), v.shape, v.dtype
        owner, array = self._gradients.get(key, (None, None))
        if owner is None or owner() is not leaf:
            array = empty(v.shape, v.dtype)
            self._gradients[key] = ref(leaf, lambda _: self._gradients.pop(key, None)), array
        return array


class Memory:
    """The arrays of all Values but arguments.

    places: their addresses, as generated code takes them; buffer_bytes: the size of its part of the
    block. Errors: TraceError for memory that a program cannot use.
    """

    def __init__(self, program: Program, emitted: Emitted, workspace: Workspace) -> None:
        self._program, self._aliases, self._workspace = program, emitted.aliases, workspace
        self._place_of = {v: i for i, v in enumerate(emitted.places)}
        self._written = {v for op in program.operations for v in op.changes}
        self._outer: dict[Value, Any] = {}  # the user's arrays
        self._arrays: dict[Value, Any] = {}
        # The user's arrays that generated code cannot take as they are, and their copies.
        self._copies: list[tuple[Value, Any, Any]] = []
        self.places = np.zeros(len(emitted.places), np.int64)
        outer = [(v, v.array) for v in program.values() if v.origin in ("state", "constant")]
        if found := self.overlap(outer):
            raise TraceError(
                f"compile: {found[0].name} and {found[1].name} share memory, and the step changes "
                "one of them in place; give each an array of its own"
            )
        self._put(outer)
        # Gradients are kept from call to call; those of a step that reads some are copied instead.
        self.reads_gradients = any(v.name.endswith(".grad") for v, _ in outer if v.fetch)
        kept = {v: leaf for leaf, v in program.grads if v is not None and v.origin == "result"}
        self._gradients: dict[Value, Any] = {}
        if not self.reads_gradients:
            self._gradients = {v: leaf for v, leaf in kept.items() if v in self._place_of}
            for v, leaf in self._gradients.items():
                self._set(v, workspace.gradient(leaf, v))
        # Results whose copy would cost more than a new array does.
        self._handed = [
            v
            for v in dict.fromkeys(program.results)
            if v.origin == "result" and math.prod(v.shape) >= SMALL
            if v in self._place_of and v not in kept
        ]
        self._lay_out(emitted)
        self.settle()

    def _lay_out(self, emitted: Emitted) -> None:
        """A piece of one block for each other result that has a place."""
        elsewhere = {*self._handed, *self._gradients}
        own = [v for v in emitted.places if v.origin == "result" and v not in elsewhere]
        sizes = [-(-v.dtype.itemsize * math.prod(v.shape) // LINE) * LINE for v in own]
        keep = set(map(emitted.aliases.root, self._program.wanted))
        spans = [emitted.lives[v] for v in own]
        lives = [
            (first, math.inf if v in keep else last)
            for v, (first, last) in zip(own, spans, strict=True)
        ]
        starts, self.buffer_bytes = laid_out(sizes, lives)
        self._pieces = list(zip(own, starts, strict=True))
        self._block: Any = None
        self._workspace.reserve(self.buffer_bytes)

    def settle(self) -> bool:
        """Take the block where it is now; whether it has moved since the last time."""
        block = self._workspace.block
        if block is self._block:
            return False
        self._block = block
        first = -_address(block) % LINE
        for v, start in self._pieces:
            count = v.dtype.itemsize * math.prod(v.shape)
            piece = block[first + start : first + start + count]
            self._set(v, piece.view(v.dtype).reshape(v.shape))
        self._note_owners()
        return True

    def begin(self) -> None:
        """New arrays for the results that a call hands over, and copies of what lies in another
        order. Errors: MemoryError."""
        for v in self._handed:
            self._set(v, empty(v.shape, v.dtype))
        for _, array, copy in self._copies:
            np.copyto(copy, array)

    def end(self) -> None:
        """What was handed over is the caller's now, and changed copies go back."""
        for v in self._handed:
            self._arrays.pop(v, None)
        for v, array, copy in self._copies:
            if v in self._written:
                np.copyto(array, copy)

    def _put(self, found: Iterable[tuple[Value, Any]]) -> None:
        """Use these arrays of the user's."""
        for v, array in found:
            self._outer[v] = array
            flags = array.flags
            if flags.c_contiguous and flags.aligned and array.dtype == v.dtype:
                self._set(v, array)
            else:
                self._set(v, np.empty(v.shape, v.dtype))
        self._copies = [
            (v, array, self._arrays[v])
            for v, array in self._outer.items()
            if self._arrays[v] is not array
        ]

    def _set(self, v: Value, array: Any) -> None:
        self._arrays[v] = array
        if v in self._place_of:
            self.places[self._place_of[v]] = _address(array)

    def hands_over(self, v: Value) -> bool:
        """Whether v has a new array in each call, which is then the caller's."""
        return v in self._handed

    def keeps_gradient(self, v: Value) -> bool:
        """Whether v is a gradient with an array of its own."""
        return v in self._gradients

    def outer(self, v: Value) -> Any:
        """The user's array that v stands for."""
        return self._outer[v]

    def find(self, v: Value) -> Any:
        """The array of v, or None for an argument, a view, or what has no memory."""
        return self._arrays.get(v)

    def array(self, v: Value, arguments: Sequence[Any]) -> Any:
        """Where the elements of v are, in a call with these arguments."""
        known = self._arrays.get(v)
        if known is not None:
            return known
        for argument, value in zip(arguments, self._program.arguments, strict=True):
            if value is v:
                return argument
        view = self._aliases.of.get(v)
        if view is None:  # nothing generated has read or made it
            self._arrays[v] = np.empty(v.shape, v.dtype)
            return self._arrays[v]
        base = self.array(view.inputs[0], arguments)
        return view.what.forward(base, **view.attributes)  # type: ignore[union-attr]

    def replace(self, found: Iterable[tuple[Value, Any]]) -> bool:
        """Use these arrays for these Values from now on; False, and nothing done, if one does not
        fit."""
        found = list(found)
        for v, now in found:
            fits = isinstance(now, np.ndarray) and now.shape == v.shape
            if not fits or now.dtype.newbyteorder("=") != v.dtype:
                return False
            if v in self._written and not now.flags.writeable:
                return False
        if self.overlap(found):
            return False
        self._put(found)
        self._note_owners()
        return True

    def overlap(self, arrays: Sequence[tuple[Value, Any]]) -> tuple[Value, Value] | None:
        """Two of these Values, of which one is changed in place, whose arrays share memory: what
        reads the other is in no order with the change."""
        for v, a in arrays:
            if v in self._written:
                for w, b in arrays:
                    if w is not v and np.may_share_memory(a, b):
                        return v, w
        return None

    # --- arguments -----------------------------------------------------------------------------

    def _note_owners(self) -> None:
        """Whose memory arguments must not be: looked at in each call, so by identity."""
        ours = [self._outer[v] for v in self._written]
        ours += [a for v, a in self._arrays.items() if v.origin == "result"]
        self._owners = {id(owner(a)): owner(a) for a in ours}

    def apart(self, arguments: list[Any]) -> list[Any]:
        """The arguments, copied where they are memory of the block, such as a gradient of the call
        before. Errors: TraceError for one that is memory which the step changes."""
        for i, a in enumerate(arguments):
            base = a.base
            if id(a if base is None else base) in self._owners:
                arguments = [*arguments]
                arguments[i] = self._copied(a)
        return arguments

    def _copied(self, a: Any) -> Any:
        for v in self._written:
            if np.may_share_memory(a, self._outer[v]):
                raise TraceError(
                    f"compile: an argument of shape {a.shape} is memory of {v.name}, which the "
                    "step changes in place; give it a copy, or let the step use it from outside"
                )
        return a.copy()


def owner(a: Any) -> Any:
    """The array that has the memory of this one, as NumPy tells it."""
    return a if a.base is None else a.base


def _address(a: Any) -> int:
    address: int = a.__array_interface__["data"][0]
    return address
