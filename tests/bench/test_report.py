"""The report of benchmarks makes tables, here of a small run by hand, and puts them into a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import report


def one(group: str | None, microseconds: float, **params: str) -> dict[str, Any]:
    """Return a benchmark as pytest-benchmark saves it."""
    return {"group": group, "params": params, "stats": {"median": 1e-6 * microseconds}}


def made() -> dict[str, Any]:
    """Return two shapes, one without the composed form, a network, and a case that is not shown."""
    benchmarks = [
        one("step tiny", 500.0, net="tiny", name="minigrad"),
        one("step tiny", 1000.0, net="tiny", name="torch"),
        one("step wide", 900.0, net="wide", name="minigrad"),
        one("relu forward", 7.0, name="relu", library="minigrad"),
        one("batchnorm-relu both 32x64", 8.0, variant="one op"),
        one("batchnorm both 32x64", 15.0, variant="compiled"),
        one("first step tiny", 9.0, name="minigrad"),
        one(None, 9.0, name="nothing"),
    ]
    for direction, times in (("forward", 1.0), ("backward", 2.0), ("both", 3.0)):
        for shape in ("32x64", "8x64x56x56"):
            benchmarks.append(one(f"batchnorm {direction} {shape}", 10 * times, variant="fused"))
            benchmarks.append(one(f"batchnorm {direction} {shape}", 1234 * times, variant="torch"))
        benchmarks.append(one(f"batchnorm {direction} 32x64", 20 * times, variant="composed"))
    about = {
        "cpu": "A processor", "cores": 2, "versions": {"numpy": "2.0", "numba": "0.68"},
    }  # fmt: skip
    threads = {"numba": 2, "torch": 1}
    return {"benchmarks": benchmarks, "machine_info": {"minigrad": about}, "threads": threads}


SHAPES = """\
| shape | fused | composed | fused, compiled | PyTorch | PyTorch / fused |
| --- | ---: | ---: | ---: | ---: | ---: |
| (32, 64) | 30 | 60 | 15 | 3,702 | 123.40 |
| (8, 64, 56, 56) | 30 |  |  | 3,702 | 123.40 |
"""
STEPS = """\
| network | eager | PyTorch | PyTorch / eager |
| --- | ---: | ---: | ---: |
| tiny | 500 | 1,000 | 2.00 |
| wide | 900 |  |  |
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the path of a saved run."""
    path = tmp_path / "run.json"
    path.write_text(json.dumps(made()))
    return path


def test_tables_show_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows have the order of the run, columns are what was measured, and the machine is named."""
    report.main([str(run)])
    text = capsys.readouterr().out
    assert SHAPES in text and STEPS in text
    assert text.index(STEPS) < text.index(SHAPES)
    assert "A processor, 2 cores; numpy 2.0, numba 0.68; threads: numba 2, torch 1." in text
    assert "bench/speed.png" in text
    assert text.count("\n| ") == 8  # and nothing of the other benchmarks


def test_without_pytorch_there_is_no_ratio() -> None:
    rows = {"tiny": {"minigrad": 1234.4}}
    assert report.table("network", rows, report.STEPS, report.STEP_RATIOS) == [
        "| network | eager |", "| --- | ---: |", "| tiny | 1,234 |"]  # fmt: skip


def test_the_readme_is_replaced_between_its_marks(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the text between the marks is replaced, and a second time changes nothing."""
    drawn = []
    monkeypatch.setattr(report, "plot", lambda run, path: drawn.append(path))
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter ü\n", encoding="utf-8")
    report.main([str(run), "--readme", str(readme)])
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{report.BEGIN}\n![How many times")
    assert text.endswith(f"\n{report.END}\nafter ü\n")
    assert SHAPES in text and STEPS in text and "old" not in text
    assert drawn == [tmp_path / "bench" / "speed.png"]
    report.main([str(run), "--readme", str(readme)])
    assert readme.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("marks", ["", "{0}", "{1}", "{1} {0}"])
def test_a_file_without_marks_is_refused(
    marks: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The file is left as it was, and no plot is drawn."""
    monkeypatch.setattr(report, "plot", None)
    readme = tmp_path / "README.md"
    text = f"text {marks.format(report.BEGIN, report.END)} more"
    readme.write_text(text)
    with pytest.raises(SystemExit) as stopped:
        report.main([str(run), "--readme", str(readme)])
    assert stopped.value.code == 2
    assert f"README.md has no {report.BEGIN}" in capsys.readouterr().err
    assert readme.read_text() == text


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    """The plot has the rows that have a time of PyTorch."""
    pytest.importorskip("matplotlib")
    run = made()
    run["benchmarks"] = [b for b in run["benchmarks"] if "8x64" not in (b["group"] or "")]
    report.plot(run, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
