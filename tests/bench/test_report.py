"""The report of benchmarks makes tables, here of a small run by hand, and puts them into a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import report

Found = dict[str, Any]


def of(**microseconds: float) -> Found:
    """Return the result of a row, as bench.compare writes it."""
    return {"quartiles_us": {name: [0.0, us, 1e9] for name, us in microseconds.items()}}


def made() -> tuple[Found, Found]:
    """Return the results of two networks, one without PyTorch, and of two shapes."""
    about = {"cpu": "A processor", "cores": 2, "versions": {"numpy": "2.0", "numba": "0.68"}}
    machine = {**about, "threads": {"numba": 2, "torch": 1}}
    steps = {
        "tiny": of(minigrad=500.0, torch=1000.0, sklearn=7.0),
        "wide": of(minigrad=900.0),
    }
    norms = {
        "32x64": of(fused=30.0, composed=60.0, compiled=15.0, torch=3702.0),
        "8x64x56x56": of(fused=30.0, torch=3702.0),
    }
    return {"steps": steps, "machine": machine}, {"norms": norms, "machine": machine}


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
def runs(tmp_path: Path) -> list[str]:
    """Return the paths of what the two commands have written."""
    paths = [tmp_path / "steps.json", tmp_path / "norms.json"]
    for path, found in zip(paths, made(), strict=True):
        path.write_text(json.dumps(found))
    return list(map(str, paths))


def test_tables_show_the_run(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Rows have the order of the run, columns are what was measured, and the machine is named."""
    report.main(runs)
    text = capsys.readouterr().out
    assert SHAPES in text and STEPS in text
    assert text.index(STEPS) < text.index(SHAPES)
    assert "A processor, 2 cores; numpy 2.0, numba 0.68; threads: numba 2, torch 1." in text
    assert "bench/speed.png" in text
    assert text.count("\n| ") == 8 and "sklearn" not in text


def test_without_pytorch_there_is_no_ratio() -> None:
    rows = {"tiny": {"minigrad": 1234.4}}
    assert report.table("network", rows, report.STEPS, report.STEP_RATIOS) == [
        "| network | eager |", "| --- | ---: |", "| tiny | 1,234 |"]  # fmt: skip


def test_the_readme_is_replaced_between_its_marks(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the text between the marks is replaced, and a second time changes nothing."""
    drawn = []
    monkeypatch.setattr(report, "plot", lambda steps, norms, path: drawn.append(path))
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter ü\n", encoding="utf-8")
    report.main([*runs, "--readme", str(readme)])
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{report.BEGIN}\n![How many times")
    assert text.endswith(f"\n{report.END}\nafter ü\n")
    assert SHAPES in text and STEPS in text and "old" not in text
    assert drawn == [tmp_path / "bench" / "speed.png"]
    report.main([*runs, "--readme", str(readme)])
    assert readme.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("marks", ["", "{0}", "{1}", "{1} {0}"])
def test_a_file_without_marks_is_refused(
    marks: str,
    runs: list[str],
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
        report.main([*runs, "--readme", str(readme)])
    assert stopped.value.code == 2
    assert f"README.md has no {report.BEGIN}" in capsys.readouterr().err
    assert readme.read_text() == text


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    """The plot has the rows that have a time of PyTorch."""
    pytest.importorskip("matplotlib")
    report.plot(*made(), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
