"""How shapes, sizes and counts are worded wherever an explanation is shown."""

from collections.abc import Sequence

from ...arrays import Array
from ..derive.scopes import Scope
from ..derive.steps import Step
from .paths import MANY, size


def said_of(scope: Scope, steps: Sequence[Step]) -> str:
    """Return what is said of a folded call: its class, and how many records it hides."""
    return f"{scope.kind}, {counted(len(steps), 'record')}"


def shape_of(array: Array) -> str:
    """Return the shape as Python writes it."""
    return str(tuple(array.shape))


def size_of(array: Array) -> str:
    """Return the largest magnitude among the elements."""
    return f"{size(array):.3g}"


def number_of(n: int) -> str:
    """Return a count, of paths for instance; beyond MANY they are not counted."""
    return str(n) if n <= MANY else f"over {MANY:,}"


def counted(n: int, thing: str) -> str:
    """Return a count with its noun, such as "3 paths"."""
    return f"{number_of(n)} {thing}{'s' * (n != 1)}"
