"""What examples/batchnorm_what_if.py prints is computed, and is what the mathematics says."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

for needed in ("sklearn", "matplotlib", "tqdm"):
    pytest.importorskip(needed)

from matplotlib.figure import Figure  # noqa: E402  skipped where there is none

EXAMPLES = Path(__file__).parents[2] / "examples"
PATHS = ["the mean inside the variance", "the variance", "the mean in the centring", "all of them"]


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("batchnorm_what_if")


def run(example, monkeypatch, capsys, *options):
    """Return the exit status, and the numbers of each line by what was forgotten, by table."""
    monkeypatch.setattr(sys, "argv", ["batchnorm_what_if.py", *options])
    status = example.main()
    tables = []
    for block in capsys.readouterr().out.split("\n\n"):
        named = [line.partition("  ") for line in block.splitlines()]
        rows = {n: re.findall(r"\d\S*\d", rest) for n, _, rest in named if n in example.FORGOTTEN}
        tables += [{n: [float(v) for v in row] for n, row in rows.items()}] if rows else []
    return status, tables


def test_the_tables_and_the_picture(example, monkeypatch, capsys, tmp_path):
    path = tmp_path / "paths.png"
    status, tables = run(example, monkeypatch, capsys, "--seed", "3", "--plot", str(path))
    one_batch, by_size, of_a_sum = tables
    assert status == 0
    for name, (error, angle, numeric) in one_batch.items():
        right = name in ("nothing", PATHS[0])
        assert error < 1e-14 and numeric < 1e-8 if right else error > 0.1 and angle > 5, name
        assert right or numeric == error  # to the digits that are printed
    for name in PATHS[1:]:  # about as 1 / sqrt(n): 16 times smaller from 4 digits to 1024
        assert 5 < by_size[name][0] / by_size[name][-1] < 50
    assert max(by_size[PATHS[0]]) < 1e-14
    assert of_a_sum["nothing"][0] < 1e-11 < 1 < of_a_sum["the mean in the centring"][0]
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_what_is_drawn_together_can_be_told_apart(example, monkeypatch, tmp_path):
    """An exact zero, on a logarithmic axis, would press all else into one line."""
    drawn = []

    def figure(**options):
        drawn.append(Figure(**options))
        return drawn[0]

    monkeypatch.setattr(example, "Figure", figure)
    found, given = example.compare(8, 0)
    errors = example.errors_by_size([4, 16], 0)
    example.plot(found, given, [4, 16], errors, tmp_path / "paths.png")
    curves = [axes.lines for axes in drawn[0].axes if axes.get_yscale() == "log"]
    assert sum(map(len, curves)) == len(PATHS)
    for lines in curves:
        values = np.concatenate([line.get_ydata() for line in lines])
        assert values.max() < 1e3 * values.min()


def test_the_closed_form_differences_and_angles_are_right(example):
    given = example.problem(5, 1)
    exact = example.closed_form(*given)
    np.testing.assert_allclose(example.finite_differences(*given), exact, rtol=0, atol=1e-6)
    terms = {  # what each path leaves of g - mean(g) - x_hat * mean(g * x_hat)
        name: np.linalg.norm(example.derive(*given, detach) - exact)
        for name, detach in example.FORGOTTEN.items()
    }
    x, gamma, g = given
    inv_std = 1 / np.sqrt(x.var(axis=0) + example.EPS)
    x_hat = (x - x.mean(axis=0)) * inv_std
    of_var = np.linalg.norm(gamma * inv_std * x_hat * (g * x_hat).mean(axis=0))
    of_mean = np.linalg.norm(gamma * inv_std * np.ones(g.shape) * g.mean(axis=0))
    np.testing.assert_allclose([terms[name] for name in PATHS[1:3]], [of_var, of_mean], rtol=1e-12)
    a, b = np.array([1.0, 0.0]), np.array([3.0, 3.0])
    np.testing.assert_allclose([example.angle(a, b), example.error(a, b)], [45, (13 / 18) ** 0.5])


@pytest.mark.parametrize(
    "options", [["--batch-size", "1"], ["--batch-size", "1798"], ["--plot", "missing/a.png"]]
)
def test_a_bad_option_is_named(example, options, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(example, monkeypatch, capsys, *options)
    assert stopped.value.code == 2
    assert options[0] in capsys.readouterr().err
