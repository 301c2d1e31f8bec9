"""mg.show_config says what minigrad runs on, and never fails."""

import json
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError
from minigrad.functional import config
from minigrad.kernels.jit import cache_files
from minigrad.kernels.threading import blas


def test_what_is_returned_and_printed(capsys):
    found = mg.show_config("dicts")
    assert found["versions"]["minigrad"] == mg.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["threads"]["minigrad"] == mg.get_num_threads()
    assert mg.show_config() is None
    printed = capsys.readouterr().out.splitlines()
    assert f"  numpy: {np.__version__}" in printed
    assert f"cache: {found['cache']}" in printed
    for package in ("numpy", "scipy"):
        about = found["blas"][package]
        assert [f"    {name}: {value}" for name, value in about.items()] == [
            line for line in printed[printed.index(f"  {package}:") :] if line[:4] == " " * 4
        ][:3]
    json.dumps(found)  # plain values only


def test_threads_that_change():
    before = mg.get_num_threads()
    mg.set_num_threads(5)
    assert mg.show_config("dicts")["threads"]["minigrad"] == 5
    mg.set_num_threads(before)


def test_an_unknown_mode():
    with pytest.raises(ArgumentError, match="mode is 'json'; expected 'stdout' or 'dicts'"):
        mg.show_config("json")


def test_a_blas_that_cannot_be_controlled(monkeypatch):
    monkeypatch.setattr(config, "openblas_of", lambda module: {})
    monkeypatch.setattr(config, "blas_limit", lambda: blas.NO_LIMIT)
    for about in mg.show_config("dicts")["blas"].values():
        assert about["control"].startswith("left alone: ")
        assert about["threads"] == "unknown"
        assert about["library"] != "unknown"  # NumPy and SciPy know what they were built with


def test_whatever_fails_is_unknown(monkeypatch, capsys):
    def fails(*_):
        raise RuntimeError

    for name in ("openblas_of", "blas_limit", "writable_directory"):
        monkeypatch.setattr(config, name, fails)
    monkeypatch.setattr(np, "show_config", fails)
    monkeypatch.setattr(config.importlib.metadata, "version", fails)
    found = mg.show_config("dicts")
    assert found["cache"] == found["blas"]["numpy"]["library"] == "unknown"
    assert found["versions"]["scipy"] == "unknown"
    mg.show_config()
    assert "cache: unknown" in capsys.readouterr().out


def test_the_folder_of_the_cache(monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.touch()
    wanted = tmp_path / "new" / "folder"
    monkeypatch.setattr(cache_files, "directories", lambda: {file / "below": 0o777, wanted: 0o777})
    assert mg.show_config("dicts")["cache"] == str(wanted)
    monkeypatch.setattr(cache_files.os, "access", lambda path, mode: path != tmp_path)
    assert mg.show_config("dicts")["cache"].startswith("none: ")
    monkeypatch.undo()
    monkeypatch.setattr(cache_files, "directories", lambda: {file / "below": 0o777})
    assert mg.show_config("dicts")["cache"].startswith("none: ")


@pytest.mark.parametrize("variable", ["", "NUMBA_DISABLE_JIT"])
def test_in_a_process_of_its_own(variable):
    code = "import minigrad as mg; mg.show_config()"
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path), variable or "X": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert ("NUMBA_DISABLE_JIT is set" in done.stdout) == bool(variable)
