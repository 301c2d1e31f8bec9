"""What a traced function returns: its Tensors, and how they are put together."""

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
        return lambda tensors: {k: part(tensors) for k, part in named.items()}
    if result is None or isinstance(result, (str, int, float, np.generic)):
        return lambda tensors: result
    raise TraceError(
        f"compile: the step returns a {type(result).__name__}; return Tensors, numbers and texts, "
        "in tuples, lists and dicts"
    )
