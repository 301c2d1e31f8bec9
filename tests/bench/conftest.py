"""The tests of bench/ import it from the root of the project, wherever they are started from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if (ROOT / "bench").exists():
    sys.path.insert(0, str(ROOT))
else:  # as beside an installed package
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def new_processes_start_in_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new process imports bench from the current folder."""
    monkeypatch.chdir(ROOT)
