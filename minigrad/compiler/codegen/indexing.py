"""This module writes the calls of primitives that move elements or locate one.

VIEWS has the views that generated code can make instead. calls.py has the other calls.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from ... import ops
from ...ops.index_steps import ARRAY, Index, is_one_step
from ..ir.program import Operation, Value

Lines: TypeAlias = list[str] | None  # None: the case is left to the primitive's forward, in NumPy
Name: TypeAlias = Callable[..., str]  # gives the name of a Value, or of a number, in generated code


def flat(text: str) -> str:
    """Return the expression for an array in one dimension."""
    return f"reshaped({text}, ({text}.size,))"


def _folded(text: str, ndim: int, first: int, last: int) -> str:
    """Return an array with the dimensions [first:last] folded into one, of three in all."""
    sizes = [f"{text}.shape[{k}]" for k in range(ndim)]
    parts = sizes[:first], sizes[first:last], sizes[last:]
    return f"reshaped({text}, ({', '.join(' * '.join(part) or '1' for part in parts)}))"


def _reshape(op: Operation, name: Name) -> Lines:
    return [f"copy({name(op.inputs[0])}, {name(op.makes[0])})"]


def _moved(
    target: str, source: str, shape: str, ndim: int, to: Sequence[str], of: Sequence[str]
) -> list[str]:
    """Return loops over a shape that move one element in each turn, from index `of` to index `to`.

    Numba compiles such loops much faster than an assignment of slices.
    """
    lines = [f"{'    ' * i}for k{i} in range({shape}.shape[{i}]):" for i in range(ndim)]
    element = f"{target}[{', '.join(to) or '()'}] = {source}[{', '.join(of) or '()'}]"
    return [*lines, "    " * ndim + element]


def _counters(ndim: int) -> list[str]:
    return [f"k{i}" for i in range(ndim)]


def _permute(op: Operation, name: Name) -> Lines:
    y, axes = name(op.makes[0]), op.attributes["axes"]
    of = [f"k{axes.index(i)}" for i in range(len(axes))]
    return _moved(y, name(op.inputs[0]), y, len(axes), _counters(len(axes)), of)


def _copy(op: Operation, name: Name) -> Lines:
    """Return loops that copy with broadcasting, into memory in any order."""
    target, source = op.inputs
    ndim = len(target.shape)
    of = _counters(ndim)[ndim - len(source.shape) :]
    of = ["0" if n == 1 else k for n, k in zip(source.shape, of, strict=True)]
    return _moved(name(target), name(source), name(target), ndim, _counters(ndim), of)


def _concat(op: Operation, name: Name) -> Lines:
    (v,), axis = op.makes, op.attributes["axis"]
    y, ndim, lines, start = name(v), len(v.shape), [], ""
    for x in op.inputs:
        to = _counters(ndim)
        to[axis] = f"{start}{to[axis]}"
        lines += _moved(y, name(x), name(x), ndim, to, _counters(ndim))
        start += f"{name(x)}.shape[{axis}] + "
    return lines


def _first_extreme(op: Operation, name: Name) -> Lines:
    (a,), (y,), axis = op.inputs, op.makes, op.attributes["axis"]
    ndim, text = len(a.shape), name(a)
    first, last = (0, ndim) if axis is None else (axis, axis + 1)
    parts = [f"{text}.shape[{k}]" for k in range(ndim)]
    outer, inner = (" * ".join(part) or "1" for part in (parts[:first], parts[last:]))
    folded = _folded(text, ndim, first, last)
    largest = name(op.what is ops.TABLE["argmax"], "largest")
    return [f"first_extreme({folded}, {largest}, reshaped({name(y)}, ({outer}, {inner})))"]


def basic_index(index: Index, shape: Sequence[int], name: Name) -> str:
    """Return an index of ints and slices as source, with names for what may depend on a size."""
    parts = []
    for item, n in zip(index, shape, strict=False):
        if type(item) is int:
            parts.append(name(item, "row"))
            continue
        start, stop, step = item.indices(n)
        first = 0 if step > 0 else n - 1
        text = "" if start == first else name(start, "start")
        text += ":" if stop == (n if step > 0 else -1) else f":{name(stop, 'stop')}"
        parts.append(text if step == 1 else f"{text}:{step}")
    return ", ".join(parts)


def _at(index: Index, shape: Sequence[int], name: Name) -> list[str]:
    """Return the index of a selected element; k0, k1, ... are counters along the slices."""
    found, count = [], 0
    for i, n in enumerate(shape):
        item = index[i] if i < len(index) else slice(None)
        if type(item) is int:
            found.append(name(item, "row"))
            continue
        start, _, step = item.indices(n)
        turn = f"k{count}" if step == 1 else f"{step} * k{count}"
        found.append(turn if not start else f"{name(start, 'start')} + {turn}")
        count += 1
    return found


def _getitem(op: Operation, name: Name) -> Lines:
    (a, *arrays), (y,), index = op.inputs, op.makes, op.attributes["index"]
    if not is_one_step(index, arrays):
        return None
    if not arrays:
        of, ndim = _at(index, a.shape, name), len(y.shape)
        return _moved(name(y), name(a), name(y), ndim, _counters(ndim), of)
    lines, places, first, last = _located(name(a), index, arrays, name)
    found = _folded(name(y), len(y.shape), first, first + len(arrays[0].shape))
    return [*lines, f"take({_folded(name(a), len(a.shape), first, last)}, {places}, {found})"]


def _scatter(op: Operation, name: Name) -> Lines:
    (g, *arrays), (y,), index = op.inputs, op.makes, op.attributes["index"]
    if not is_one_step(index, arrays):
        return None
    if not arrays:
        to, ndim = _at(index, y.shape, name), len(g.shape)
        moved = _moved(name(y), name(g), name(g), ndim, to, _counters(ndim))
        return [f"{name(y)}[...] = 0", *moved]
    lines, places, first, last = _located(name(y), index, arrays, name)
    given = _folded(name(g), len(g.shape), first, first + len(arrays[0].shape))
    return [*lines, f"put({given}, {places}, {_folded(name(y), len(y.shape), first, last)})"]


def _located(
    whole: str, index: Index, arrays: Sequence[Value], name: Name
) -> tuple[list[str], str, int, int]:
    """Return lines that fill an array of places, the array, and the range of indexed dimensions.

    The places are what an index with arrays selects if these dimensions are folded into one. The
    range is a first dimension, and the one after the last.
    """
    first = index.index(ARRAY)
    places = name(Value.like("places", arrays[0].shape, np.int64))
    lines = [f"{places}[...] = 0"]
    for k, x in enumerate(arrays):
        given = f"{flat(name(x))}, {whole}.shape[{first + k}], {flat(places)}"
        lines.append(f"bad = locate({given})")
    return lines, flat(places), first, first + len(arrays)


MOVES: dict[str, Callable[[Operation, Name], Lines]] = {
    "reshape": _reshape,
    "copy": _copy,
    "permute": _permute,
    "concat": _concat,
    "argmax": _first_extreme,
    "argmin": _first_extreme,
    "getitem": _getitem,
    "scatter": _scatter,
}


def _row_or_slice(op: Operation, base: str, shape: Callable[[], str], name: Name) -> str:
    return f"{base}[{basic_index(op.attributes['index'], op.inputs[0].shape, name)}]"


def _axes(op: Operation, base: str, shape: Callable[[], str], name: Name) -> str:
    axes = op.attributes["axes"]
    # Numba knows that a transpose lies in Fortran order, as products need.
    return f"{base}.T" if axes == (1, 0) else f"permuted({base}, {axes})"


# By primitive, a function that returns the expression for a view. Its arguments are the operation,
# the expression for the operation's input, and functions that load the result's shape and numbers.
VIEWS: dict[str, Callable[[Operation, str, Callable[[], str], Name], str]] = {
    "reshape": lambda op, base, shape, name: f"reshaped({base}, {shape()})",
    "permute": _axes,
    "getitem": _row_or_slice,
}
