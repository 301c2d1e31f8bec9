"""The kernels' cache on disk: one file for each kernel and signature.

Numba's own cache (`cache=True`) keeps an index apart from its data, so that a killed process or
two that write at once leave entries that crash; it does not see that a helper in another file was
edited, nor whether bounds are checked. Here an entry is one file, written aside and moved into
place, that begins with a digest of all sources and of what follows: one that is broken or stale
is as good as none, and the kernel is compiled and the file replaced.

Undocumented, and checked with Numba 0.61 and 0.68: NullCache, CompileResult._reduce and _rebuild,
rtsys, Dispatcher._cache. Where they differ, the import fails, and jit.py takes Numba's own cache.
"""

import contextlib
import hashlib
import inspect
import os
import pickle
import re
import secrets
import stat
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numba
from numba.core import config, event, serialize
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.runtime.nrt import rtsys

from .outside import bring, called_by

# Numba does not type them.
_dumps: Any = serialize.dumps
_rebuild: Any = CompileResult._rebuild

HERE = Path(__file__).resolve().parent
# What changes machine code, besides source, options, signature and processor.
SETTINGS = ("BOUNDSCHECK", "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT")


def directories() -> dict[Path, int]:
    """Where entries may lie, and the mode to make a directory with.

    All are read, in this order; the first that can be is written. NUMBA_CACHE_DIR alone where it
    is set; else the package's own __pycache__, which whoever installed it may have filled and made
    read-only, and one that belongs to the user alone.
    """
    subfolder = f"minigrad-{hashlib.sha256(os.fsencode(HERE)).hexdigest()[:12]}"
    chosen = getattr(config, "CACHE_DIR", "")
    if chosen:
        return {Path(chosen).absolute() / subfolder: 0o777}
    found = {HERE / "__pycache__": 0o777}
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


def _arguments(method: Any) -> int:
    return len(inspect.signature(method).parameters)


def _digest(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


def _source(*paths: Path) -> bytes:
    """A digest of these files, or nothing where one cannot be read, as in a zipped package."""
    try:
        return _digest(*(path.read_bytes() for path in paths))
    except OSError:
        return b""


# Read at import, so that an edit that follows cannot pass for the source of what is running. Any
# kernel may call helpers in any file here.
_SOURCES = _source(*sorted(HERE.glob("*.py")))
_VERSION = f"2 {numba.__version__}".encode()  # 2: the form of an entry


class DiskCache(NullCache):
    """What a dispatcher asks for machine code before it compiles, and tells what it compiled.

    Nothing that goes wrong here raises: then the kernel is compiled, and at worst not kept.
    """

    def __init__(self, dispatcher: Any) -> None:
        function, options = dispatcher.py_func, dispatcher.targetoptions
        self.name = f"{function.__module__}.{function.__qualname__}"
        # Sets of strings have another order in each process.
        plain = {k: sorted(v) if isinstance(v, set) else v for k, v in options.items()}
        self._options = repr(sorted(plain.items()))
        source = _source(Path(function.__code__.co_filename))
        self._stamp = _digest(_VERSION, _SOURCES, source) if source else b""
        self._path: str | None = None
        self._enabled = function.__closure__ is None  # whose values no source shows

    @property
    def cache_path(self) -> str | None:
        """Where this kernel was last found or put, if it was."""
        return self._path

    def flush(self) -> None:
        """Neither read nor write from now on: Dispatcher.recompile is for changed globals."""
        self._enabled = False

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The kernel compiled for `sig`, or None where it is not there or not to be trusted."""
        with contextlib.suppress(Exception):
            name = self._file(sig, target_context.codegen())
            for directory in directories() if self._enabled else ():
                with contextlib.suppress(Exception):
                    # Numba would refresh the target here, that is, import all that its compiler
                    # can do: 0.3 s. Machine code needs only the runtime's symbols.
                    called, data = self._read(directory / name)
                    bring(called)
                    rtsys.initialize(target_context)
                    result = _rebuild(target_context, *data)
                    self._path = str(directory)
                    return result
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a CompileResult in the first directory that takes it, or warn once in a process."""
        if not self._enabled:
            return
        if data.lifted or data.library.has_dynamic_globals:
            reason = "it uses globals that live in this process only; pass them as arguments"
            warnings.warn(f"minigrad: {self.name} is not kept: {reason}", RuntimeWarning, 2)
            return
        errors: list[object] = [] if self._stamp else ["no sources"]
        try:
            name = self._file(sig, data.codegen)
            content = _dumps((called_by(data.library), data._reduce()))
            content = _digest(self._stamp, content) + content
            for directory, mode in directories().items() if self._stamp else ():
                try:
                    _write(directory, mode, name, content)
                    self._path = str(directory)
                    return
                except OSError as error:
                    errors.append(error)
        except Exception as error:
            errors.append(error)
        _warn_once("; ".join(map(str, errors)))

    def _file(self, sig: Any, codegen: Any) -> str:
        """A name for all that selects machine code; sources and versions replace it instead."""
        settings = [repr(getattr(config, name, None)) for name in SETTINGS]
        processor = codegen.magic_tuple()  # so that machines may share a home
        python = sys.implementation.cache_tag
        key = repr((self.name, self._options, str(sig), settings, processor, python))
        readable = "".join(c if c.isalnum() or c in "._" else "_" for c in self.name)
        return f"{readable[-80:]}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.nbc"

    def _read(self, path: Path) -> Any:
        content = path.read_bytes()
        if content[:32] != _digest(self._stamp, content[32:]):
            raise ValueError(f"{path}: broken, or made from other sources")
        return pickle.loads(content[32:])


def _write(directory: Path, mode: int, name: str, content: bytes) -> None:
    """Whole or not at all, whoever else writes. A process killed meanwhile leaves a .tmp file,
    which a later one removes."""
    directory.mkdir(mode, parents=True, exist_ok=True)
    aside = directory / f"{name}.{secrets.token_hex(8)}.tmp"
    try:
        aside.write_bytes(content)
        _remove_abandoned(aside)
        os.replace(aside, directory / name)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def write_whole(name: str, content: bytes) -> Path | None:
    """A file of this name and content in the first directory that takes it, and where it is; None
    where none does. One that is there with this content is left alone."""
    for directory, mode in directories().items():
        path = directory / name
        with contextlib.suppress(OSError):
            if path.exists() and path.read_bytes() == content:
                return path
            _write(directory, mode, name, content)
            return path
    return None


# As `_write` names them, and no other file, in a folder that may not be ours alone.
_ASIDE = re.compile(r".+-[0-9a-f]{24}\.nbc\.[0-9a-f]{16}\.tmp")
ABANDONED = 3600.0  # seconds; writing takes milliseconds


def _remove_abandoned(written: Path) -> None:
    """Remove the files aside that are much older than this one, by the clock of their disk."""
    with contextlib.suppress(OSError):
        now = written.stat().st_mtime
        for path in written.parent.iterdir():
            if _ASIDE.fullmatch(path.name):
                with contextlib.suppress(OSError):  # somebody else was quicker
                    if now - path.stat().st_mtime > ABANDONED:
                        path.unlink()


_warned = False


def _warn_once(reason: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"minigrad: compiled kernels cannot be kept on disk ({reason}), so each process "
            "compiles them anew; set NUMBA_CACHE_DIR to a directory that can be written",
            RuntimeWarning,
            stacklevel=4,
        )


class Notice:
    """One line in a terminal, once in a process, when compiling has taken a second in all."""

    def __init__(self, patience: float = 1.0) -> None:
        self.patience = patience  # seconds of compiling still to be borne in silence
        self.said = False  # or not to be said
        self._depth = 0  # a kernel may call kernels, which are compiled meanwhile
        self._began = 0.0
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        """A kernel will be compiled; under Numba's lock, like `end`."""
        self._depth += 1
        if self._depth == 1 and not self.said and sys.stderr and sys.stderr.isatty():
            self._began = time.monotonic()
            self._timer = threading.Timer(self.patience, self._say)
            self._timer.daemon = True
            with contextlib.suppress(RuntimeError):  # no thread can be started
                self._timer.start()

    def end(self) -> None:
        """It has been."""
        self._depth -= 1
        if self._depth == 0 and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.patience = max(0.0, self.patience - (time.monotonic() - self._began))

    def _say(self) -> None:
        self.said = True
        print(
            "minigrad: compiling kernels, once on this machine (python -m minigrad.warmup "
            "compiles all ahead)",
            file=sys.stderr,
        )


class Compiling(event.Listener):
    """Tells a Notice when Numba begins and ends to compile a kernel, also where that raises."""

    def __init__(self, notice: Notice) -> None:
        self.notice = notice

    def on_start(self, event: Any) -> None:
        """Numba compiles; under its lock, like `on_end`."""
        if self._ours(event):
            self.notice.begin()

    def on_end(self, event: Any) -> None:
        """It has compiled, or raised."""
        if self._ours(event):
            self.notice.end()

    def _ours(self, event: Any) -> bool:
        return isinstance(getattr(event.data["dispatcher"], "_cache", None), DiskCache)


NOTICE = Notice()
LISTENER = Compiling(NOTICE)
_register: Any = event.register  # untyped
_register("numba:compile", LISTENER)

for _method in ("load_overload", "save_overload"):  # called by Numba with as many arguments
    if _arguments(getattr(NullCache, _method)) != _arguments(getattr(DiskCache, _method)):
        raise ImportError(f"Numba {numba.__version__} has another {_method}")
