"""Memory for large results, which is reused for later results of the same size.

The system maps fresh memory page by page, at the first touch of each page, and unmaps it at once
when it is freed. A training step asks for the same sizes again and again, so a few blocks suffice.
"""

import math
from collections import deque
from ctypes import c_char
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

# For fewer elements than SMALL, np.empty is faster. The blocks that are remembered, in use or free,
# have at most CAPACITY bytes in all.
SMALL, CAPACITY = 1 << 15, 1 << 27
# Where in a page of memory an array begins: at a cache line, and far from offset 16, where large
# arrays of NumPy begin. A processor delays a load if the last 12 bits of its address are those of a
# store just before it.
PAGE, OFFSET = 4096, 2112

BYTE = np.dtype(np.uint8)


class _Lent(np.ndarray[Any, Any]):
    """Owner of a block; every view keeps it alive.

    NumPy sets the base of a view to the last array of another class, and so to this one.
    """


class _Block:
    """Memory that may be lent again when the array that it was lent to is gone.

    Nothing is done at that moment, as an interrupt that arrived in a finaliser would be lost.
    """

    def __init__(self, size: int) -> None:
        fresh = np.empty(size + PAGE, BYTE)
        self.size, self._start = size, (OFFSET - fresh.ctypes.data) % PAGE
        # Not kept as an array, or that array would be the base of all views.
        self._memory: Any = (c_char * fresh.size).from_buffer(fresh.data)
        self._lent: ref[_Lent] | None = None

    def lend(self) -> _Lent:
        """Return the memory as an array; the block has to be free."""
        lent = np.ndarray.__new__(_Lent, self.size, BYTE, self._memory, self._start)
        self._lent = ref(lent)
        return lent

    def is_free(self) -> bool:
        """Return whether no array uses the memory."""
        return self._lent is None or self._lent() is None


_blocks: deque[_Block] = deque()  # its methods are atomic, so one thread at a time has a block


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a C-ordered array with arbitrary content, like np.empty. Errors: MemoryError."""
    size = math.prod(shape)
    if size < SMALL:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, _lend(size * dtype.itemsize))


def is_whole(a: NDArray[Any]) -> bool:
    """Return whether this array is not a view of another."""
    return a.base is None or isinstance(a.base, _Lent)


def _lend(size: int) -> _Lent:
    """Lend `size` bytes from a free block of that size, or from a new one.

    A new block is remembered if there is room. To make room, free blocks of other sizes are
    dropped, the oldest first.
    """
    block, known = None, size
    for _ in range(len(_blocks)):
        try:
            last = _blocks.pop()
        except IndexError:  # another thread has taken it
            break
        is_free = last.is_free()
        if is_free and last.size == size:
            block = last
            break
        if not is_free or known + last.size <= CAPACITY:
            known += last.size
            _blocks.appendleft(last)
    block = _Block(size) if block is None else block
    lent = block.lend()
    if known <= CAPACITY:
        _blocks.append(block)
    return lent
