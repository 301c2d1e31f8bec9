"""The steps of all libraries are timed in turn, with as many threads as asked for."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from bench import process, steps, threads


def test_each_second_round_runs_in_reverse_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last loss of each burst is read, since JAX may still be computing it."""
    turns: list[str] = []
    losses = {name: SimpleNamespace(item=lambda name=name: turns.append(name)) for name in "abc"}
    monkeypatch.setattr(steps, "SETTLE", 0)
    monkeypatch.setattr(steps, "BURST", 0)
    trained = {name: lambda loss=loss: loss for name, loss in losses.items()}
    times = steps.time_in_turn(trained, rounds=3)
    assert "".join(turns[6::2]) == "abccbaabc"  # twice each: a warm-up is read, too
    assert {name: len(t) for name, t in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_threads_are_limited_by_the_means_of_each_library(monkeypatch: pytest.MonkeyPatch) -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    found: dict[str, Any] = {}
    for name in ("minigrad", "torch"):
        library = SimpleNamespace(set_num_threads=lambda n, name=name: found.update({name: n}))
        monkeypatch.setitem(sys.modules, name, library)
    monkeypatch.setattr(
        threadpoolctl, "threadpool_limits", lambda n, user_api: found.update({user_api: n})
    )
    threads.limit(3)
    assert found == {"minigrad": 3, "torch": 3, "blas": 3}
    monkeypatch.delitem(sys.modules, "torch")
    threads.limit(2)  # nothing is imported for it
    assert found == {"minigrad": 2, "torch": 3, "blas": 2}


def test_each_count_of_threads_has_a_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(function: str, *arguments: Any, **variables: str) -> Any:
        assert function == "steps.compare_steps"
        nets, names, _, count = arguments
        assert variables == {"NPROC": str(count)}
        times = {name: [0.0, 100.0 / count, 0.0] for name in names}
        found = {net: {"quartiles_us": times, "ratios": {}} for net in nets}
        return {"steps": found, "threads": {"minigrad": count}}

    monkeypatch.setattr(process, "call", call)
    found = steps.compare_threads(["tiny"], ["minigrad"], 2, [1, 4])
    assert list(found["by_threads"]) == ["1", "4"]
    assert found["threads"] == {"minigrad": "1/4"}
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split() == ["tiny", "minigrad", "100", "25", "4.00"]


def test_the_first_name_is_what_others_are_compared_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A call whose result is no loss is timed, too."""
    monkeypatch.setattr(steps, "SETTLE", 0)
    monkeypatch.setattr(steps, "BURST", 0)
    times = {"a": [1e-6, 2e-6, 3e-6], "b": [4e-6, 8e-6, 12e-6]}
    monkeypatch.setattr(steps, "time_in_turn", lambda calls, rounds: times)
    found = steps.compare_in_turn("a title", {"a": int, "b": int}, 3)
    assert found["ratios"] == {"b": pytest.approx(4.0)}
    assert found["quartiles_us"]["b"] == pytest.approx([6.0, 8.0, 10.0])
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "a",
        "title",
        "b",
        "8",
        "(6-10)",
        "4.00",
    ]
    monkeypatch.undo()
    assert steps.burst(lambda: None, 3) >= 0
