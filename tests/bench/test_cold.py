"""The first step is timed in new processes, by what the disk has before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import first


def test_caches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each round begins with an empty folder; generated code goes before the second process."""
    seen: list[tuple[str, str, list[str]]] = []

    def call(function: str, name: str, net: str, NUMBA_CACHE_DIR: str) -> list[float]:
        folder = Path(NUMBA_CACHE_DIR, "kernels")
        files = sorted(path.name for path in folder.glob("*"))
        folder.mkdir(exist_ok=True)
        (folder / "minigrad_step_1.py").touch()
        (folder / "softmax.nbi").touch()
        seen.append((function, name, files))
        seconds = {"numba-plain": 1.0, "minigrad": 3.0}[name]
        return [seconds * (1 if len(files) < 2 else 0.5), 100.0]

    monkeypatch.setattr(first, "call", call)
    found: dict[str, Any] = first.compare_cold("tiny", ["numba-plain", "minigrad"], 2)
    files = [[], ["softmax.nbi"], ["minigrad_step_1.py", "softmax.nbi"]]
    order = ["numba-plain", "minigrad", "minigrad", "numba-plain"]
    assert seen == [("first.first_calls", name, there) for name in order for there in files]
    seconds = {"nothing": 3.0, "kernels": 3.0, "everything": 1.5}
    assert found["minigrad"] == {"seconds": seconds, "ratios": dict.fromkeys(seconds, 3.0)}
    assert found["numba-plain"]["ratios"] == dict.fromkeys(seconds, 1.0)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split() == ["minigrad", "3.00", "3.0", "3.00", "3.0", "1.50", "3.0"]
