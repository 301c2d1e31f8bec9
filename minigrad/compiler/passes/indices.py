"""Indexing is expanded here into steps that generated code has one form for each.

First come ints and slices. Then the dimensions that arrays of integers index are moved side by
side. Then these arrays, of one shape, are used as an index. At last the result is reshaped, for new
dimensions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...ops.indexing import ARRAY
from ..ir.builder import Shape, Written
from ..ir.program import Value

FULL = slice(None)


class Steps(NamedTuple):
    """The steps of an index.

    slices: the index of the first step; axes: the order of dimensions, None to keep it; arrays: the
        arrays of integers; first: the first dimension that they index.
    """

    slices: tuple[Any, ...]
    axes: tuple[int, ...] | None
    first: int
    arrays: list[Value]

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


def is_one_step(index: Sequence[Any], arrays: Sequence[Value]) -> bool:
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


def getitem(write: Written, a: Value, *arrays: Value, index: Sequence[Any]) -> Any:
    """Expand a[index]."""
    steps = None if is_one_step(index, arrays) else _steps(write, index, arrays, len(a.shape))
    if steps is None:
        return False
    if any(item != FULL for item in steps.slices):
        like = sliced(a.shape, steps.slices), a.dtype
        a = write("getitem", a, like=like, index=steps.slices)
    if steps.axes is not None:
        like = tuple(a.shape[i] for i in steps.axes), a.dtype
        a = write("permute", a, like=like, axes=steps.axes)
    if steps.arrays:
        like = steps.taken(a.shape), a.dtype
        a = write("getitem", a, *steps.arrays, like=like, index=steps.places)
    return write.reshaped(a, write.result.shape, write.result)


def scatter(write: Written, g: Value, *arrays: Value, index: Sequence[Any], shape: Shape) -> Any:
    """Expand scatter, which adds g at an index, by the steps of getitem in reverse."""
    steps = None if is_one_step(index, arrays) else _steps(write, index, arrays, len(shape))
    if steps is None:
        return False
    whole, moved = sliced(shape, steps.slices), steps.moved(shape)
    g = write.reshaped(g, steps.taken(moved))
    if steps.arrays:
        like = moved, g.dtype
        g = write("scatter", g, *steps.arrays, like=like, index=steps.places, shape=moved)
    if steps.axes is not None:
        back = tuple(steps.axes.index(i) for i in range(len(moved)))
        g = write("permute", g, like=(whole, g.dtype), axes=back)
    if any(item != FULL for item in steps.slices):
        g = write("scatter", g, like=(shape, g.dtype), index=steps.slices, shape=shape)
    return write.reshaped(g, shape, write.result)


def _steps(
    write: Written, index: Sequence[Any], arrays: Sequence[Value], ndim: int
) -> Steps | None:
    """Return the steps of an index into an array of `ndim` dimensions, or None for an index that is
    a single boolean or a mask that is not constant."""
    found: list[Value] = []
    for x in arrays:
        if x.dtype.kind != "b":
            found.append(write.cast(x, np.int64))
        elif x.array is None or not x.shape:
            return None
        else:  # a mask, which is a constant: the shape of the result depends on it
            found += [_constant(write, a) for a in x.array.nonzero()]
    given = iter(found)
    slices: list[Any] = []
    dims: list[Any] = []  # for each dimension of the result a slice, or an array's Value
    for item in _whole(index, arrays, ndim):
        if item == ARRAY or (type(item) is int and found):
            slices.append(FULL)
            dims.append(next(given) if item == ARRAY else _constant(write, np.array(item)))
            continue
        slices += [] if item is None else [item]
        dims += [] if item is None or type(item) is int else [item]
    own = [i for i, x in enumerate(dims) if isinstance(x, Value)]
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


def _whole(index: Sequence[Any], arrays: Sequence[Value], ndim: int) -> list[Any]:
    """Return the index for all dimensions, without Ellipsis, a mask as one array for each of its
    own."""
    masks = iter([len(x.shape) if x.dtype.kind == "b" else 1 for x in arrays])
    items = [part for i in index for part in ([i] * next(masks) if i == ARRAY else [i])]
    missing = ndim - sum(item is not None and item is not Ellipsis for item in items)
    at = items.index(Ellipsis) if Ellipsis in items else len(items)
    return [*items[:at], *[FULL] * missing, *items[at + 1 :]]


def _constant(write: Written, array: Any) -> Value:
    name = f"{write.result.name}_index_{len(write.constants)}"
    write.constants.append(
        Value(name, np.ascontiguousarray(array).reshape(array.shape), "constant")
    )
    return write.constants[-1]
