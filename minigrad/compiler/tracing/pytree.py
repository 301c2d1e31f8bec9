"""`flatten` turns the result of a traced function into a list of Tensors and an `unflatten`.

`parts` lists what a result consists of, so that two results can be compared.
"""

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ...engine.tensor import Tensor
from ...errors import TraceError
from ..ir.live_numbers import plain

_DICTS = (dict, OrderedDict, defaultdict)

K = TypeVar("K")
V = TypeVar("V")
Unflatten: TypeAlias = Callable[[Sequence[Any]], Any]  # from Tensors, or Values, to a user's result


def flatten(result: Any, found: list[Tensor]) -> Unflatten:
    """Append the Tensors in a result to `found`, and return its `unflatten`.

    unflatten: it gets other Tensors in the same order, and returns the result with them.

    Errors: TraceError if the result has anything but Tensors, numbers, texts and None in tuples,
    lists and dicts.
    """
    if isinstance(result, Tensor):
        found.append(result)
        i = len(found) - 1
        return lambda tensors: tensors[i]
    kind: Any = type(result)
    if kind in (list, tuple) or (isinstance(result, tuple) and hasattr(kind, "_make")):
        parts = [flatten(x, found) for x in result]
        make = getattr(kind, "_make", kind)  # named tuples are built by `_make`
        return lambda tensors: make([part(tensors) for part in parts])
    if kind in _DICTS:
        named = {plain(k): flatten(x, found) for k, x in result.items()}
        empty = copy.copy(result)  # copied, since a defaultdict has a default
        empty.clear()
        return lambda tensors: _filled(empty, {k: part(tensors) for k, part in named.items()})
    if result is None or isinstance(result, (str, int, float, np.generic)):
        return lambda tensors: plain(result)
    raise TraceError(
        f"compile: the step returns a {kind.__name__}; return Tensors, numbers and texts, in "
        "tuples, lists and dicts of Python's own classes, and make other things of them outside"
    )


def _filled(empty: dict[K, V], items: dict[K, V]) -> dict[K, V]:
    made = copy.copy(empty)
    made.update(items)
    return made


def parts(result: Any, place: str = "result") -> Iterator[tuple[str, object]]:
    """Yield the place of each container and leaf of a result, and the leaf.

    In place of a container comes a tuple of its class and a text with its length or its keys.
    """
    if not isinstance(result, (tuple, list, dict)):
        yield place, result
        return
    is_dict = isinstance(result, dict)
    items = dict(result if is_dict else enumerate(result))
    yield place, (type(result), f"the keys {[*items]}" if is_dict else f"length {len(items)}")
    for key, x in items.items():
        yield from parts(x, f"{place}[{key!r}]")
