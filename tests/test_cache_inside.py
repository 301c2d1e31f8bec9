"""The cache of compiled kernels within one process, also where coverage looks on."""

import io
import os
import sys
import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from minigrad.kernels import cache
from minigrad.kernels.cache import Notice
from minigrad.kernels.jit import kernel


def _add(a: Any, out: Any) -> None:
    for i in range(a.size):
        out[i] += a[i]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of the cache; compiling is on in any case."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 0)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.setattr(cache, "_warned", False)
    return tmp_path / "kept"


def called(add: Any) -> tuple[bool, str | None]:
    """Whether a first call loaded the kernel, and where it is kept after that."""
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
        cache._write(tmp_path, 0o700, "entry", b"second")
        replace(*paths)

    monkeypatch.setattr(os, "replace", interrupted)
    cache._write(tmp_path, 0o700, "entry", b"first")
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
    with pytest.warns(RuntimeWarning, match="kept on disk.*kept.*set NUMBA_CACHE_DIR"):
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
    package, user = cache.directories()
    assert package == cache.HERE / "__pycache__"
    assert user.parent == tmp_path and not user.exists()
    user.mkdir(0o700)
    assert user in cache.directories()
    if os.name != "nt":
        user.chmod(0o770)
        assert user not in cache.directories()
    monkeypatch.setenv(variable, "relative")
    assert list(cache.directories()) == [package]


class Terminal(io.StringIO):
    """A standard error that a person looks at."""

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
    notice = Notice(patience=0.3)
    for seconds in times:
        notice.begin()
        notice.begin()  # a kernel that calls a kernel
        notice.end()
        time.sleep(seconds)
        notice.end()
    time.sleep(0.4)  # nothing is said when nothing compiles
    said = sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(said) == lines
    assert all("compiling kernels" in line for line in said)
