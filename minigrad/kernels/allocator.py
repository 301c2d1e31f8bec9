"""Memory for large results, kept when they die and given to the next of the same size.

The system gives fresh memory page by page, at the first touch of each, and takes it back at once:
a BatchNorm of (1024, 4096) spent more time there than in its kernels. A training step asks for the
same sizes again and again, so a few blocks serve for ever.
"""

import math
from collections import deque
from ctypes import c_char
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

# Values: with fewer, malloc has kept what was freed, and np.empty is faster. Bytes: at most so many
# are known here, in use or not; training the benchmark's widest network takes 13 MB eagerly, and
# 24 compiled.
SMALL, KEPT = 1 << 15, 1 << 27
# Where in a page of memory an array begins: with a line of the cache, and far from where large
# arrays of NumPy do, at 16. A processor takes a load for one that waits for a store a little
# before it whose address has the same last 12 bits: with arrays at 16 and 64 dx of (4096, 256)
# took 1.15 times as long.
PAGE, PLACE = 4096, 2112

BYTE = np.dtype(np.uint8)


class _Lent(np.ndarray[Any, Any]):
    """Whose memory an array and all its views have: it is alive as long as one of them.

    A class of its own is where NumPy stops looking for the array that a view is of.
    """


class _Block:
    """Memory that is lent again when its array is gone: so that nothing need be done then, as an
    interrupt that came in a finaliser would be lost."""

    def __init__(self, size: int) -> None:
        fresh = np.empty(size + PAGE, BYTE)
        self.size, self._start = size, (PLACE - fresh.ctypes.data) % PAGE
        # What holds it must not be an array, or it would be that of all views.
        self._held: Any = (c_char * fresh.size).from_buffer(fresh.data)
        self._lent: ref[_Lent] | None = None

    def lend(self) -> _Lent:
        """The memory, to one at a time."""
        lent = np.ndarray.__new__(_Lent, self.size, BYTE, self._held, self._start)
        self._lent = ref(lent)
        return lent

    def is_free(self) -> bool:
        """Whether nothing has it."""
        return self._lent is None or self._lent() is None


_blocks: deque[_Block] = deque()  # its methods are atomic; who takes one out is alone with it


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As np.empty(shape, dtype): a C-ordered array of any content that shares no memory.

    Errors: MemoryError, as there.
    """
    size = math.prod(shape)
    if size < SMALL:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, _lent(size * dtype.itemsize))


def is_whole(a: NDArray[Any]) -> bool:
    """Whether this array is the first to have its memory, and not a view of another."""
    return a.base is None or isinstance(a.base, _Lent)


def _lent(size: int) -> _Lent:
    """So many bytes: of a block that is known and free, or of a new one, which is known from then
    on if there is room; for that, free ones of other sizes are given up, the oldest first."""
    block, known = None, size
    for _ in range(len(_blocks)):
        try:
            last = _blocks.pop()
        except IndexError:  # another thread was faster
            break
        free = last.is_free()
        if free and last.size == size:
            block = last
            break
        if not free or known + last.size <= KEPT:
            known += last.size
            _blocks.appendleft(last)
    block = _Block(size) if block is None else block
    lent = block.lend()
    if known <= KEPT:
        _blocks.append(block)
    return lent
