"""The cache of compiled kernels is tested within one process, where coverage measures it."""

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from minigrad import system
from minigrad.kernels.jit import cache, cache_files, message
from minigrad.kernels.jit.decorators import kernel


def _add(a: Any, out: Any) -> None:
    for i in range(a.size):
        out[i] += a[i]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the cache, with compiling turned on."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 0)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.setattr(cache, "_warned", False)
    return tmp_path / "kept"


def called(add: Any) -> tuple[bool, str | None]:
    """Return whether a first call loaded the kernel, and where it is kept afterwards."""
    out = np.ones(2)
    add(np.arange(2.0), out)
    assert out.tolist() == [1.0, 2.0]
    return bool(add.stats.cache_hits), add.stats.cache_path


def test_kept_loaded_broken_and_replaced(folder: Path) -> None:
    loaded, path = called(kernel(_add))
    assert not loaded and path is not None and Path(path).parent == folder
    assert called(kernel(_add)) == (True, path)
    (entry,) = Path(path).iterdir()
    entry.write_bytes(entry.read_bytes() + b"more, which a pickle would not mind")
    assert called(kernel(_add)) == (False, path)
    assert called(kernel(_add)) == (True, path)


def test_another_numba_compiles_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = called(kernel(_add))
    monkeypatch.setattr(cache, "_VERSION", b"another")
    assert called(kernel(_add)) == (False, path)
    assert len(list(Path(str(path)).iterdir())) == 1


def test_two_writers_of_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def interrupted(*paths: Any) -> None:
        monkeypatch.setattr(os, "replace", replace)
        cache_files.write(tmp_path, 0o700, "entry", b"second")
        replace(*paths)

    monkeypatch.setattr(os, "replace", interrupted)
    cache_files.write(tmp_path, 0o700, "entry", b"first")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"first"]


def test_recompiling_for_changed_globals_neither_loads_nor_keeps(folder: Path) -> None:
    add: Any = kernel(_add)
    _, path = called(add)
    (entry,) = Path(str(path)).iterdir()
    entry.unlink()
    add.recompile()
    assert not entry.exists()


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    folder.touch()
    add: Any = kernel(_add)
    with pytest.warns(RuntimeWarning, match="saved on disk.*set NUMBA_CACHE_DIR"):
        assert called(add) == (False, None)
    called(kernel(_add))  # warns no more


def test_a_full_disk_leaves_nothing_half_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*paths: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(RuntimeWarning, match="no space left"):
        called(kernel(_add))
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_source_that_cannot_be_read(folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "nowhere"}
    exec(compile("def _add(a, out):\n    out += a\n", "/nowhere.py", "exec"), names)
    with pytest.warns(RuntimeWarning, match="no sources"):
        assert called(kernel(names["_add"])) == (False, None)


def test_the_users_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    variable = "LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME"
    monkeypatch.setenv(variable, str(tmp_path))
    package, user = cache_files.directories()
    assert package == cache_files.KERNELS / "__pycache__"
    assert user.parent == tmp_path and not user.exists()
    user.mkdir(0o700)
    assert user in cache_files.directories()
    if os.name != "nt":
        user.chmod(0o770)
        assert user not in cache_files.directories()
    monkeypatch.setenv(variable, "relative")
    assert list(cache_files.directories()) == [package]


def test_what_killed_processes_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    """Nothing else is removed: no younger file, no entry, and no .tmp of another program."""
    entry = f"minigrad.kernels.relu._relu-{24 * '0'}.nbc"
    old = [f".minigrad-{16 * c}.tmp" for c in "0a"]
    young = f".minigrad-{16 * '1'}.tmp"
    others = ["other.tmp", f"{entry}.tmp", f".minigrad-{16 * 'x'}.tmp", f".other-{16 * '0'}.tmp"]
    now = time.time()
    for name in (*old, young, entry, *others):
        (tmp_path / name).write_bytes(b"half")
        age = 60 if name == young else 2 * cache_files.ABANDONED
        os.utime(tmp_path / name, (now - age, now - age))
    cache_files.write(tmp_path, 0o700, "new", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [young, entry, *others, "new"]
    )
    assert (tmp_path / entry).read_bytes() == b"half"


def test_the_names_of_temporary_files_are_those_that_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[str] = []
    monkeypatch.setattr(os, "replace", lambda source, target: left.append(Path(source).name))
    system.write_atomically(tmp_path / "entry", b"whole")
    assert [bool(system.TEMPORARY.fullmatch(name)) for name in left] == [True]


def test_generated_code_that_is_not_used_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    source = cache_files.write_generated(f"minigrad_step_{16 * '0'}.py", b"used")
    assert source is not None
    folder, now = source.parent, time.time()
    code = f"{source.stem}.step-{24 * '0'}.nbc"
    unused = [f"minigrad_step_{16 * '1'}.{end}" for end in ("py", f"step-{24 * 'a'}.nbc")]
    fresh = [f"minigrad_step_{16 * '2'}.{end}" for end in ("py", f"step-{24 * 'a'}.nbc")]
    others = ["minigrad_step.py", f"other_{16 * '1'}.py", f"minigrad.kernels.sgd-{24 * '0'}.nbc"]
    for name in (code, *unused, *fresh, *others):
        (folder / name).touch()
    for path in folder.iterdir():
        age = 0.0 if path.name == fresh[1] else 2 * cache_files.UNUSED
        os.utime(path, (now - age, now - age))
    assert cache_files.write_generated(source.name, b"used") == source
    cache_files.write_generated(f"minigrad_step_{16 * '3'}.py", b"new")
    kept = [source.name, code, *fresh, *others, f"minigrad_step_{16 * '3'}.py"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


def test_a_file_that_cannot_be_removed_does_no_harm(tmp_path: Path) -> None:
    for i in range(16):  # some in the way of others, in whatever order they are listed
        left = tmp_path / f".minigrad-{i:016x}.tmp"
        left.mkdir() if i % 2 else left.touch()
        os.utime(left, (0, 0))
    cache_files.write(tmp_path, 0o700, "new", b"whole")
    found = list(tmp_path.iterdir())
    assert len(found) == 9 and [path.name for path in found if path.is_file()] == ["new"]


class Terminal(io.StringIO):
    """A Terminal is a standard error that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "times", "lines"),
    [
        (Terminal, [0.5, 0.5], 1),  # once only
        (Terminal, [0.12, 0.12, 0.12], 1),  # in all
        (Terminal, [0.02, 0.02], 0),
        (io.StringIO, [0.5], 0),
    ],
)
def test_a_terminal_hears_of_it_once_when_compiling_takes_long(
    stream: Any, times: list[float], lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream())
    ours = message.Message(patience=0.3)
    for seconds in times:
        ours.begin()
        ours.begin()  # a kernel that calls a kernel
        ours.end()
        time.sleep(seconds)
        ours.end()
    time.sleep(0.4)  # nothing is said when nothing compiles
    said = sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(said) == lines
    assert all("compiling kernels" in line for line in said)


def timers() -> list[threading.Timer]:
    """Return the timers that will print the line; one that was cancelled may still end."""
    found = [t for t in threading.enumerate() if isinstance(t, threading.Timer)]
    return [t for t in found if not t.finished.is_set()]


def _untypable(a: Any, out: Any) -> None:
    out[0] = a.no_such_attribute


def test_compiling_that_raises_ends_as_well(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the line would appear later, and stay, while nothing is compiled."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    ours = message.Message(patience=60.0)
    monkeypatch.setattr(cache.LISTENER, "message", ours)
    calls: list[str] = []
    for name in ("begin", "end"):
        call = getattr(ours, name)
        monkeypatch.setattr(ours, name, lambda name=name, call=call: (calls.append(name), call()))
    untypable: Any = kernel(_untypable)
    for count in (1, 2):
        with pytest.raises(numba.TypingError):
            untypable(np.arange(2.0), np.ones(2))
        assert calls == ["begin", "end"] * count and not timers()
    called(kernel(_add))
    assert calls == ["begin", "end"] * 3 and 0 < ours.patience < 60.0
    called(kernel(_add))  # loaded
    numba.njit(_add)(np.arange(2.0), np.ones(2))  # somebody else's
    assert calls == ["begin", "end"] * 3


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Let a Ctrl-C come in the middle of each compilation from now on."""

    def interrupted(listener: Any, event: Any) -> None:
        on_start(listener, event)
        signal.raise_signal(signal.SIGINT)

    on_start = message.CompileListener.on_start
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: monkeypatch.setattr(message.CompileListener, "on_start", interrupted)
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_waits_until_a_kernel_is_kept(folder: Path, interrupt: Callable[[], None]) -> None:
    """If interrupted, Numba could compile nothing any more, or the process would crash."""
    first, other = kernel(_add), kernel(_untypable)
    interrupt()
    with pytest.raises(KeyboardInterrupt):
        called(first)
    assert len(first.signatures) == 1 and called(kernel(_add))[0]
    with pytest.raises(KeyboardInterrupt) as raised:  # rather than the error alone
        other(np.arange(2.0), np.ones(2))
    assert isinstance(raised.value.__context__, numba.TypingError)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_that_is_ignored_or_of_another_thread(
    folder: Path, interrupt: Callable[[], None]
) -> None:
    interrupt()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert not called(kernel(_add))[0]
    signal.signal(signal.SIGINT, lambda *_: came.append(threading.current_thread()))
    came: list[threading.Thread] = []
    found = []
    thread = threading.Thread(target=lambda: found.append(called(kernel(_add))))
    thread.start()
    thread.join()
    assert found[0][0] and came == []  # it was loaded
    with pytest.raises(numba.TypingError):
        kernel(_untypable)(np.arange(2.0), np.ones(2))
    assert came == [threading.current_thread()]


def test_compiling_goes_on_where_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(timer: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(message.threading.Timer, "start", fail)
    ours = message.Message()
    ours.begin()
    ours.end()
    monkeypatch.undo()
    monkeypatch.setattr(sys, "stderr", Terminal())
    ours.begin()
    assert not ours.is_done and len(timers()) == 1
    ours.end()
    assert not timers()


# --- profile functions --------------------------------------------------------------------------


def test_a_profile_function_does_not_see_the_compiler(folder: Path) -> None:
    """It would take most of the time; a trace sets one, to see the functions that a step calls."""
    entered: set[str] = set()

    def profile(frame: Any, _event: str, _arg: object) -> None:
        entered.add(frame.f_code.co_name)

    before = sys.getprofile()
    for loads in False, True:
        add = kernel(_add)
        sys.setprofile(profile)
        try:
            assert called(add)[0] == loads
            assert sys.getprofile() is profile
            with pytest.raises(numba.TypingError):
                kernel(_untypable)(np.arange(2.0), np.ones(2))
            assert sys.getprofile() is profile
        finally:
            sys.setprofile(before)
    assert "called" in entered
    assert not entered & {"load_overload", "compile_extra", "save_overload"}, entered
