"""The kernels' cache on disk: one file for each kernel and signature.

Numba's own cache (`cache=True`) keeps an index apart from its data, so that a killed process or
two that write at once leave entries that crash; it does not see that a helper in another file was
edited, nor whether bounds are checked. Here an entry is one file, written aside and moved into
place, that begins with a digest of all sources and of what follows: one that is broken or stale
is as good as none, and the kernel is compiled and the file replaced.

Undocumented, and checked with Numba 0.61 and 0.68: NullCache, CompileResult._reduce and _rebuild,
rtsys, Environment, Dispatcher._cache. Where they differ, the import fails, and decorators.py takes
Numba's own cache.
"""

import contextlib
import hashlib
import inspect
import io
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numba
from numba.core import config, event, serialize
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.environment import Environment
from numba.core.runtime.nrt import rtsys

from .blas import load_alone
from .cache_files import KERNELS, directories, write
from .external_calls import bring, called_by
from .notice import Compiling, Notice

# Numba does not type them.
_dumps: Any = serialize.dumps
_rebuild: Any = CompileResult._rebuild

# What changes machine code, besides source, options, signature and processor.
SETTINGS = ("BOUNDSCHECK", "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT")


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
_SOURCES = _source(*sorted(KERNELS.rglob("*.py")))
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
        load_alone()  # before the compiler begins, and would import it with all of SciPy
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
                    write(directory, mode, name, content)
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
        return _Unpickler(io.BytesIO(content[32:])).load()


class _Unpickler(pickle.Unpickler):
    """Reads machine code without importing what it was compiled from. Numba would import the
    modules of all functions in it, its own as well: these need SciPy, 16 MB and 0.2 s."""

    def find_class(self, module: str, name: str) -> Any:
        """What the entry names."""
        return _environment if name == "_rebuild_env" else super().find_class(module, name)


def _environment(module: str, constants: Any, name: str) -> Any:
    """What machine code has of Python: constants for errors; globals only where Python runs it."""
    found = Environment._memo.get(name)
    if found is None:
        names = vars(sys.modules[module]) if module in sys.modules else {"__name__": module}
        found = Environment(names)
        found.consts[:], found.env_name = constants, name
        Environment._memo[name] = found
    return found


_warned = False


def _warn_once(reason: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"minigrad: compiled kernels cannot be kept on disk ({reason}), so each process "
            "compiles them anew; set NUMBA_CACHE_DIR to a directory that can be written",
            RuntimeWarning,
            stacklevel=5,
        )


LISTENER = Compiling(Notice(), DiskCache)
_register: Any = event.register  # untyped
_register("numba:compile", LISTENER)

for _method in ("load_overload", "save_overload"):  # called by Numba with as many arguments
    if _arguments(getattr(NullCache, _method)) != _arguments(getattr(DiskCache, _method)):
        raise ImportError(f"Numba {numba.__version__} has another {_method}")
