"""These functions choose the folders of the disk cache, write files and remove old ones."""

import contextlib
import hashlib
import os
import re
import stat
import time
from pathlib import Path

from numba.core import config

from ...system import TEMPORARY, write_atomically

KERNELS = Path(__file__).resolve().parents[1]

DAY = 86400.0
ABANDONED, UNUSED = 3600.0, 90 * DAY  # seconds; writing a file takes milliseconds

# Generated sources and their machine code.
_GENERATED = re.compile(r"(minigrad_.+_[0-9a-f]{16})\.(py|.+-[0-9a-f]{24}\.nbc)")


def directories() -> dict[Path, int]:
    """Return the folders of the cache, each with the mode to create it with.

    Entries are looked up in all of them, in this order, and saved in the first that is writable. If
    NUMBA_CACHE_DIR is set, its subfolder is the only one. Otherwise there are two: the package's
    own __pycache__, which may be filled at installation and read-only, and a folder that is private
    to the user.
    """
    subfolder = f"minigrad-{hashlib.sha256(os.fsencode(KERNELS)).hexdigest()[:12]}"
    chosen = getattr(config, "CACHE_DIR", "")
    if chosen:
        return {Path(chosen).absolute() / subfolder: 0o777}
    found = {KERNELS / "__pycache__": 0o777}
    variable = "LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME"
    user = Path(os.environ.get(variable) or os.path.expanduser("~/.cache")) / subfolder
    if user.is_absolute() and _is_private(user):  # the path is relative if the user has no home
        found[user] = 0o700
    return found


def writable_directory() -> Path | None:
    """Return the first of the folders in which entries can be saved, or None."""
    for folder in directories():
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if existing.is_dir() and os.access(existing, os.W_OK):
            return folder
    return None


def _is_private(path: Path) -> bool:
    """Return whether only the user can write files there, since loading a pickle can run code."""
    if os.name == "nt":  # Windows has no such modes, and profiles are private
        return True
    try:
        found = path.lstat()
    except OSError:
        return True  # it will be created
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return is_own and not found.st_mode & 0o022


def write(directory: Path, mode: int, name: str, content: bytes) -> None:
    """Write a file atomically, then remove old ones. Errors: OSError.

    mode: the mode to create the directory with, if it is missing.
    """
    directory.mkdir(mode, parents=True, exist_ok=True)
    write_atomically(directory / name, content)
    _remove_old(directory / name)


def write_generated(name: str, content: bytes) -> Path | None:
    """Write generated source to the first writable folder, and return its path, or None.

    If the file already has this content, only its time of last use is updated.
    """
    for directory, mode in directories().items():
        path = directory / name
        with contextlib.suppress(OSError):
            if not path.exists() or path.read_bytes() != content:
                write(directory, mode, name, content)
            elif time.time() - path.stat().st_mtime > DAY:
                with contextlib.suppress(OSError):  # the folder is read-only
                    os.utime(path)
            return path
    return None


def _remove_old(written: Path) -> None:
    """Remove temporary files of killed processes, and generated code that has long been unused.

    written: a file that was just written; its time is the current time of the disk's clock.
    """
    with contextlib.suppress(OSError):
        now = written.stat().st_mtime
        generated: dict[str, list[Path]] = {}
        for path in written.parent.iterdir():
            if TEMPORARY.fullmatch(path.name):
                _remove_if_older([path], now - ABANDONED)
            elif found := _GENERATED.fullmatch(path.name):
                generated.setdefault(found[1], []).append(path)
        for paths in generated.values():
            _remove_if_older(paths, now - UNUSED)


def _remove_if_older(paths: list[Path], limit: float) -> None:
    """Remove the files if all of them are older than the limit."""
    with contextlib.suppress(OSError):  # another process removed them first
        if all(path.stat().st_mtime < limit for path in paths):
            for path in paths:
                path.unlink()
