"""Programs of users pass `mypy --strict`, and public functions have the types they should have."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PROGRAM = """
from typing_extensions import assert_type

import minigrad as mg


@mg.no_grad()
def mean(x: mg.Tensor) -> float:
    return float(x.mean())


@mg.enable_grad
def loss(x: mg.Tensor) -> mg.Tensor:
    return (x * x).sum()


x = mg.tensor([1.0, 2.0], requires_grad=True)
with mg.no_grad(), mg.enable_grad():
    assert_type(mean(x), float)
    assert_type(loss(x), mg.Tensor)
(dx,) = mg.grad(loss(x), x)
assert_type(dx, mg.Tensor)
assert_type(mg.grad(loss(x), [x, x], create_graph=True, allow_unused=False)[1], mg.Tensor)
assert_type(mg.grad(loss(x), x, allow_unused=True)[0], mg.Tensor | None)
"""


def test_a_program_of_a_user_is_typed(tmp_path: Path) -> None:
    """A decorated function keeps its type; a gradient is None only if `allow_unused` says so."""
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", str(program)],
        cwd=ROOT,  # where the settings and the cache are
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
