"""Memory for large results, kept when they die and given to the next of the same size.

The system gives fresh memory page by page, at the first touch of each, and takes it back at once:
a BatchNorm of (1024, 4096) spent more time there than in its kernels. A training step asks for the
same sizes again and again, so a few blocks serve for ever.
"""

import contextlib
import math
from collections import deque
from ctypes import c_char
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Values: with fewer, malloc has kept what was freed, and np.empty is faster. Bytes: at most so many
# lie here unused.
SMALL, KEPT = 1 << 15, 1 << 26
# Where in a page of memory an array begins: with a line of the cache, and far from where large
# arrays of NumPy do, at 16. A processor takes a load for one that waits for a store a little
# before it whose address has the same last 12 bits: with arrays at 16 and 64 dx of (4096, 256)
# took 1.15 times as long.
PAGE, PLACE = 4096, 2112

Block = tuple[int, int, Any]  # bytes, from which one on, of what holds them
BYTE = np.dtype(np.uint8)
_free: deque[Block] = deque()  # oldest first; its methods are atomic


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As np.empty(shape, dtype): a C-ordered array of any content that shares no memory.

    Errors: MemoryError, as there.
    """
    size = math.prod(shape)
    if size < SMALL:
        return np.empty(shape, dtype)
    block = _take(size * dtype.itemsize)
    lent = np.ndarray.__new__(_Lent, block[0], BYTE, block[2], block[1])
    lent.block = block
    return np.ndarray(shape, dtype, lent)


def is_whole(a: NDArray[Any]) -> bool:
    """Whether this array is the first to have its memory, and not a view of another."""
    return a.base is None or isinstance(a.base, _Lent)


class _Lent(np.ndarray[Any, Any]):
    """Whose memory an array and all its views have; the last of them to go gives it back.

    A class of its own is where NumPy stops looking for the array that a view is of.
    """

    block: Block

    def __del__(self) -> None:
        _keep(self.block)


def _take(size: int) -> Block:
    for _ in range(len(_free)):
        try:
            block = _free.pop()
        except IndexError:  # another thread was faster
            break
        if block[0] == size:
            return block
        _free.appendleft(block)
    fresh = np.empty(size + PAGE, BYTE)
    # What holds it must not be an array, or it would be that of all views.
    return size, (PLACE - fresh.ctypes.data) % PAGE, (c_char * fresh.size).from_buffer(fresh.data)


def _keep(block: Block) -> None:
    _free.append(block)
    # RuntimeError: while the blocks were counted, another one came; it will count them.
    with contextlib.suppress(IndexError, RuntimeError):
        while sum([size for size, _, _ in tuple(_free)]) > KEPT:
            _free.popleft()
