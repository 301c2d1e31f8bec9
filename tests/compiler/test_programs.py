"""Generated programs, such as users write, agree compiled and eagerly; a seed determines each."""

from pathlib import Path

import numpy as np
import program_blocks
import program_steps
import programs
import pytest
from program_text import alone, write
from program_writer import STYLES, Choices

import minigrad as mg


def check(seed: int, folder: Path, numba: bool = False) -> None:
    outcome = programs.outcome_of(seed, folder, numba)
    assert not outcome.kind, f"seed {seed}, {outcome.failure}; made smaller:\n\n{outcome.text}"


@pytest.mark.sampled(80)
@pytest.mark.parametrize("seed", range(200))
def test_programs_agree_as_python(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


@pytest.mark.sampled(40)
@pytest.mark.parametrize("part", range(40))
def test_each_option_agrees_by_itself(part: int, tmp_path: Path) -> None:
    failed = []
    for what, text in list(alone())[part::40]:
        outcome = programs.run(text, tmp_path)
        failed += [f"{what}: {outcome.failure}"] if outcome.kind else []
    assert not failed


# Of the seeds from 200 on, some whose compiled steps are short: others take Numba minutes.
@pytest.mark.sampled(5)
@pytest.mark.parametrize("seed", [203, 212, 227, 240, 248])
def test_programs_agree_by_numba(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path, numba=True)


# --- the generator itself ------------------------------------------------------------------------


def test_a_seed_is_a_program_and_so_are_its_choices() -> None:
    for seed in range(20):
        choices = Choices(seed)
        text = write(choices)
        assert write(Choices(seed)) == text
        assert write(Choices(None, choices.made)) == text


def test_all_that_there_is_to_choose_is_chosen() -> None:
    """The programs of the tests reach everything in the tables."""
    made: dict[str, set[object]] = {}
    for seed in range(600):
        choices = Choices(seed)
        write(choices)
        for name, chosen in choices.made.items():
            made.setdefault(name.rpartition("/")[2], set()).add(chosen)
    for name, table in {
        "kind": program_blocks.BLOCKS,
        "style": STYLES,
        "form": program_blocks.FORMS,
        "activation": program_blocks.ACTIVATIONS,
        "loss": program_steps.LOSSES,
        "auxiliary": program_steps.AUXILIARY,
        "gradients": program_steps.GRADIENTS,
        "update": program_steps.UPDATES,
        "schedule": program_steps.SCHEDULES,
        "rate": program_steps.RATES,
        "backward": program_steps.BACKWARD,
        "result": program_steps.RESULTS,
    }.items():
        assert set(table) <= made[name], name


WRONG = {
    "a parameter": (
        "        yield",
        "        W1.data[0] += 1e-8 * wrong\n        yield",
        "W1 differs",
    ),
    "a result": ("return loss\n", "return loss * (1 + 1e-8 * wrong)\n", "result differs"),
    "a gradient": (
        "        yield",
        "        W1.grad = None if wrong else W1.grad\n        yield",
        "W1.grad",
    ),
    "an error": ("        yield", "        1 / (1 - wrong)\n        yield", "ZeroDivisionError"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_differs_is_found(what: str, tmp_path: Path) -> None:
    text = write(Choices(None))
    assert not programs.run(text, tmp_path).failure
    before, after, told = WRONG[what]
    assert before in text
    wrong = text.replace(before, after).replace("rng =", f"wrong = {COMPILED}\nrng =", 1)
    assert told in programs.run(wrong, tmp_path).failure


COMPILED = "int(compile is mg.compile)"


def test_a_momentum_that_differs_is_found(tmp_path: Path) -> None:
    text = write(Choices(None, {"step/update": "momentum"}))
    wrong = text.replace(
        "        yield",
        f"        opt.state[W1]['momentum_buffer'][0] += 1e-8 * {COMPILED}\n        yield",
    )
    assert "W1.momentum differs" in programs.run(wrong, tmp_path).failure


@pytest.mark.exhaustive
def test_a_failing_program_becomes_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If mg.compile is wrong about one function, little but its call is left."""
    compiled = mg.compile

    def broken(function: object) -> object:
        step = compiled(function)

        def call(*args: object, **kwargs: object) -> object:
            with mg.no_grad():
                for p in weights(step):
                    p.copy_(p + 1e-6)
            return step(*args, **kwargs)

        return call

    def weights(step: object) -> list[mg.Tensor]:
        found = step.__wrapped__.__globals__.get("W1")
        return [found] if isinstance(found, mg.Tensor) and found.dtype == np.float64 else []

    monkeypatch.setattr(mg, "compile", broken)
    for seed in range(100):
        outcome = programs.outcome_of(seed, tmp_path)
        if outcome.kind.startswith("difference"):
            break
    assert len(outcome.text.splitlines()) < 45
    assert len(outcome.text) < len(write(Choices(seed)))


def test_the_command_tells_by_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    options = ["programs.py", "--log", str(log), "--numba", "0", "--count"]
    tried: list[int] = []

    def outcome_of(seed: int, folder: Path, numba: bool = False) -> programs.Outcome:
        tried.append(seed)
        if seed == 3 and len(tried) == 4:
            raise KeyboardInterrupt
        return programs.Outcome("text", *(["wrong", "kind"] if seed == 5 else []))

    def main(*more: str) -> int:
        monkeypatch.setattr(programs.sys, "argv", [*options, *more])
        return programs.main()

    monkeypatch.setattr(programs, "outcome_of", outcome_of)
    assert main("4", "--minutes", "0") == programs.UNFINISHED
    assert main("4") == programs.UNFINISHED  # interrupted
    assert main("4") == programs.PASSED
    assert tried == [0, 1, 2, 3, 3]
    with log.open("a") as file:
        file.write('{"seed": 4}\n')  # begun, and the process was gone
    assert main("4") == programs.PASSED
    assert main("6") == programs.FAILED
    assert tried == [0, 1, 2, 3, 3, 5]
    assert "1 x kind: seeds [5]" in (said := capsys.readouterr().out)
    assert "1 x the process died: seeds [4]" in said
