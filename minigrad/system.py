"""These functions write a file atomically, and run code at forks."""

import contextlib
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

F = TypeVar("F", bound=Callable[[], object])

# Matches the temporary files that `write_atomically` leaves if the process is killed.
TEMPORARY = re.compile(r"\.minigrad-[0-9a-f]{16}\.tmp")


def write_atomically(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file atomically: a reader finds the old content or the new one, never a part.

    The content is written to a temporary file in the same folder, which is then renamed.
    mode: the permissions of the file, or None for the default ones. Errors: OSError, after which
    the old file is unchanged.
    """
    temporary = path.with_name(f".minigrad-{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(content)
        if mode is not None:
            temporary.chmod(mode)
        os.replace(temporary, path)
    finally:  # also after an interrupt
        with contextlib.suppress(OSError):
            temporary.unlink()


def after_fork(function: F) -> F:
    """Register a function to be called in every forked child, and return it.

    A child has none of the parent's other threads. A lock that one of them held is never released
    in the child, so the child has to make a new one.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
        os.register_at_fork(after_in_child=function)
    return function


def around_fork(before: Callable[[], object], after: Callable[[], object]) -> None:
    """Register functions to be called before each fork, and afterwards in both processes."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=after, after_in_child=after)
