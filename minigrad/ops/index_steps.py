"""Any index is a sequence of steps, for each of which compiled loops have one form.

First come ints and slices. Then the dimensions that arrays of integers index are moved side by
side. Then these arrays, of one shape, are used as an index. At last the result is reshaped, for new
dimensions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .builder import Builder

Index = tuple[Any, ...]
Shape = tuple[int, ...]

ARRAY = "array"  # in an index, the place of an array, which is an input of the primitive
FULL = slice(None)


class Steps(NamedTuple):
    """The steps of an index.

    slices: the index of the first step; axes: the order of dimensions, None to keep it; arrays: the
        Values of the arrays of integers; first: the first dimension that they index.
    """

    slices: tuple[Any, ...]
    axes: tuple[int, ...] | None
    first: int
    arrays: list[Any]

    @property
    def places(self) -> tuple[Any, ...]:
        """The index of the step with arrays."""
        return (FULL,) * self.first + (ARRAY,) * len(self.arrays)

    def moved(self, shape: Shape) -> Shape:
        """Return what the first two steps make of a shape."""
        shape = sliced(shape, self.slices)
        return shape if self.axes is None else tuple(shape[i] for i in self.axes)

    def taken(self, shape: Shape) -> Shape:
        """Return what the third step makes of a shape."""
        found = self.arrays[0].shape if self.arrays else ()
        return shape[: self.first] + found + shape[self.first + len(self.arrays) :]


def is_one_step(index: Sequence[Any], arrays: Sequence[Any]) -> bool:
    """Return whether an index is one step: the first, or the third."""
    if not arrays:
        return len(index) > 0 and Ellipsis not in index and None not in index
    first = list(index).index(ARRAY)
    return (
        all(item == FULL for item in index[:first])
        and all(item == ARRAY for item in index[first:])
        and len({x.shape for x in arrays}) == 1
        and all(x.dtype == np.int64 for x in arrays)
    )


def sliced(shape: Shape, slices: Sequence[Any]) -> Shape:
    """Return the shape that ints and slices leave of a shape."""
    return tuple(
        len(range(n)[item]) for n, item in zip(shape, slices, strict=True) if type(item) is slice
    )


def steps_of(
    write: Builder, index: Sequence[Any], arrays: Sequence[Any], ndim: int
) -> Steps | None:
    """Return the steps of an index into an array of `ndim` dimensions, or None for an index that is
    a single boolean or a mask that is not constant."""
    found: list[Any] = []
    for x in arrays:
        if x.dtype.kind != "b":
            found.append(write.cast(x, np.int64))
        elif x.array is None or not x.shape:
            return None
        else:  # a mask, which is a constant: the shape of the result depends on it
            found += [write.constant(a) for a in x.array.nonzero()]
    given = iter(found)
    slices: list[Any] = []
    dims: list[Any] = []  # for each dimension of the result a slice, or an array's Value
    for item in _whole(index, arrays, ndim):
        if item == ARRAY or (type(item) is int and found):
            slices.append(FULL)
            dims.append(next(given) if item == ARRAY else write.constant(np.array(item)))
            continue
        slices += [] if item is None else [item]
        dims += [] if item is None or type(item) is int else [item]
    own = [i for i, x in enumerate(dims) if not isinstance(x, slice)]
    apart = len(own) > 0 and _are_apart(index)
    others = [i for i in range(len(dims)) if i not in own]
    shape = np.broadcast_shapes(*[dims[i].shape for i in own])
    return Steps(
        slices=tuple(slices),
        axes=(*own, *others) if apart else None,
        first=0 if apart or not own else own[0],
        arrays=[write.spread(dims[i], shape) for i in own],
    )


def _are_apart(index: Sequence[Any]) -> bool:
    """Return whether anything stands between the arrays and integers of an index, even an Ellipsis
    of no dimensions: NumPy then puts the dimensions of the arrays first."""
    places = [i for i, item in enumerate(index) if item == ARRAY or type(item) is int]
    return places[-1] - places[0] >= len(places)


def _whole(index: Sequence[Any], arrays: Sequence[Any], ndim: int) -> list[Any]:
    """Return the index for all dimensions, without Ellipsis, a mask as one array for each of its
    own."""
    masks = iter([len(x.shape) if x.dtype.kind == "b" else 1 for x in arrays])
    items = [part for i in index for part in ([i] * next(masks) if i == ARRAY else [i])]
    missing = ndim - sum(item is not None and item is not Ellipsis for item in items)
    at = items.index(Ellipsis) if Ellipsis in items else len(items)
    return [*items[:at], *[FULL] * missing, *items[at + 1 :]]
