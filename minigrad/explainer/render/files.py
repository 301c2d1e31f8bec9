"""Write files for the user, whole or not at all."""

import os
from pathlib import Path

from ...errors import DtypeError, FileError
from ...system import write_atomically


def write_text(path: str | os.PathLike[str], text: str, name: str) -> None:
    """Replace a file's contents by text in UTF-8; `name` is the operation that errors name.

    The text goes to another file, which then replaces the first, so no reader sees half of it.
    Errors: FileError, after which the file is as before; DtypeError unless path is a path.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise DtypeError(f"{name}: expected a path, got {type(path).__name__}; pass a str or Path")
    try:
        given = os.fsdecode(path)
        if os.path.basename(given) in ("", ".", ".."):
            raise OSError("it names a folder" if given else "it is empty")
        target = Path(os.path.realpath(given))  # the file that a link points to, not the link
        if target.is_symlink():
            raise OSError("its links form a circle")
        if target.exists() and not (target.is_file() and os.access(target, os.W_OK)):
            raise OSError("it is read-only" if target.is_file() else "it is not a file")
        mode = target.stat().st_mode & 0o7777 if target.exists() else None
        write_atomically(target, text.encode("utf-8"), mode)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise FileError(
            f"{name}: {os.fspath(path)!r} cannot be written ({reason}); give the path of a file in "
            "a folder that exists and that you may write to"
        ) from error
