"""Split any index into at most four steps, each of a form that compiled loops can express.

1. Ints and slices are applied.
2. The dimensions that integer arrays index are moved next to each other.
3. The integer arrays, broadcast to one shape, are used as an index.
4. The result is reshaped, which adds new dimensions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..types import Shape
from .builder import Builder, Value

# An int, slice, None, Ellipsis, or ARRAY for an array. The type is Any, since the functions test
# which one an item is.
IndexItem: TypeAlias = Any
Index: TypeAlias = tuple[IndexItem, ...]

ARRAY = "array"  # stands in an index for an array, which is an input of the primitive
FULL = slice(None)


class Steps(NamedTuple):
    """Steps hold the steps of one index.

    slices: the index of the first step.
    axes: the order of dimensions that the second step makes, or None to keep the order.
    first: the first dimension that the arrays index.
    arrays: the Values of the integer arrays.
    """

    slices: Index
    axes: tuple[int, ...] | None
    first: int
    arrays: list[Value]

    @property
    def places(self) -> Index:
        """Return the index of the third step, with ARRAY for each array."""
        return (FULL,) * self.first + (ARRAY,) * len(self.arrays)

    def moved(self, shape: Shape) -> Shape:
        """Return the shape that the first two steps give for an input's shape."""
        shape = sliced(shape, self.slices)
        return shape if self.axes is None else tuple(shape[i] for i in self.axes)

    def taken(self, shape: Shape) -> Shape:
        """Return the shape that the third step gives for a shape from `moved`."""
        found = self.arrays[0].shape if self.arrays else ()
        return shape[: self.first] + found + shape[self.first + len(self.arrays) :]


def is_one_step(index: Sequence[IndexItem], arrays: Sequence[Value]) -> bool:
    """Return whether an index consists of one step only, the first or the third."""
    if not arrays:
        return len(index) > 0 and Ellipsis not in index and None not in index
    first = list(index).index(ARRAY)
    return (
        all(item == FULL for item in index[:first])
        and all(item == ARRAY for item in index[first:])
        and len({x.shape for x in arrays}) == 1
        and all(x.dtype == np.int64 for x in arrays)
    )


def sliced(shape: Shape, slices: Sequence[IndexItem]) -> Shape:
    """Return the shape that remains after ints and slices index an array of `shape`."""
    return tuple(
        len(range(n)[item]) for n, item in zip(shape, slices, strict=True) if type(item) is slice
    )


def steps_of(
    write: Builder, index: Sequence[IndexItem], arrays: Sequence[Value], ndim: int
) -> Steps | None:
    """Return the steps of an index into an array of `ndim` dimensions.

    Return None if the index contains a single boolean or a mask that is not constant.
    """
    found: list[Value] = []
    for x in arrays:
        if x.dtype.kind != "b":
            found.append(write.cast(x, np.int64))
        elif x.array is None or not x.shape:
            return None
        else:  # a constant mask; the shape of the result depends on it
            found += [write.constant(a) for a in x.array.nonzero()]
    given = iter(found)
    slices: list[IndexItem] = []
    dims: list[IndexItem | Value] = []  # by dimension of the result: a slice, or an array
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


def _are_apart(index: Sequence[IndexItem]) -> bool:
    """Return whether another item stands between the arrays and integers of an index.

    NumPy then puts the dimensions of the arrays first, even if the item is an Ellipsis that stands
    for no dimension.
    """
    places = [i for i, item in enumerate(index) if item == ARRAY or type(item) is int]
    return places[-1] - places[0] >= len(places)


def _whole(index: Sequence[IndexItem], arrays: Sequence[Value], ndim: int) -> list[IndexItem]:
    """Return the index with an item for each dimension.

    Ellipsis and missing items become slices, and a mask becomes one array per dimension of its own.
    """
    masks = iter([len(x.shape) if x.dtype.kind == "b" else 1 for x in arrays])
    items = [part for i in index for part in ([i] * next(masks) if i == ARRAY else [i])]
    missing = ndim - sum(item is not None and item is not Ellipsis for item in items)
    at = items.index(Ellipsis) if Ellipsis in items else len(items)
    return [*items[:at], *[FULL] * missing, *items[at + 1 :]]
