"""The wording of shapes, sizes and counts is the same in all forms of an explanation."""

from collections.abc import Sequence

from ...types import Array
from ..derive.scopes import Scope
from ..derive.steps import Step
from .paths import MANY, magnitude


def call_text(scope: Scope, steps: Sequence[Step]) -> str:
    """Return a folded call's description: its class, and how many records it hides."""
    return f"{scope.kind}, {counted(len(steps), 'record')}"


def shape_text(array: Array) -> str:
    """Return the shape in Python's syntax."""
    return str(tuple(array.shape))


def magnitude_text(array: Array) -> str:
    """Return the largest magnitude among the elements."""
    return f"{magnitude(array):.3g}"


def count_text(n: int) -> str:
    """Return a number of paths or records; paths are not counted beyond MANY."""
    return str(n) if n <= MANY else f"over {MANY:,}"


def counted(n: int, thing: str) -> str:
    """Return a count with its noun, such as "3 paths"."""
    return f"{count_text(n)} {thing}{'s' * (n != 1)}"
