"""Memory layout places pieces in a block of memory; pieces may overlap if their lives do not."""

from collections.abc import Sequence

import numpy as np


def laid_out(sizes: Sequence[int], lives: Sequence[tuple[int, float]]) -> tuple[list[int], int]:
    """Return where the pieces of a block begin, and the size of the block, in bytes.

    sizes: the size of each piece, in bytes; lives: the first and last moment of each piece.

    Pieces that live at the same time do not overlap. The largest piece is placed first, and each
    piece takes the lowest start that is free during its life.
    """
    starts = [0] * len(sizes)
    placed = np.empty((4, len(sizes)))  # rows: start, end, first and last moment; sorted by start
    count = total = 0
    for i in sorted((i for i, size in enumerate(sizes) if size), key=lambda i: -sizes[i]):
        first, last = lives[i]
        begins, ends, firsts, lasts = placed[:, :count]
        beside = ((firsts <= last) & (lasts >= first)).nonzero()[0]
        tops = np.zeros(len(beside) + 1)  # the end of all that lies below each piece
        np.maximum.accumulate(ends[beside], out=tops[1:])
        fits = (begins[beside] - tops[:-1] >= sizes[i]).nonzero()[0]
        start = tops[fits[0] if len(fits) else -1]
        at = begins.searchsorted(start)
        placed[:, at + 1 : count + 1] = placed[:, at:count]
        placed[:, at] = start, start + sizes[i], first, last
        starts[i], total, count = int(start), max(total, int(start) + sizes[i]), count + 1
    return starts, total
