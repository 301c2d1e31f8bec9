"""What minigrad asks of the operating system: files that are written whole, and forked children."""

import contextlib
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

F = TypeVar("F", bound=Callable[[], object])

# The names of the files that `write_atomically` leaves behind when the process is killed.
TEMPORARY = re.compile(r"\.minigrad-[0-9a-f]{16}\.tmp")


def write_atomically(path: Path, content: bytes, mode: int | None = None) -> None:
    """Replace a file by one with this content; no reader ever finds half of it.

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
    """Call this function in every forked child, where the other threads of the parent are missing.

    A lock that one of them held is never released there, so the child has to make a new one.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
        os.register_at_fork(after_in_child=function)
    return function
