"""Checks of plain arguments, each rule once: integers, numbers and flags, without slips of type.

To Python a bool is an int, but `padding_idx=True` is a slip, here as everywhere. Imports NumPy and
errors only.
"""

import math
import sys
from typing import Any

import numpy as np

from .errors import ArgumentError, DtypeError

LARGEST = sys.float_info.max  # a bound that refuses infinities, NaN and ints beyond any float
ABOVE_0 = math.ulp(0.0)  # the smallest float that is: as a lower bound it refuses 0 alone


def is_integer(value: Any) -> bool:
    """Whether value is an int or an integer of NumPy, but no bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether value is a real number of Python or NumPy, but no bool."""
    return isinstance(value, (float, int, np.floating, np.integer)) and not isinstance(value, bool)


def integer(
    operation: str, name: str, value: Any, low: int, high: int | None = None, hint: str = ""
) -> int:
    """value as an int. Errors: ArgumentError unless it is an integer, low <= value <= high."""
    if is_integer(value) and low <= value and (high is None or value <= high):
        return int(value)
    domain = f"of at least {low}" if high is None else f"from {low} to {high}"
    raise _refusal(operation, name, f"an integer {domain}", value, hint)


def number(
    operation: str,
    name: str,
    value: Any,
    low: float = -LARGEST,
    high: float = LARGEST,
    hint: str = "",
) -> float:
    """value as a float. Errors: ArgumentError unless it is finite and low <= value <= high.

    hint: a remedy for numbers out of the domain, which ends the message.
    """
    # The type first: most are floats, and every training step passes here.
    exact = value if type(value) is float else _exact(value)
    if exact is not None and low <= exact <= high:
        return float(exact)
    if high < LARGEST:
        domain = f"a number between {low} and {high}"
    elif low > -LARGEST:
        domain = f"a finite number {'above 0' if low == ABOVE_0 else f'of at least {low}'}"
    else:
        domain = "a finite number"
    if exact is None:
        hint = "pass an int or a float (of a Tensor .item(): no gradient flows through it here)"
    raise _refusal(operation, name, domain, value, hint)


def flag(operation: str, name: str, value: Any) -> bool:
    """value as a bool. Errors: DtypeError unless it is True or False."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise DtypeError(f"{operation}: {name} must be True or False, got {value!r:.40}")


def _exact(value: Any) -> float | None:
    """A number as Python's, which compares with LARGEST (float32 does not); None if it is none."""
    if not is_number(value):
        return None
    exact: float = value.item() if isinstance(value, np.generic) else value
    return exact


def _refusal(operation: str, name: str, domain: str, value: Any, hint: str) -> ArgumentError:
    remedy = f"; {hint}" if hint else ""
    return ArgumentError(f"{operation}: {name} must be {domain}, got {value!r:.40}{remedy}")
