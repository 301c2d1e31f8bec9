"""The folders of the cache on disk, and how its files come into them, and go."""

import contextlib
import hashlib
import os
import re
import secrets
import stat
import time
from pathlib import Path

from numba.core import config

KERNELS = Path(__file__).resolve().parents[1]


def directories() -> dict[Path, int]:
    """Where entries may lie, and the mode to make a directory with.

    All are read, in this order; the first that can be is written. NUMBA_CACHE_DIR alone where it
    is set; else the package's own __pycache__, which whoever installed it may have filled and made
    read-only, and one that belongs to the user alone.
    """
    subfolder = f"minigrad-{hashlib.sha256(os.fsencode(KERNELS)).hexdigest()[:12]}"
    chosen = getattr(config, "CACHE_DIR", "")
    if chosen:
        return {Path(chosen).absolute() / subfolder: 0o777}
    found = {KERNELS / "__pycache__": 0o777}
    variable = "LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME"
    user = Path(os.environ.get(variable) or os.path.expanduser("~/.cache")) / subfolder
    if user.is_absolute() and _is_private(user):  # relative without a home
        found[user] = 0o700
    return found


def _is_private(path: Path) -> bool:
    """Whether nobody else can have put files there, since loading a pickle can run anything."""
    if os.name == "nt":  # no such modes; profiles are private
        return True
    try:
        found = path.lstat()
    except OSError:
        return True  # to be made
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return mine and not found.st_mode & 0o022


def write(directory: Path, mode: int, name: str, content: bytes) -> None:
    """Whole or not at all, whoever else writes. A process killed meanwhile leaves a .tmp file,
    which a later one removes. Errors: OSError."""
    directory.mkdir(mode, parents=True, exist_ok=True)
    aside = directory / f"{name}.{secrets.token_hex(8)}.tmp"
    try:
        aside.write_bytes(content)
        _remove_old(aside)
        os.replace(aside, directory / name)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def write_generated(name: str, content: bytes) -> Path | None:
    """A file of this name and content in the first directory that takes it, and where it is; None
    where none does. One that is there with this content is only marked as used."""
    for directory, mode in directories().items():
        path = directory / name
        with contextlib.suppress(OSError):
            if not path.exists() or path.read_bytes() != content:
                write(directory, mode, name, content)
            elif time.time() - path.stat().st_mtime > DAY:
                with contextlib.suppress(OSError):  # a folder for reading only
                    os.utime(path)
            return path
    return None


# As `write` names them, and no other file, in a folder that may not be ours alone.
_ASIDE = re.compile(r"(.+-[0-9a-f]{24}\.nbc|minigrad_.+_[0-9a-f]{16}\.py)\.[0-9a-f]{16}\.tmp")
# Generated sources and their machine code.
_GENERATED = re.compile(r"(minigrad_.+_[0-9a-f]{16})\.(py|.+-[0-9a-f]{24}\.nbc)")
DAY = 86400.0
ABANDONED, UNUSED = 3600.0, 90 * DAY  # seconds; writing takes milliseconds


def _remove_old(written: Path) -> None:
    """Remove what nobody will miss, by the clock of the disk where this was written: files aside
    that killed processes have left, and generated code that was not used for long."""
    with contextlib.suppress(OSError):
        now = written.stat().st_mtime
        generated: dict[str, list[Path]] = {}
        for path in written.parent.iterdir():
            if _ASIDE.fullmatch(path.name):
                _remove_older([path], now - ABANDONED)
            elif found := _GENERATED.fullmatch(path.name):
                generated.setdefault(found[1], []).append(path)
        for paths in generated.values():
            _remove_older(paths, now - UNUSED)


def _remove_older(paths: list[Path], than: float) -> None:
    """Remove files, if all of them are older."""
    with contextlib.suppress(OSError):  # somebody else was quicker
        if all(path.stat().st_mtime < than for path in paths):
            for path in paths:
                path.unlink()
