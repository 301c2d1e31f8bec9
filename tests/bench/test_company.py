"""A training is timed alone, beside another one, and beside a busy core."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import company, compare


class Fake:
    """A Fake stands for a Program, and notes what is asked of it."""

    log: list[str]

    def __init__(self, code: str, *arguments: str, **variables: str) -> None:
        self.name = "busy" if code == company.BUSY else f"training{sum('+' in x for x in self.log)}"
        self.variables, self.told = variables, None
        self.log.append(f"+{self.name}" if self.name != "busy" else "busy starts")

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *error: Any) -> None:
        self.log.append(f"-{self.name}")

    def tell(self, seconds: float) -> None:
        self.told = seconds
        self.log.append(f"{self.name} runs")

    def answer(self) -> Any:
        if self.name == "busy":
            return 1
        if self.told is None:
            return {"minigrad": len(self.variables)}
        self.log.append(f"{self.name} ends")
        return [1.0, 3.0, 8.0]


def test_what_runs_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(Fake, "log", log, raising=False)
    monkeypatch.setattr(company, "Program", Fake)
    monkeypatch.setattr(company, "SETTLE", 0)
    found = company.compare_company(["tiny"], ["numba-plain"], 1, 0.5, one_thread=True)
    alone = ["training0 runs", "training0 ends"]
    both = ["training0 runs", "training1 runs", "training0 ends", "training1 ends"]
    busy = ["busy starts", *alone, "-busy"]
    ended = ["-training1", "-training0"]
    assert log == ["+training0", "+training1", *alone, *both, *busy, *ended]
    assert found["threads"] == {"minigrad": len(company.ONE_THREAD)}
    row = found["company"]["tiny"]["numba-plain"]
    assert row["two trainings"] == {
        "median_us": 3e6, "median_ratio": 1.0, "mean_us": 4e6, "mean_ratio": 1.0,
    }  # fmt: skip


def test_the_environment_stays_as_the_user_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "log", [], raising=False)
    monkeypatch.setattr(company, "Program", Fake)
    monkeypatch.setattr(company, "SETTLE", 0)
    found = company.compare_company(["tiny"], ["numba-plain"], 1, 0.5, one_thread=False)
    assert found["threads"] == {"minigrad": 0}  # variables


def test_ratios_are_of_the_same_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is slower in one round is not taken for company."""
    rounds = [
        {"alone": [t], "two trainings": [2 * t], "busy core": [t]} for t in (1.0, 10.0, 100.0)
    ]
    answers = iter(rounds)
    monkeypatch.setattr(company, "_round", lambda *given: (next(answers), {}))
    found = company.compare_company(["tiny"], ["torch"], 3, 1.0, one_thread=False)
    row = found["company"]["tiny"]["torch"]
    assert row["two trainings"]["median_us"] == 20e6
    assert [row[s]["median_ratio"] for s in company.SITUATIONS] == [1.0, 2.0, 1.0]


def test_a_stall_that_the_median_hides_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = {"alone": [1e-3], "two trainings": [1e-3], "busy core": [1e-3, 1e-3, 1e-3, 5e-3]}
    monkeypatch.setattr(company, "_round", lambda *given: (steps, {}))
    company.compare_company(["tiny"], ["torch"], 1, 1.0, one_thread=False)
    line = capsys.readouterr().out.splitlines()[-1].split()
    assert line == ["tiny", "torch", "1,000", *("1,000", "1.0", "(1.0)"), "1,000", "1.0", "(2.0)"]


@pytest.mark.exhaustive
def test_trainings_in_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    options = ["--nets", "tiny", "--rounds", "1", "--seconds", "0.01", "--json", str(path)]
    compare.main(["company", "--names", "minigrad,numba-plain", *options])
    run = json.loads(path.read_text())
    assert set(run["company"]["tiny"]) == {"minigrad", "numba-plain"}
    assert run["machine"]["threads"]["minigrad"] >= 1
    assert "numba-plain" in capsys.readouterr().out


def test_a_training_that_fails_is_told() -> None:
    with company.Program("raise SystemExit") as training, pytest.raises(SystemExit, match="failed"):
        training.answer()
