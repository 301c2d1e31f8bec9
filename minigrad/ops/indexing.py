"""Read elements by index (getitem), and its transpose: add to elements by index (scatter)."""

import math
from collections.abc import Iterator, Sequence
from string import ascii_lowercase
from typing import SupportsIndex

import numpy as np

from ..checks import is_integer
from ..errors import DtypeError, OutOfRangeError
from ..kernels.indexing import find_outside, scatter_rows
from ..types import Array, Shape
from .builder import Builder, Value
from .elementwise import astype
from .index_steps import ARRAY, FULL, Index, IndexItem, is_one_step, sliced, steps_of
from .primitive import Operand, Primitive, primitive
from .shapes import _permute


def _filled(index: Index, arrays: Sequence[Operand]) -> Index:
    """Return the index with the arrays put in the places marked ARRAY."""
    given = iter(arrays)
    return tuple([next(given) if item == ARRAY else item for item in index])


def _getitem_forward(a: Array, *arrays: Operand, index: Index) -> Operand:
    try:
        return a[_filled(index, arrays)]
    except IndexError as error:
        raise OutOfRangeError(f"getitem: shape {a.shape}: {error}") from error


def _scatter_forward(g: Array, *arrays: Operand, index: Index, shape: Shape) -> Array:
    out = np.zeros(shape, g.dtype)
    if _meets_once(arrays):
        out[_filled(index, arrays)] = g
    else:
        _add_at(out, g, arrays, index)
    return out


def _meets_once(arrays: Sequence[Array]) -> bool:
    """Return whether an index with these arrays certainly selects no element twice."""
    return all(i.dtype == bool for i in arrays) and len(arrays) <= 1


def _add_at(out: Array, g: Array, arrays: Sequence[Operand], index: Index) -> None:
    """Add g to out at the index; an element that is selected repeatedly gets every term."""
    shape, index = out.shape, _filled(index, arrays)
    if _meets_once(arrays):
        out[index] += g
    elif len(index) == 1 and g.dtype.kind == "f" and out.flags.c_contiguous:
        rows = np.ascontiguousarray(index[0], np.int64).reshape(-1)
        rows = np.where(rows < 0, rows + shape[0], rows)
        width = math.prod(shape[1:])
        scatter_rows(
            rows, np.ascontiguousarray(g).reshape(rows.size, width), out.reshape(shape[0], width)
        )
    else:
        np.add.at(out, index, g)


def _getitem_add(
    total: Array, g: Operand, _y: Operand, _a: Operand, *arrays: Operand, index: Index
) -> None:
    _add_at(total, g, arrays, index)


def _getitem_vjp(
    g: Operand, _y: Operand, _a: Operand, *arrays: Operand, wrt: Sequence[int], index: Index
) -> tuple[Operand, ...]:
    return _scatter(g, *arrays, index=index, shape=_a.shape), *[None for _ in arrays]


def _scatter_vjp(
    g: Operand,
    _y: Operand,
    _a: Operand,
    *arrays: Operand,
    wrt: Sequence[int],
    index: Index,
    shape: Shape,
) -> tuple[Operand, ...]:
    return _getitem(g, *arrays, index=index), *[None for _ in arrays]


def _getitem_formula(_a: Operand, *arrays: Operand, index: Index) -> str:
    return f"a[{_written(index)}]"


def _scatter_formula(_a: Operand, *arrays: Operand, index: Index, shape: Shape) -> str:
    return f"scatter(a, s_[{_written(index)}], {shape})"


def _written(index: Index) -> str:
    """Return the text between the brackets; the arrays are named b, c, ..."""
    names = iter(ascii_lowercase[1:])
    return ", ".join(_item(item, names) for item in index) or "()"


def _item(item: object, names: Iterator[str]) -> str:
    if isinstance(item, slice):
        ends = ["" if n is None else str(n) for n in (item.start, item.stop, item.step)]
        return ":".join(ends if ends[2] else ends[:2])
    return next(names) if item == ARRAY else "..." if item is Ellipsis else str(item)


def _write_getitem(write: Builder, a: Value, *arrays: Value, index: Index) -> bool:
    steps = None if is_one_step(index, arrays) else steps_of(write, index, arrays, len(a.shape))
    if steps is None:
        return False
    if any(item != FULL for item in steps.slices):
        like = sliced(a.shape, steps.slices), a.dtype
        a = write(_getitem, a, like=like, index=steps.slices)
    if steps.axes is not None:
        like = tuple(a.shape[i] for i in steps.axes), a.dtype
        a = write(_permute, a, like=like, axes=steps.axes)
    if steps.arrays:
        like = steps.taken(a.shape), a.dtype
        a = write(_getitem, a, *steps.arrays, like=like, index=steps.places)
    write.reshaped(a, write.result.shape, write.result)
    return True


def _write_scatter(write: Builder, g: Value, *arrays: Value, index: Index, shape: Shape) -> bool:
    """Write the steps of getitem in reverse."""
    steps = None if is_one_step(index, arrays) else steps_of(write, index, arrays, len(shape))
    if steps is None:
        return False
    whole, moved = sliced(shape, steps.slices), steps.moved(shape)
    g = write.reshaped(g, steps.taken(moved))
    if steps.arrays:
        like = moved, g.dtype
        g = write(_scatter, g, *steps.arrays, like=like, index=steps.places, shape=moved)
    if steps.axes is not None:
        back = tuple(steps.axes.index(i) for i in range(len(moved)))
        g = write(_permute, g, like=(whole, g.dtype), axes=back)
    if any(item != FULL for item in steps.slices):
        g = write(_scatter, g, like=(shape, g.dtype), index=steps.slices, shape=shape)
    write.reshaped(g, shape, write.result)
    return True


_getitem: Primitive = primitive(
    "getitem",
    _getitem_forward,
    _getitem_vjp,
    "the elements of a at an index; arrays in the index are inputs, too",
    formula=_getitem_formula,
    is_view=True,
    add_cotangent=_getitem_add,
    decompose=_write_getitem,
)
_scatter: Primitive = primitive(
    "scatter",
    _scatter_forward,
    _scatter_vjp,
    "zeros of a shape with a added at an index; an element selected repeatedly gets every term",
    formula=_scatter_formula,
    decompose=_write_scatter,
)


def getitem(x: Operand, index: object) -> Operand:
    """Return x[index] as NumPy does, for ints, slices, None, Ellipsis, integer arrays and masks.

    Basic indices give a view, arrays a copy; index arrays are copied, so that changing them
    later cannot change a gradient. Errors: OutOfRangeError, DtypeError for any other index.
    """
    arrays: list[Operand] = []
    normal = _normal(index, arrays)
    return _getitem(x, *arrays, index=normal)


def scatter(g: Operand, index: object, shape: Shape) -> Operand:
    """Return zeros of a shape with g added at the index. Errors: those of getitem."""
    arrays: list[Operand] = []
    normal = _normal(index, arrays)
    return _scatter(g, *arrays, index=normal, shape=shape)


def _normal(index: object, arrays: list[Operand]) -> Index:
    """Return the index in the form that the primitives take, and append its arrays to `arrays`."""
    items = index if isinstance(index, tuple) else (index,)
    return tuple([_index_item(item, arrays) for item in items])


def _index_item(item: object, arrays: list[Operand]) -> IndexItem:
    """Return the item in that form; if it is an array, append a copy of it to `arrays`."""
    if item is None or item is Ellipsis:
        return item
    if isinstance(item, slice):
        return slice(*[n if n is None else _integer(n) for n in (item.start, item.stop, item.step)])
    if is_integer(item):
        return int(item)
    # A primitive copies integers, so that each call of a compiled step can use other ones. A mask
    # is read here, since the shape of the result depends on it.
    if getattr(getattr(item, "dtype", None), "kind", "") in ("i", "u"):
        arrays.append(astype(item, dtype=np.int64))
        return ARRAY
    array = np.array(item)
    if array.size == 0 and isinstance(item, (list, tuple)):
        array = array.astype(np.int64)
    if array.dtype.kind not in "biu":
        raise DtypeError(
            f"getitem: an index is made of ints, slices, None, Ellipsis, integer or boolean "
            f"arrays; got {array.dtype} from {type(item).__name__}"
            + ("; convert with .astype('int64')" if array.dtype.kind == "f" else "")
        )
    arrays.append(array)
    return ARRAY


def _integer(n: SupportsIndex) -> int:
    try:
        return int(n.__index__())
    except (AttributeError, TypeError):
        raise DtypeError(f"getitem: slices take ints, got {n!r}") from None


# --- checked indices ----------------------------------------------------------------------------


def _in_range_forward(indices: Array, name: str, n: int, ignore_index: int | None) -> Array:
    out = np.empty(indices.shape, np.int64)
    flat = np.ascontiguousarray(indices).reshape(-1)
    ignored = -1 if ignore_index is None else ignore_index
    bad = find_outside(flat, n, ignored, ignore_index is not None, out.reshape(-1))
    if bad >= 0:
        raise out_of_range(name, indices, bad, n, ignore_index)
    return out


_in_range = primitive(
    "in_range",
    _in_range_forward,
    None,
    "the indices, after a check that each is 0 to n - 1 or ignore_index",
    kept=True,
)


def checked_indices(
    name: str, indices: Operand, n: int, ignore_index: int | None = None
) -> Operand:
    """Return a copy of the indices as int64, after a check of their range.

    With an ignore_index they are class labels. Errors: DtypeError unless they are integers,
    OutOfRangeError unless each is 0 to n - 1 or equals ignore_index.
    """
    if indices.dtype.kind not in "iu":
        raise DtypeError(
            f"{name}: indices must be integers, got {indices.dtype}; convert with .astype('int64')"
        )
    if indices.dtype != np.int64:
        indices = astype(indices, dtype=np.int64)  # too large a value becomes negative
    return _in_range(indices, name=name, n=n, ignore_index=ignore_index)


def out_of_range(
    name: str, indices: Array, place: int, n: int, ignore_index: int | None
) -> OutOfRangeError:
    """Return the error for the index or class label at position `place` of the flat array."""
    value = indices.reshape(-1)[place]
    if ignore_index is None:
        position = tuple(int(i) for i in np.unravel_index(place, indices.shape))
        return OutOfRangeError(
            f"{name}: indices must lie in 0..{n - 1}, got {value} at position {position}; the "
            "weight needs a row for each index"
        )
    return OutOfRangeError(
        f"{name}: labels must lie in 0..{n - 1}, got {value} at position {place} (ignore_index is "
        f"{ignore_index}); number classes from 0, or give the input more"
    )
