"""How generated code moves elements, or finds where one is; as calls.py, which lists this."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..ops.indexing import ARRAY
from .indices import is_plain
from .program import Operation, Value

Lines = list[str] | None  # None where this case is left to the primitive's forward, in Python
Name = Callable[..., str]  # of a Value, or of a number and what it is, in generated code


def flat(text: str) -> str:
    """An array as one of one dimension."""
    return f"{text}.reshape({text}.size)"


def _folded(text: str, ndim: int, first: int, last: int) -> str:
    """An array as one of three dimensions, of which the second is those from first to last."""
    sizes = [f"{text}.shape[{k}]" for k in range(ndim)]
    parts = sizes[:first], sizes[first:last], sizes[last:]
    return f"{text}.reshape({', '.join(' * '.join(part) or '1' for part in parts)})"


def _reshape(op: Operation, name: Name) -> Lines:
    return [f"{flat(name(op.makes[0]))}[:] = {flat(name(op.inputs[0]))}"]


def _permute(op: Operation, name: Name) -> Lines:
    return [f"{name(op.makes[0])}[...] = {name(op.inputs[0])}.transpose({op.attributes['axes']})"]


def _concat(op: Operation, name: Name) -> Lines:
    y, axis = name(op.makes[0]), op.attributes["axis"]
    lines, start = [], "0"
    for i, x in enumerate(op.inputs):
        stop = f"{start} + {name(x)}.shape[{axis}]" if i else f"{name(x)}.shape[{axis}]"
        lines.append(f"{y}[{':, ' * axis}{start}:{stop}] = {name(x)}")
        start = stop
    return lines


def _first_extreme(op: Operation, name: Name) -> Lines:
    (a,), (y,), axis = op.inputs, op.makes, op.attributes["axis"]
    ndim, text = len(a.shape), name(a)
    first, last = (0, ndim) if axis is None else (axis, axis + 1)
    parts = [f"{text}.shape[{k}]" for k in range(ndim)]
    outer, inner = (" * ".join(part) or "1" for part in (parts[:first], parts[last:]))
    folded, largest = _folded(text, ndim, first, last), name(op.name == "argmax", "largest")
    return [f"first_extreme({folded}, {largest}, {name(y)}.reshape({outer}, {inner}))"]


def basic_index(index: Sequence[Any], shape: Sequence[int], name: Name) -> str:
    """An index of ints and slices as text, without numbers that may depend on a size."""
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


def _getitem(op: Operation, name: Name) -> Lines:
    (a, *arrays), (y,), index = op.inputs, op.makes, op.attributes["index"]
    if not is_plain(index, arrays):
        return None
    if not arrays:
        elements = f"{name(a)}[{basic_index(index, a.shape, name)}]"
        return [f"{name(y)}[{'...' if y.shape else '()'}] = {elements}"]
    lines, places, first, last = _located(name(a), index, arrays, name)
    found = _folded(name(y), len(y.shape), first, first + len(arrays[0].shape))
    return [*lines, f"take({_folded(name(a), len(a.shape), first, last)}, {places}, {found})"]


def _scatter(op: Operation, name: Name) -> Lines:
    (g, *arrays), (y,), index = op.inputs, op.makes, op.attributes["index"]
    if not is_plain(index, arrays):
        return None
    if not arrays:
        place = f"{name(y)}[{basic_index(index, y.shape, name)}]"
        return [f"{name(y)}[...] = 0", f"{place} = {name(g)}{'' if g.shape else '[()]'}"]
    lines, places, first, last = _located(name(y), index, arrays, name)
    given = _folded(name(g), len(g.shape), first, first + len(arrays[0].shape))
    return [*lines, f"put({given}, {places}, {_folded(name(y), len(y.shape), first, last)})"]


def _located(
    whole: str, index: Sequence[Any], arrays: Sequence[Value], name: Name
) -> tuple[list[str], str, int, int]:
    """Lines that find where the arrays of an index point to in a whole array, if the dimensions
    that they stand at were one; where that is noted; and these dimensions, from first to last."""
    first = index.index(ARRAY)
    places = name(Value.like("places", arrays[0].shape, np.int64))
    lines = [f"{places}[...] = 0"]
    for k, x in enumerate(arrays):
        given = f"{flat(name(x))}, {whole}.shape[{first + k}], {flat(places)}"
        lines.append(f"bad = locate({given})")
    return lines, flat(places), first, first + len(arrays)


MOVES: dict[str, Callable[[Operation, Name], Lines]] = {
    "reshape": _reshape,
    "permute": _permute,
    "concat": _concat,
    "argmax": _first_extreme,
    "argmin": _first_extreme,
    "getitem": _getitem,
    "scatter": _scatter,
}
