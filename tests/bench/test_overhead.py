"""The parts of a compiled call are those of the call itself."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from bench import overhead
from minigrad import nn, optim


def test_parts_do_what_the_call_does() -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    scale = 1.0

    def step(x: mg.Tensor) -> mg.Tensor:
        optimizer.zero_grad()
        loss = (model(x) * scale).sum()
        loss.backward()
        optimizer.step()
        return loss

    x = np.ones((4, 3), np.float32)
    parts = overhead.parts_of(step, (x,))
    assert tuple(parts) == overhead.PARTS
    arrays, _ = parts["signature"]()
    assert arrays[0] is x
    assert parts["guards"]() is True
    before = model.weight.numpy().copy()
    for part in ("whole call", "machine code"):  # each subtracts the gradient, 4, times lr
        parts[part]()
        np.testing.assert_allclose(model.weight.numpy(), before - 0.4, rtol=1e-5)
        before = model.weight.numpy().copy()
    scale = 2.0
    assert parts["guards"]() is False


def test_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """The parts of Python are what is left of the whole call."""
    found = overhead.compare_overhead(["empty"], rounds=1)["empty"]
    python = found["signature"] + found["guards"] + found["rest of Python"]
    assert found["all of Python"] == pytest.approx(python)
    assert found["whole call"] == pytest.approx(python + found["machine code"])
    assert overhead.program("empty")[0]() is None
    assert capsys.readouterr().out.splitlines()[-1].split()[0] == "empty"
