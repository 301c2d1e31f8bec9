"""A function is called in a new process, with its own environment and folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import machine, process


def test_the_process_is_new() -> None:
    assert "minigrad" in machine.threads()
    assert "minigrad" not in process.call("machine.threads")  # nothing has imported it there


def test_environment(tmp_path: Path) -> None:
    (tmp_path / "only_there.py").touch()
    assert process.call("machine.installed", "only_there", PYTHONPATH=str(tmp_path)) is True
    assert process.call("machine.installed", "only_there") is False


def test_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What the function prints is seen, and is no part of its result."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "own.py").write_text("def double(x):\n    print(1)\n    return [2 * x]")
    assert process.call("own.double", 1.5, folder=tmp_path) == [3.0]
    assert capfd.readouterr().out == "1\n"
    with pytest.raises(subprocess.CalledProcessError):
        process.call("own.double", None, folder=tmp_path)
