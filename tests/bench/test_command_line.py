"""`python -m bench.compare` runs the command that is asked for, and writes its figures as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import compare, first, norms, overhead, steps

GIVEN = {
    ("overhead", "--programs", "tiny"): (overhead, "compare_overhead", (["tiny"], 25)),
    ("cold", "--names", "minigrad"): (
        first,
        "compare_cold",
        ("digits", ["numba-plain", "minigrad"], 3),
    ),
    ("norms", "--shapes", "32x64"): (norms, "compare_norms", (["32x64"], 40)),
    ("--steps", "tiny", "--peers", ""): (steps, "compare_steps", (["tiny"], ["minigrad"], 40)),
    ("steps", "--steps", "tiny", "--peers", "", "--threads", "1,2"): (
        steps,
        "compare_threads",
        (["tiny"], ["minigrad"], 40, [1, 2]),
    ),
}


@pytest.mark.parametrize("command", GIVEN, ids=" ".join)
def test_commands(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, function, expected = GIVEN[command]
    called: list[Any] = []

    def run(*given: Any) -> dict[str, Any]:
        called.append(given)
        return {"threads": {"minigrad": 9}, "tiny": 1.5}

    monkeypatch.setattr(module, function, run)
    path = tmp_path / "run.json"
    compare.main([*command, "--json", str(path)])
    assert called == [expected]
    written = json.loads(path.read_text())
    assert "1.5" in json.dumps(written)
    assert {"cpu", "cores", "versions", "threads"} <= written["machine"].keys()
    if module in (steps, norms):  # other processes have measured
        assert written["machine"]["threads"] == {"minigrad": 9}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["steps", "--threads", "1,0"], "expected 1 or more, got 0"),
        (["steps", "--threads", "1,,2"], "expected an integer, got ''"),
        (["company", "--nets", "mnist,large"], "unknown name 'large'; choose from tiny, digits"),
        (["norms", "--shapes", "32x65"], "unknown name '32x65'; choose from 32x64, 64x256"),
        (["company", "--seconds", "0"], "expected a number above 0, got '0'"),
        (["company", "--seconds", "nan"], "expected a number above 0, got 'nan'"),
        (["cold", "--names", "numba-plain"], "unknown name 'numba-plain'"),
        (["first"], "invalid choice: 'first'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(
    command: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        compare.main(command)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_what_is_left_out_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare, "available", lambda name: name != "jax")
    assert compare.those_available(["torch", "jax", "sklearn"]) == ["torch", "sklearn"]
    assert capsys.readouterr().out.splitlines() == [
        "jax is not installed: left out (pip install -e '.[peers]')",
        "sklearn has no BatchNorm: left out where a net has it",
    ]
