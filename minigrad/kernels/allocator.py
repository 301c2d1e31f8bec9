"""The allocator reuses the memory of large results for later results of the same size.

The system maps new memory page by page, at the first access to each page, and unmaps it as soon as
it is freed, which takes time. Training steps need the same sizes again and again, so a few blocks
suffice.
"""

import math
from collections import deque
from ctypes import c_char
from typing import Any
from weakref import ref

import numpy as np

from ..types import Array, DType, Shape

# Below SMALL elements, np.empty is faster. All known blocks, used or free, have at most CAPACITY
# bytes together.
SMALL, CAPACITY = 1 << 15, 1 << 27
# An array begins at OFFSET in a page: at a cache line, and far from offset 16, where large NumPy
# arrays begin. A processor delays a load if the last 12 bits of its address equal those of a store
# just before it.
PAGE, OFFSET = 4096, 2112

BYTE = np.dtype(np.uint8)
# Empty arrays that stand for absent ones in kernels, by dtype and number of dimensions.
ABSENT: dict[tuple[DType, int], Array] = {
    (np.dtype(t), n): np.empty((0,) * n, t) for t in "fd" for n in (1, 2, 3)
}


class _Lent(np.ndarray[Shape, DType]):
    """A _Lent array owns a block's memory; every view keeps it alive.

    NumPy sets the base of a view to the last array of another class, which is this one.
    """


class _Block:
    """A block of memory can be lent again when the array that it was lent to is gone.

    No finaliser runs at that moment, since an interrupt inside a finaliser would be lost.
    """

    def __init__(self, size: int) -> None:
        fresh = np.empty(size + PAGE, BYTE)
        self.size, self._start = size, (OFFSET - fresh.ctypes.data) % PAGE
        # Not an array, since NumPy would make that array the base of all views.
        # Any, since to NumPy's stubs a buffer of ctypes is none.
        self._memory: Any = (c_char * fresh.size).from_buffer(fresh.data)
        self._lent: ref[_Lent] | None = None

    def lend(self) -> _Lent:
        """Return the memory as an array; the block must be free."""
        lent = np.ndarray.__new__(_Lent, self.size, BYTE, self._memory, self._start)
        self._lent = ref(lent)
        return lent

    def is_free(self) -> bool:
        """Return whether no array uses the memory."""
        return self._lent is None or self._lent() is None


_blocks: deque[_Block] = deque()  # its methods are atomic, so two threads never get the same block


def empty(shape: Shape, dtype: DType) -> Array:
    """Return a C-ordered array with arbitrary content, like np.empty. Errors: MemoryError."""
    size = math.prod(shape)
    if size < SMALL:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, _lend(size * dtype.itemsize))


def is_whole(a: Array) -> bool:
    """Return whether the array is not a view of another array."""
    return a.base is None or isinstance(a.base, _Lent)


def _lend(size: int) -> _Lent:
    """Lend `size` bytes from a free block of that size, or from a new one.

    A new block is kept for reuse if there is room for it. To make room, free blocks of other sizes
    are dropped, the oldest first.
    """
    block, total = None, size
    for _ in range(len(_blocks)):
        try:
            last = _blocks.pop()
        except IndexError:  # another thread has taken it
            break
        is_free = last.is_free()
        if is_free and last.size == size:
            block = last
            break
        if not is_free or total + last.size <= CAPACITY:
            total += last.size
            _blocks.appendleft(last)
    block = _Block(size) if block is None else block
    lent = block.lend()
    if total <= CAPACITY:
        _blocks.append(block)
    return lent
