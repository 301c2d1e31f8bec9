"""pytest-benchmark compares saved runs of the benchmarks; here it runs in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench" / "test_ops.py"
pytest.importorskip("pytest_benchmark")


def run(folder: Path, *options: str) -> str:
    """Run one short benchmark, which saves and looks up runs in `folder`, and return its output."""
    one = ["-k", "relu_small and forward and minigrad", "--benchmark-max-time=0.01"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml"),
         "-p", "no:cacheprovider", str(BENCH), *one, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.exhaustive
def test_runs_are_compared(tmp_path: Path) -> None:
    """What varies on one machine does not make it another; runs of two machines say so."""
    assert "No benchmark files" in run(tmp_path, "--benchmark-compare")
    run(tmp_path, "--benchmark-save=first")
    same = run(tmp_path, "--benchmark-compare")
    assert "machine_info" not in same
    assert "0001_first" in same
    (saved,) = tmp_path.glob(".benchmarks/*/0001_first.json")
    first = json.loads(saved.read_text())
    assert first["threads"]
    first["machine_info"]["minigrad"]["versions"]["numpy"] = "2.0"
    saved.write_text(json.dumps(first))
    other = run(tmp_path, "--benchmark-compare")
    assert "machine_info is different" in other
    assert "0001_first" in other
