"""These functions check plain arguments: integers, numbers and flags.

A bool is an int in Python, but `padding_idx=True` is a mistake, and is refused everywhere.
"""

import math
import sys
from typing import TypeGuard

import numpy as np

from .errors import ArgumentError, DtypeError

LARGEST = sys.float_info.max  # a bound that refuses infinities, NaN and ints beyond any float
ABOVE_0 = math.ulp(0.0)  # the smallest positive float: as a lower bound it refuses only 0


def is_integer(value: object) -> TypeGuard[int]:
    """Return whether value is an int or an integer of NumPy, and not a bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether value is a real number of Python or NumPy, and not a bool."""
    return isinstance(value, (float, int, np.floating, np.integer)) and not isinstance(value, bool)


def integer(
    operation: str, name: str, value: object, low: int, high: int | None = None, hint: str = ""
) -> int:
    """Return value as an int. Errors: ArgumentError unless it is one with low <= value <= high."""
    if is_integer(value) and low <= value and (high is None or value <= high):
        return int(value)
    domain = f"of at least {low}" if high is None else f"from {low} to {high}"
    raise _refusal(operation, name, f"an integer {domain}", value, hint)


def number(
    operation: str,
    name: str,
    value: object,
    low: float = -LARGEST,
    high: float = LARGEST,
    hint: str = "",
) -> float:
    """Return value as a float. Errors: ArgumentError unless it is finite and low <= value <= high.

    hint: the remedy that ends the message about a number outside the domain.
    """
    # The type first: most values are floats, and every training step passes here.
    exact = value if type(value) is float else _exact(value)
    if exact is not None and low <= exact <= high:
        return exact * 1.0  # a float; unlike float(exact), it keeps a live number of mg.compile
    if high < LARGEST:
        domain = f"a number between {low} and {high}"
    elif low > -LARGEST:
        domain = f"a finite number {'above 0' if low == ABOVE_0 else f'of at least {low}'}"
    else:
        domain = "a finite number"
    if exact is None:
        hint = "pass an int or a float (of a Tensor .item(): no gradient flows through it here)"
    raise _refusal(operation, name, domain, value, hint)


def flag(operation: str, name: str, value: object) -> bool:
    """Return value as a bool. Errors: DtypeError unless it is True or False."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise DtypeError(f"{operation}: {name} must be True or False, got {value!r:.40}")


def _exact(value: object) -> float | None:
    """Return a number as Python's, which compares with LARGEST (float32 does not), or None."""
    if not is_number(value):
        return None
    exact: float = value.item() if isinstance(value, np.generic) else value
    return exact


def _refusal(operation: str, name: str, domain: str, value: object, hint: str) -> ArgumentError:
    remedy = f"; {hint}" if hint else ""
    return ArgumentError(f"{operation}: {name} must be {domain}, got {value!r:.40}{remedy}")
