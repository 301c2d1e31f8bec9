"""Memory assignment decides which memory each array of a program has.

An array is the user's own, a copy of one that generated code cannot read (for example, since it is
not in C order), or a piece of a block that all programs of a function share. A gradient keeps its
array from call to call, and a large result is a new array in each call.
"""

import itertools
import math
import threading
from collections.abc import Iterable, Sequence
from sys import getrefcount
from typing import Any
from weakref import ref

import numpy as np

from ...arrays import memory_of
from ...engine.tensor import Tensor
from ...errors import TraceError
from ...kernels.allocator import SMALL, empty
from ...types import Array, DType, Shape
from ..codegen.module import Emitted
from ..ir.program import Operation, Program, Value
from .memory_layout import laid_out

LINE = 64  # bytes; each piece begins at a cache line
_BYTE = np.dtype(np.uint8)


class Workspace:
    """A Workspace is memory that all programs of one function share; only one runs at a time.

    running: the lock that a program holds while it runs.
    """

    def __init__(self) -> None:
        self.running = threading.RLock()
        self.block = empty((LINE,), _BYTE)
        self._gradients: dict[tuple[int, Shape, DType], tuple[ref[Tensor], Array]] = {}
        self._unused: list[Lent] = []
        self._kinds: dict[object, int] = {}
        self._lent: dict[int, Lent] = {}

    def reserve(self, size: int) -> None:
        """Make the block at least `size` bytes large; a larger block is a new one."""
        if size + LINE > self.block.size:
            self.block = empty((size + LINE,), _BYTE)

    def unused(self, values: list[Value]) -> "Lent":
        """Return arrays for these Values which no call uses."""
        for i, count in enumerate(map(getrefcount, self._unused)):
            if count == FREE and self._unused[i].values is values:
                return self._unused[i]
        lent = Lent(values)
        self._unused = [lent, *self._unused[: MOST_LENT - 1]]
        return lent

    def kind(self, values: Sequence[Value]) -> int:
        """Return a number that is equal for Values of the same shapes and dtypes."""
        key = tuple([(v.shape, v.dtype) for v in values])
        return self._kinds.setdefault(key, len(self._kinds))

    def gradients(self, kind: int, values: list[Value]) -> "Lent":
        """Return the arrays that programs of one kind share, without those that are in use."""
        lent = self._lent.get(kind)
        if lent is None:
            if len(self._lent) >= MOST_LENT:
                del self._lent[next(iter(self._lent))]
            lent = self._lent[kind] = Lent(values)
        lent.renew()
        return lent

    def gradient(self, leaf: Tensor, v: Value) -> Array:
        """Return the array that every program uses for the gradient v of this leaf."""
        key = id(leaf), v.shape, v.dtype
        found = self._gradients.get(key)
        if found is None or found[0]() is not leaf:
            owner = ref(leaf, lambda _: self._gradients.pop(key, None))
            found = self._gradients[key] = owner, empty(v.shape, v.dtype)
        return found[1]


class Memory:
    """Memory assigns an array to each Value of a program, except for the arguments.

    places: the table of addresses for generated code; buffer_bytes: the bytes of the block that the
        program uses; lent: by the identity of a list of Values, the number of the Lent in use; a
        reference to the Lent itself would count as a use.
    Errors: TraceError if the step changes a state that shares memory with another array.
    """

    def __init__(self, program: Program, emitted: Emitted, workspace: Workspace) -> None:
        self._program, self._views, self.workspace = program, emitted.views, workspace
        self._place_of = {v: i for i, v in enumerate(emitted.places)}
        self._written = {v for op in program.operations for v in op.changes}
        self._outer: dict[Value, Array] = {}  # the user's arrays
        self._arrays: dict[Value, Array] = {}
        self.lent: dict[int, int] = {}
        # The user's arrays that generated code cannot take as they are, and their copies.
        self._copies: list[tuple[Value, Array, Array]] = []
        self.places = np.zeros(len(emitted.places), np.int64)
        outer = [(v, v.array) for v in program.values() if v.origin in ("state", "constant")]
        # Gradients keep their arrays from call to call, unless the step reads gradients.
        self.reads_gradients = any(v.name.endswith(".grad") for v, _ in outer if v.fetch)
        kept = {v: leaf for leaf, v in program.grads if v is not None and v.origin == "result"}
        self._gradients: dict[Value, Tensor] = {}
        if not self.reads_gradients:
            self._gradients = {v: leaf for v, leaf in kept.items() if v in self._place_of}
            for v, leaf in self._gradients.items():
                self._set(v, workspace.gradient(leaf, v))
        if found := self.overlap(outer):
            raise TraceError(
                f"compile: {found[0].name} and {found[1].name} share memory, and the step changes "
                "one of them in place; give each an array of its own"
            )
        self._put(outer)
        # Large results get a new array in each call, which costs less than a copy.
        self._handed = [
            v
            for v in dict.fromkeys(program.results)
            if v.origin == "result" and math.prod(v.shape) >= SMALL
            if v in self._place_of and v not in kept and v not in program.lent
        ]
        # The Values that Python uses, too; `lend` keeps references to their arrays alone.
        self.shown = {v for op in emitted.draws for v in op.makes}
        for step in (*emitted.steps, *emitted.checked):  # which NumPy runs, or runs to raise errors
            if isinstance(step, Operation):
                self.shown.update(map(emitted.views.root, (*step.reads, *step.makes)))
        self._lay_out(emitted)
        self.settle()

    def _lay_out(self, emitted: Emitted) -> None:
        """Give a piece of the block to each result that has a place but no other memory."""
        elsewhere = {*self._handed, *self._gradients, *self._program.lent}
        own = [v for v in emitted.places if v.origin == "result" and v not in elsewhere]
        sizes = [-(-v.dtype.itemsize * math.prod(v.shape) // LINE) * LINE for v in own]
        keep = set(map(emitted.views.root, self._program.wanted))
        spans = [emitted.lives[v] for v in own]
        lives = [
            (first, math.inf if v in keep else last)
            for v, (first, last) in zip(own, spans, strict=True)
        ]
        starts, self.buffer_bytes = laid_out(sizes, lives)
        self._pieces = list(zip(own, starts, strict=True))
        self._block: Array | None = None
        self.workspace.reserve(self.buffer_bytes)

    def settle(self) -> None:
        """Move the pieces to the current block, unless they are there."""
        block = self.workspace.block
        if block is self._block:
            return
        self._block = block
        first = -_address(block) % LINE
        for v, start in self._pieces:
            count = v.dtype.itemsize * math.prod(v.shape)
            piece = block[first + start : first + start + count]
            self._set(v, piece.view(v.dtype).reshape(v.shape))
        self._note_owners()

    def lend(self, values: list[Value], lent: "Lent") -> None:
        """Use these arrays for these Values from now on; values: the same list in each call."""
        if self.lent.get(id(values)) == lent.number:
            return
        self.lent[id(values)] = 0  # an interrupt may leave only some of them in use
        for v, a, address in zip(values, lent.arrays, lent.addresses, strict=True):
            if v in self._place_of:  # otherwise generated code does not use it
                self.places[self._place_of[v]] = address
            if v in self.shown:
                self._arrays[v] = a
        self.lent[id(values)] = lent.number

    @property
    def is_busy(self) -> bool:
        """Return whether calls need `begin` and `end`."""
        return bool(self._handed or self._copies)

    def begin(self) -> None:
        """Prepare a call: make arrays for large results, and copy what generated code cannot read.

        Errors: MemoryError.
        """
        for v in self._handed:
            self._set(v, empty(v.shape, v.dtype))
        for _, array, copy in self._copies:
            np.copyto(copy, array)

    def end(self) -> None:
        """Finish a call: drop references to large results, and copy changed states back."""
        for v in self._handed:
            self._arrays.pop(v, None)
        for v, array, copy in self._copies:
            if v in self._written:
                np.copyto(array, copy)

    def _put(self, found: Iterable[tuple[Value, Array]]) -> None:
        """Use these user's arrays, or copies of them, for the Values."""
        # The call overwrites its gradients, so a state in the same memory must be a copy.
        overwritten = {id(memory_of(self._arrays[v])) for v in self._gradients}
        for v, array in found:
            self._outer[v] = array
            flags = array.flags
            fits = flags.c_contiguous and flags.aligned and array.dtype == v.dtype
            if fits and id(memory_of(array)) not in overwritten:
                self._set(v, array)
            else:
                self._set(v, np.empty(v.shape, v.dtype))
        self._copies = [
            (v, array, self._arrays[v])
            for v, array in self._outer.items()
            if self._arrays[v] is not array
        ]

    def _set(self, v: Value, array: Array) -> None:
        self._arrays[v] = array
        if v in self._place_of:
            self.places[self._place_of[v]] = _address(array)

    def stays(self) -> bool:
        """Return whether calls may follow each other with the same states, without begin and end.

        They may not if the step reads gradients, since each call replaces them.
        """
        return not self._copies and not self.reads_gradients

    def hands_over(self, v: Value) -> bool:
        """Return whether v has a new array in each call, which the caller gets without a copy."""
        return v in self._handed

    def keeps_gradient(self, v: Value) -> bool:
        """Return whether v is a gradient that has the same array in each call."""
        return v in self._gradients

    def outer(self, v: Value) -> Array:
        """Return the user's array for v, a state or a constant."""
        return self._outer[v]

    def find(self, v: Value) -> Array | None:
        """Return the array of v, or None if v is an argument or a view, or has no memory yet."""
        return self._arrays.get(v)

    def array(self, v: Value, arguments: Sequence[Array]) -> Array:
        """Return the array with the elements of v in a call with these arguments."""
        known = self._arrays.get(v)
        if known is not None:
            return known
        for argument, value in zip(arguments, self._program.arguments, strict=True):
            if value is v:
                return argument
        view = self._views.of.get(v)
        if view is None:  # generated code neither reads nor makes it
            self._arrays[v] = np.empty(v.shape, v.dtype)
            return self._arrays[v]
        base = self.array(view.inputs[0], arguments)
        a: Array = view.forward(base, **view.attributes)
        return a

    def replace(self, found: Iterable[tuple[Value, Array]]) -> bool:
        """Use these arrays for these Values from now on, and return whether all of them fit.

        If one does not fit, nothing changes.
        """
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

    def overlap(self, arrays: Sequence[tuple[Value, Array]]) -> tuple[Value, Value] | None:
        """Return two Values with shared memory, if the step changes the first in place, or None.

        The second may also be a gradient. Passes would not keep reads of the second in order with
        changes of the first.
        """
        gradients = [(v, self._arrays[v]) for v in self._gradients]
        for v, a in arrays:
            if v in self._written:
                for w, b in (*arrays, *gradients):
                    if w is not v and np.may_share_memory(a, b):
                        return v, w
        return None

    # --- arguments -----------------------------------------------------------------------------

    def _note_owners(self) -> None:
        """Note the arrays that calls overwrite and, in `owners`, by identity, their memory."""
        ours = [self._outer[v] for v in self._written]
        ours += [a for v, a in self._arrays.items() if v.origin == "result"]
        self._overwritten = ours
        self.owners = {id(memory_of(a)): memory_of(a) for a in ours}

    def apart(self, argument: Array) -> Array:
        """Return an argument, or a copy if it is in memory that calls overwrite, as a gradient is.

        Errors: TraceError if the step changes this memory in place.
        """
        for v in self._written:
            if np.may_share_memory(argument, self._outer[v]):
                raise TraceError(
                    f"compile: an argument of shape {argument.shape} is memory of {v.name}, which "
                    "the step changes in place; give it a copy, or let the step use it from outside"
                )
        is_ours = any(np.may_share_memory(argument, a) for a in self._overwritten)
        return argument.copy() if is_ours else argument


_numbers = itertools.count(1)
MOST_LENT = 4  # sets of arrays that wait for a call
FREE = next(map(getrefcount, [object()]))  # the count of an object that only a list refers to


class Lent:
    """A Lent has arrays for some Values of a program, for one call or several, and their addresses.

    number: another one when an array is another one.
    """

    __slots__ = ("_free", "addresses", "arrays", "number", "values")

    def __init__(self, values: list[Value]) -> None:
        self.number, self.values = next(_numbers), values
        self.arrays: list[Any] = [empty(v.shape, v.dtype) for v in values]
        self.addresses = [_address(a) for a in self.arrays]
        self._free = [FREE] * len(values)

    def renew(self) -> None:
        """Replace those arrays that something else refers to."""
        if [*map(getrefcount, self.arrays)] == self._free:
            return
        for i, count in enumerate(map(getrefcount, self.arrays)):
            if count != FREE:
                fresh = empty(self.values[i].shape, self.values[i].dtype)
                self.number = next(_numbers)
                self.arrays[i] = None  # not free, if an interrupt comes before the end
                self.addresses[i] = _address(fresh)
                self.arrays[i] = fresh


def _address(a: Array) -> int:
    address: int = a.__array_interface__["data"][0]
    return address
