"""Reading elements by index, and its transpose, adding to elements by index."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import is_integer
from ..errors import DtypeError, OutOfRangeError
from ..kernels.index import scatter_rows
from .primitive import Primitive, primitive

Index = tuple[Any, ...]


def _getitem_forward(a: NDArray[Any], index: Index) -> Any:
    try:
        return a[index]
    except IndexError as error:
        raise OutOfRangeError(f"getitem: shape {a.shape}: {error}") from error


def _scatter_forward(g: NDArray[Any], index: Index, shape: tuple[int, ...]) -> NDArray[Any]:
    out = np.zeros(shape, g.dtype)
    arrays = [i for i in index if isinstance(i, np.ndarray)]
    if all(i.dtype == bool for i in arrays) and len(arrays) <= 1:
        out[index] = g  # no element is met twice
    elif len(index) == 1 and g.dtype.kind == "f":
        rows = np.ascontiguousarray(index[0], np.int64).reshape(-1)
        rows = np.where(rows < 0, rows + shape[0], rows)
        width = math.prod(shape[1:])
        scatter_rows(
            rows, np.ascontiguousarray(g).reshape(rows.size, width), out.reshape(shape[0], width)
        )
    else:
        np.add.at(out, index, g)
    return out


_getitem = primitive(
    "getitem",
    _getitem_forward,
    (lambda g, _y, _a, index: _scatter(g, index=index, shape=_a.shape),),
    "elements of a at an index",
    formula="a[index]",
    is_view=True,
)
_scatter: Primitive = primitive(
    "scatter",
    _scatter_forward,
    (lambda g, _y, _a, index, shape: _getitem(g, index=index),),
    "zeros of a shape, with a added at an index, repeatedly where it repeats",
)


def getitem(x: Any, index: Any) -> Any:
    """x[index] with NumPy's meaning: ints, slices, None, Ellipsis, integer arrays, boolean masks.

    Basic indices give a view, arrays a copy; index arrays are copied, so that changing them
    later cannot change a gradient. Errors: OutOfRangeError, DtypeError for any other index.
    """
    items = index if isinstance(index, tuple) else (index,)
    return _getitem(x, index=tuple([_index_item(item) for item in items]))


def _index_item(item: Any) -> Any:
    if item is None or item is Ellipsis:
        return item
    if isinstance(item, slice):
        return slice(*[n if n is None else _integer(n) for n in (item.start, item.stop, item.step)])
    if is_integer(item):
        return int(item)
    array = np.array(item)
    if array.size == 0 and isinstance(item, (list, tuple)):
        array = array.astype(np.int64)
    if array.dtype.kind not in "biu":
        raise DtypeError(
            f"getitem: an index is made of ints, slices, None, Ellipsis, integer or boolean "
            f"arrays; got {array.dtype} from {type(item).__name__}"
            + ("; convert with .astype('int64')" if array.dtype.kind == "f" else "")
        )
    return array


def _integer(n: Any) -> int:
    try:
        return int(n.__index__())
    except (AttributeError, TypeError):
        raise DtypeError(f"getitem: slices take ints, got {n!r}") from None


def check_indices(name: str, indices: NDArray[Any], n: int) -> None:
    """Errors unless `indices`, of n rows, are integers from 0 to n - 1."""
    if indices.dtype.kind not in "iu":
        raise DtypeError(
            f"{name}: indices must be integers, got {indices.dtype}; convert with .astype('int64')"
        )
    if indices.size and not (indices.min() >= 0 and indices.max() < n):
        position = tuple(int(i) for i in np.argwhere((indices < 0) | (indices >= n))[0])
        raise OutOfRangeError(
            f"{name}: indices must lie in 0..{n - 1}, got {indices[position]} at position "
            f"{position}; the weight needs a row for each index"
        )
