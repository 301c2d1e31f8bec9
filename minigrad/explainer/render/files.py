"""Files that are written whole or not at all."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

from ...errors import DtypeError, FileError


def write_text(path: Any, text: str, name: str) -> None:
    """Replace a file's contents by text in UTF-8; `name` is the operation that errors name.

    The text goes to another file, which then takes the place of the first, so that no reader meets
    half of it. Errors: FileError, and the file is as before; DtypeError unless path is a path.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise DtypeError(f"{name}: expected a path, got {type(path).__name__}; pass a str or Path")
    aside = None
    try:
        given = os.fsdecode(path)
        if os.path.basename(given) in ("", ".", ".."):
            raise OSError("it names a folder" if given else "it is empty")
        target = Path(os.path.realpath(given))  # a link itself stays
        if target.is_symlink():
            raise OSError("its links form a circle")
        if target.exists() and not (target.is_file() and os.access(target, os.W_OK)):
            raise OSError("it is read-only" if target.is_file() else "it is not a file")
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
    finally:  # also after an interrupt
        if aside is not None:
            with contextlib.suppress(OSError):
                aside.unlink()
