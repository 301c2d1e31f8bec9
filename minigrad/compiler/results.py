"""What a traced function returns: its Tensors, and how they are put together."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import TraceError
from ..tensor import Tensor


def taken_apart(result: Any, found: list[Tensor]) -> Callable[[Sequence[Any]], Any]:
    """Gather the Tensors in a result; what puts others in their place.

    Errors: TraceError for what is made of anything but Tensors, numbers and texts.
    """
    if isinstance(result, Tensor):
        found.append(result)
        i = len(found) - 1
        return lambda tensors: tensors[i]
    if isinstance(result, (list, tuple)):
        parts = [taken_apart(x, found) for x in result]
        make: Any = type(result)
        if hasattr(result, "_fields"):
            return lambda tensors: make(*[part(tensors) for part in parts])
        return lambda tensors: make([part(tensors) for part in parts])
    if isinstance(result, Mapping):
        named = {k: taken_apart(x, found) for k, x in result.items()}
        # Of its class, with what that has besides, as the default of a defaultdict.
        empty = copy.copy(result) if isinstance(result, dict) else {}
        empty.clear()
        return lambda tensors: _filled(empty, {k: part(tensors) for k, part in named.items()})
    if result is None or isinstance(result, (str, int, float, np.generic)):
        return lambda tensors: result
    raise TraceError(
        f"compile: the step returns a {type(result).__name__}; return Tensors, numbers and texts, "
        "in tuples, lists and dicts"
    )


def _filled(empty: dict[Any, Any], items: dict[Any, Any]) -> dict[Any, Any]:
    made = copy.copy(empty)
    made.update(items)
    return made
