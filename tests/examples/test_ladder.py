"""All rungs of the BatchNorm ladder give the same gradients, and show how."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigrad import __main__
from minigrad.explainer import ladder
from minigrad.kernels.batchnorm.rows import _row_dx

EXAMPLE = Path(__file__).parents[2] / "examples" / "batchnorm_ladder.py"


@pytest.fixture(scope="module")
def rungs() -> list[ladder.Rung]:
    """Return the ladder, made once for all tests."""
    return ladder.rungs(ladder.made_up())


def test_every_rung_gives_the_same_gradients(rungs: list[ladder.Rung]) -> None:
    """They do for a batch size other than the one that they were made for, too."""
    assert [rung.title[0] for rung in rungs] == list("112345")
    for batch in (ladder.made_up(), ladder.made_up(7, 16)):
        rows = ladder.measured(rungs, batch, seconds=0.001)
        assert rows[0].difference == 0
        assert all(row.difference < 1e-14 and row.microseconds > 0 for row in rows)


def test_a_rung_that_forgets_a_path_is_seen(rungs: list[ladder.Rung]) -> None:
    """The comparison can fail: a rung computes dx without the path through the mean."""

    def wrong(batch: ladder.Batch) -> ladder.Gradients:
        dx, dgamma, dbeta = ladder.by_closed_form(batch)
        factor = batch.gamma / np.sqrt(batch.x.var(axis=0) + ladder.EPS)
        return dx + factor * dbeta / len(batch.x), dgamma, dbeta

    ladder_with = [rungs[0], ladder.Rung("wrong", "", "", wrong)]
    assert ladder.measured(ladder_with, ladder.made_up(), 0.001)[1].difference > 1e-3


def test_the_report_shows_what_runs(rungs: list[ladder.Rung]) -> None:
    """It has the derivation, the stages, the algebra, the emitted code and the table."""
    batch = ladder.made_up()
    rows = ladder.measured(rungs, batch, seconds=0.001)
    text = ladder.report(rungs, rows, batch)
    for expected in (
        "g3 += g4 * (-0.5 * v4 * v4 * v4)",
        "dcentred = dcentred + dsquare * 2 * centred  # 3",
        r"\sum_j (x_j - \mu) = 0",
        "dx = gamma * inv_std * (g - dbeta / len(x) - x_hat * dgamma / len(x))",
        "def step(x, gamma, g, places, sizes, numbers",
        "=== all of them, for x of shape (64, 16), float64",
    ):
        assert expected in text
    for row in rows:
        assert re.search(rf"{re.escape(row.title)} +\d\.\de[+-]\d\d +[\d.]+", text)


def test_the_command_prints_the_ladder_and_writes_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m minigrad explain batchnorm` serves users who have not written a line."""
    page = tmp_path / "page.html"
    arguments = ["explain", "batchnorm", "--page", str(page), "--rows", "8", "--channels", "3"]
    assert __main__.main(arguments) == 0
    said = capsys.readouterr().out
    assert "5 what the compiler emits" in said and str(page) in said
    assert "<html" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "caf\u00e9"), ("ascii", r"caf\xe9")])
def test_a_path_that_the_terminal_cannot_show(tmp_path: Path, encoding: str, shown: str) -> None:
    """Bytes that are no text, and letters that the terminal's encoding lacks, are escaped."""
    page = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xc3\xa9-\xff.html"))
    command = [sys.executable, "-m", "minigrad", "explain", "batchnorm", "--rows", "2"]
    environment = os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"}
    run = subprocess.run(
        [*command, "--channels", "1", "--page", page], capture_output=True, env=environment
    )
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout.decode(encoding).endswith(rf"/{shown}-\udcff.html" + "\n")
    assert "<html" in page.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error does not wait until the ladder has been compiled and timed."""
    monkeypatch.setattr(ladder, "rungs", lambda batch: pytest.fail("too late"))
    with pytest.raises(SystemExit, match="2"):
        __main__.main(["explain", "batchnorm", "--page", "/nowhere/page.html"])
    said = capsys.readouterr().err
    assert "usage: python -m minigrad explain [-h] [--page PAGE]" in said
    assert "error: save_html: '/nowhere/page.html' cannot be written" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: command"),
        (["explain", "relu"], "invalid choice: 'relu'"),
        (["explain", "batchnorm", "--rows", "1"], "at least 2 rows and 1 channel, got 1 and 16"),
    ],
)
def test_commands_that_cannot_be_run(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The status is 2, and a line says why."""
    with pytest.raises(SystemExit, match="2"):
        __main__.main(arguments)
    assert expected in capsys.readouterr().err


@pytest.mark.exhaustive
def test_the_example_runs_on_digits(tmp_path: Path) -> None:
    """It prints the table and leaves a picture."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    picture = tmp_path / "ladder.png"
    command = [sys.executable, str(EXAMPLE), "--channels", "4", "--plot", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "for x of shape (64, 4), float64" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    for option in ("--plot", "--page"):
        done = subprocess.run(
            [*command, option, "/nowhere/a.png"], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 2
        assert f"error: argument {option}: cannot write '/nowhere/a.png'" in done.stderr


def test_nine_stages_are_seven_primitives_of_which_two_are_two_stages() -> None:
    """The words between the rungs say the same."""
    primitives = [step.primitive for step in ladder.explained(ladder.made_up()).derivation.steps]
    assert primitives == ["mean", "sub", "mean_square", "inv_std", "mul", "mul", "add"]
    assert "seven primitives" in ladder.TAPE and "nine nodes" in ladder.STAGES
    two = "only the mean of squares, and the inverse of the root, are two stages each"
    assert two in " ".join(ladder.STAGES.split())
    stages = re.findall(r"(\w+) = .*# (\d)", inspect.getsource(ladder.by_stages))
    names = ["mean", "centred", "square", "var", "std", "inv_std", "x_hat", "scaled", "y"]
    assert stages[:9] == [(name, str(i)) for i, name in enumerate(names, 1)]


def test_the_picture_has_the_numbers_beside_the_dots(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The picture says where a dot for zero stands on a logarithmic axis."""
    for needed in ("sklearn", "matplotlib", "tqdm"):
        pytest.importorskip(needed)
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    example = importlib.import_module("batchnorm_ladder")
    rows = [ladder.Measured("first", 0.0, 10.0), ladder.Measured("second", 2e-16, 20.0)]
    example.draw(rows, tmp_path / "ladder.svg")
    drawn = re.findall("<!-- (.*?) -->", (tmp_path / "ladder.svg").read_text(encoding="utf-8"))
    assert {"0", "2.0e-16", "largest relative difference from rung 1"} <= set(drawn)


def test_the_kernel_does_what_is_said_of_it() -> None:
    """The words before the kernel name its coefficients."""
    batch = ladder.made_up(8, 3)
    x, gamma, _, g = batch
    mean, r = x.mean(axis=0), 1 / np.sqrt(x.var(axis=0) + ladder.EPS)
    products = (g * (x - mean) * r).mean(axis=0)
    p = np.array([mean, gamma * r, g.mean(axis=0), r * products, np.zeros(3)])
    dx = np.empty(x.size)
    flat = g.reshape(-1), x.reshape(-1), x.reshape(-1)
    _row_dx(0, 0, *flat, False, p, x.shape[1], True, x.size, 0, dx)
    expected = ladder.by_closed_form(batch)[0]
    np.testing.assert_allclose(dx.reshape(x.shape), expected, rtol=1e-12, atol=1e-13)
    assert inspect.getsource(_row_dx).strip() in ladder.report(ladder.rungs(batch), [], batch)


def test_nothing_is_printed_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Python has no sys.stdout there, and print() does nothing."""
    monkeypatch.setattr(ladder, "rungs", lambda batch: [])
    monkeypatch.setattr(ladder, "measured", lambda *given: [])
    monkeypatch.setattr(ladder, "report", lambda *given: "é")
    monkeypatch.setattr(sys, "stdout", None)
    page = str(tmp_path / "page.html")
    assert __main__.main(["explain", "batchnorm", "--rows", "4", "--page", page]) == 0
