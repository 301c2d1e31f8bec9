"""Files that are written whole or not at all."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

from ...errors import DtypeError, FileError


def write_text(path: Any, text: str, name: str) -> None:
    """Put this text, as UTF-8, in place of what the file holds; `name` is who says so in errors.

    Written aside and moved into place, so that nobody ever meets half of it. Errors: FileError,
    and what was there stays; DtypeError for what is no path.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise DtypeError(f"{name}: expected a path, got {type(path).__name__}; pass a str or Path")
    aside = None
    try:
        given = os.fsdecode(path)
        if os.path.basename(given) in ("", ".", ".."):
            raise OSError("it names a folder" if given else "it is empty")
        target = Path(os.path.realpath(given))  # what a link points to is to change, not the link
        if target.is_symlink():
            raise OSError("its links go round in a circle")
        if target.exists() and not (target.is_file() and os.access(target, os.W_OK)):
            raise OSError("it is read-only" if target.is_file() else "it is no file")
        aside = target.with_name(f".{secrets.token_hex(8)}.tmp")
        aside.write_text(text, encoding="utf-8", newline="\n")
        if target.exists():
            aside.chmod(target.stat().st_mode & 0o7777)
        os.replace(aside, target)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise FileError(
            f"{name}: {os.fspath(path)!r} cannot be written ({reason}); give the path of a file in "
            "a folder that exists and that you may write to"
        ) from error
    finally:  # also where somebody interrupts it
        if aside is not None:
            with contextlib.suppress(OSError):
                aside.unlink()
