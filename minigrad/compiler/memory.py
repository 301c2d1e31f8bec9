"""Where the arrays of a program are: the user's own, pieces of one block, or, of large results, a
new one in each call."""

import math
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ..errors import TraceError
from ..kernels.memory import SMALL, empty
from .emit import Emitted
from .layout import laid_out
from .program import Program, Value

LINE = 64  # bytes: arrays begin with a line of the cache


class Memory:
    """The arrays of all Values but arguments.

    places: their addresses, as generated code takes them; buffer_bytes: the size of the block.
    Errors: TraceError for memory that a program cannot use.
    """

    def __init__(self, program: Program, emitted: Emitted) -> None:
        self._program, self._aliases = program, emitted.aliases
        self._place_of = {id(v): i for i, v in enumerate(emitted.places)}
        self._written = {id(v) for op in program.operations for v in op.changes}
        self._arrays: dict[int, Any] = {
            id(v): v.array for v in program.values() if v.origin in ("state", "constant")
        }
        # Results whose copy would cost more than a new array does. Gradients are kept here.
        kept = {id(g) for _, g in program.grads}
        self._handed = {
            id(v): v
            for v in program.results
            if v.origin == "result" and math.prod(v.shape) >= SMALL
            if id(v) in self._place_of and id(v) not in kept
        }
        self._lay_out(emitted)
        for v in emitted.places:
            if id(v) in self._arrays and not self._arrays[id(v)].flags.c_contiguous:
                raise TraceError(
                    f"compile: {v.name}, of shape {v.shape}, does not lie in C order; make it "
                    "contiguous by np.ascontiguousarray"
                )
        outer = [(v, v.array) for v in program.values() if v.origin in ("state", "constant")]
        if found := self.overlap(outer):
            raise TraceError(
                f"compile: {found[0].name} and {found[1].name} share memory, and the step changes "
                "one of them in place; give each an array of its own"
            )
        arrays = [self._arrays.get(id(v)) for v in emitted.places]
        self.places = np.array([0 if a is None else _address(a) for a in arrays], np.int64)
        self._note_owners()

    def _lay_out(self, emitted: Emitted) -> None:
        """A piece of one block for each other result that has a place."""
        places = [v for v in emitted.places if id(v) not in self._handed]
        own = [v for v in places if v.origin == "result"]
        sizes = [-(-v.dtype.itemsize * math.prod(v.shape) // LINE) * LINE for v in own]
        keep = {id(emitted.aliases.root(v)) for v in self._program.wanted}
        ends = {i: math.inf if i in keep else last for i, (_, last) in emitted.lives.items()}
        lives = [(emitted.lives[id(v)][0], ends[id(v)]) for v in own]
        starts, self.buffer_bytes = laid_out(sizes, lives)
        self._block = empty((max(self.buffer_bytes, 1) + LINE,), np.dtype(np.uint8))
        first = -_address(self._block) % LINE
        for v, start in zip(own, starts, strict=True):
            count = v.dtype.itemsize * math.prod(v.shape)
            piece = self._block[first + start : first + start + count]
            self._arrays[id(v)] = piece.view(v.dtype).reshape(v.shape)

    def begin(self) -> None:
        """New arrays for the results that a call hands over. Errors: MemoryError."""
        for key, v in self._handed.items():
            array = self._arrays[key] = empty(v.shape, v.dtype)
            self.places[self._place_of[key]] = _address(array)

    def end(self) -> None:
        """They are the caller's now."""
        for key in self._handed:
            self._arrays.pop(key, None)

    def hands_over(self, v: Value) -> bool:
        """Whether v has a new array in each call, which is then the caller's."""
        return id(v) in self._handed

    def find(self, v: Value) -> Any:
        """The array of v, or None for an argument, a view, or what has no memory."""
        return self._arrays.get(id(v))

    def array(self, v: Value, arguments: Sequence[Any]) -> Any:
        """Where the elements of v are, in a call with these arguments."""
        known = self._arrays.get(id(v))
        if known is not None:
            return known
        for argument, value in zip(arguments, self._program.arguments, strict=True):
            if value is v:
                return argument
        view = self._aliases.of.get(id(v))
        if view is None:  # nothing generated has read or made it
            self._arrays[id(v)] = v.array if v.array is not None else np.empty(v.shape, v.dtype)
            return self._arrays[id(v)]
        base = self.array(view.inputs[0], arguments)
        return view.what.forward(base, **view.attributes)  # type: ignore[union-attr]

    def replace(self, found: Iterable[tuple[Value, Any]]) -> bool:
        """Use these arrays for these Values from now on; False, and nothing done, if one does not
        fit."""
        found = list(found)
        for v, now in found:
            fits = isinstance(now, np.ndarray) and now.flags.carray
            if not fits or now.shape != v.shape or now.dtype != v.dtype:
                return False
        if self.overlap(found):
            return False
        for v, now in found:
            self._arrays[id(v)] = now
            if id(v) in self._place_of:
                self.places[self._place_of[id(v)]] = _address(now)
        self._note_owners()
        return True

    def overlap(self, arrays: Sequence[tuple[Value, Any]]) -> tuple[Value, Value] | None:
        """Two of these Values, of which one is changed in place, whose arrays share memory: what
        reads the other is in no order with the change."""
        for (v, a), (w, b) in combinations(arrays, 2):
            if (id(v) in self._written or id(w) in self._written) and np.may_share_memory(a, b):
                return v, w
        return None

    # --- arguments -----------------------------------------------------------------------------

    def _note_owners(self) -> None:
        """Whose memory arguments must not be: looked at in each call, so by identity."""
        ours = [
            self._arrays[id(v)]
            for v in self._program.values()
            if id(v) in self._written or (v.origin == "result" and id(v) in self._arrays)
        ]
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
        for v in self._program.values():
            if id(v) in self._written and np.may_share_memory(a, self._arrays[id(v)]):
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
