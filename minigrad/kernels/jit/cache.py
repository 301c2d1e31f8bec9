"""The kernels' cache on disk has one file for each kernel and signature.

An entry begins with a digest of all sources and of the content that follows. A broken or stale
entry counts as missing: the kernel is compiled, and the file replaced.

This cache replaces Numba's `cache=True`, for these reasons:
- Numba does not notice that a helper in another file was edited, and runs stale machine code
  (numba#8396). An entry here begins with a digest of all files of minigrad.kernels and of the
  kernel's own file, read when they were imported.
- Numba publishes its index before the data, so a killed process, or two processes that write at
  once, leave entries that crash (numba#4807, #10128). An entry here is one file, which is replaced
  atomically and checked against a digest of its content.
- Numba's key lacks settings such as NUMBA_BOUNDSCHECK.
- In a read-only installation, Numba raises an error (numba#5566). Here, the next folder is tried:
  one that is private to the user, since entries are pickles. If no folder is writable, one warning
  says so.
- To load an entry, Numba imports its compiler and SciPy, which takes most of a first step's time.
- Numba cannot load a generated function, since it imports the function's module by name.

The cache works with broken, truncated and stale entries, killed and racing processes, full disks,
and Ctrl-C while a kernel compiles. `python -m bench.numba_ground` compares it with Numba's cache.

The module relies on undocumented parts of Numba, checked with 0.61 and 0.68: NullCache,
CompileResult._reduce and _rebuild, rtsys, Environment, Dispatcher._cache. If one of them differs,
importing the module fails, and decorators.py uses Numba's own cache.
"""

import contextlib
import hashlib
import inspect
import io
import pickle
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numba
from numba.core import compiler, config, event, serialize
from numba.core.caching import NullCache
from numba.core.environment import Environment
from numba.core.runtime.nrt import rtsys

from .blas import load_blas
from .cache_files import KERNELS, directories, write
from .external_calls import Call, called_by, load_called
from .message import CompileListener, Message
from .numba_types import Codegen, CompileResult, Context, Dispatcher, Signature, Untyped

_dumps: Untyped = serialize.dumps
_rebuild: Untyped = compiler.CompileResult._rebuild

# What an entry holds: the external calls of the code, and the parts of Numba's CompileResult.
Entry = tuple[list[Call], tuple[object, ...]]

# Numba's settings that change machine code.
SETTINGS = ("BOUNDSCHECK", "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT")


def _count_parameters(method: Callable[..., object]) -> int:
    return len(inspect.signature(method).parameters)


def _digest(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


def _source(*paths: Path) -> bytes:
    """Return a digest of these files, or b"" if one cannot be read, as in a zipped package."""
    try:
        return _digest(*(path.read_bytes() for path in paths))
    except OSError:
        return b""


# Read at import, since a later edit does not change the running code. All files are read, since a
# kernel may call helpers in any of them, but not the generated code in the folder of the cache.
_SOURCES = _source(
    *sorted(path for path in KERNELS.rglob("*.py") if path.parent.name != "__pycache__")
)
_VERSION = f"2 {numba.__version__}".encode()  # 2: the version of the file format


class DiskCache(NullCache):
    """A DiskCache loads and saves the machine code of one kernel for its dispatcher.

    No fault of the cache raises an error: the kernel is compiled instead, and at worst not saved.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        function, options = dispatcher.py_func, dispatcher.targetoptions
        self.name = f"{function.__module__}.{function.__qualname__}"
        # The order of a set of strings differs between processes.
        ordered = {k: sorted(v) if isinstance(v, set) else v for k, v in options.items()}
        self._options = repr(sorted(ordered.items()))
        source = _source(Path(function.__code__.co_filename))
        self._stamp = _digest(_VERSION, _SOURCES, source) if source else b""
        self._path: str | None = None
        readable = "".join(c if c.isalnum() or c in "._" else "_" for c in self.name)
        self._readable = readable[-80:]
        self._enabled = function.__closure__ is None  # closure values are not in the source

    @property
    def cache_path(self) -> str | None:
        """Return the folder where this kernel was last loaded or saved, or None."""
        return self._path

    def is_on_disk(self) -> bool:
        """Return whether there is a valid entry for any signature."""
        start = f"{self._readable}-"
        for directory in directories():
            with contextlib.suppress(OSError):
                for path in directory.iterdir():
                    if path.name.startswith(start) and self._is_valid(path.read_bytes()):
                        return True
        return False

    def flush(self) -> None:
        """Stop loading and saving; Dispatcher.recompile calls this after globals have changed."""
        self._enabled = False

    def load_overload(self, sig: Signature, target_context: Context) -> CompileResult | None:
        """Return the kernel compiled for `sig`, or None if no valid entry is found."""
        with contextlib.suppress(Exception):
            name = self._file(sig, target_context.codegen())
            for directory in directories() if self._enabled else ():
                with contextlib.suppress(Exception):
                    called, data = self._read(directory / name)
                    load_called(called)
                    # Numba would refresh the target instead, which imports its whole compiler.
                    # Machine code needs only the symbols of the runtime.
                    rtsys.initialize(target_context)
                    result = _rebuild(target_context, *data)
                    self._path = str(directory)
                    return result
        load_blas()  # otherwise the compiler imports all of SciPy
        return None

    def save_overload(self, sig: Signature, data: CompileResult) -> None:
        """Save a CompileResult in the first writable folder, or warn once in a process."""
        if not self._enabled:
            return
        if data.lifted or data.library.has_dynamic_globals:
            warnings.warn(
                f"minigrad: {self.name} is not saved on disk, as it uses globals that exist in "
                "this process only; pass them as arguments",
                RuntimeWarning,
                stacklevel=2,
            )
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

    def _file(self, sig: Signature, codegen: Codegen) -> str:
        """Return the file name, which depends on the kernel, its signature, options and machine.

        It does not depend on sources and versions, so that a new version replaces the file.
        """
        settings = [repr(getattr(config, name, None)) for name in SETTINGS]
        processor = codegen.magic_tuple()  # since machines may share a home directory
        python = sys.implementation.cache_tag
        key = repr((self.name, self._options, str(sig), settings, processor, python))
        return f"{self._readable}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.nbc"

    def _read(self, path: Path) -> Entry:
        content = path.read_bytes()
        if not self._is_valid(content):
            raise ValueError(f"{path} is broken, or was made from other sources")
        entry: Entry = _Unpickler(io.BytesIO(content[32:])).load()
        return entry

    def _is_valid(self, content: bytes) -> bool:
        """Return whether an entry is whole, and was made from these sources."""
        return content[:32] == _digest(self._stamp, content[32:])


class _Unpickler(pickle.Unpickler):
    """An unpickler that does not import the modules that the machine code was compiled from.

    Numba would import them, and SciPy with its own modules.
    """

    def find_class(self, module: str, name: str) -> object:
        """Return an object that the entry refers to by name."""
        return _environment if name == "_rebuild_env" else super().find_class(module, name)


def _environment(module: str, constants: Sequence[object], name: str) -> Environment:
    """Return the environment of a function, with its constants.

    If the module of the function is imported, the environment has its globals, too.
    """
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
            f"minigrad: compiled kernels cannot be saved on disk ({reason}), so each process "
            "compiles them again; set NUMBA_CACHE_DIR to a directory that can be written",
            RuntimeWarning,
            stacklevel=5,
        )


LISTENER = CompileListener(Message(), DiskCache)
_register: Untyped = event.register
_register("numba:compile", LISTENER)

for _method in ("load_overload", "save_overload"):
    _expected, _ours = getattr(NullCache, _method), getattr(DiskCache, _method)
    if _count_parameters(_expected) != _count_parameters(_ours):
        raise ImportError(f"Numba {numba.__version__} calls {_method} with other arguments")
