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

    def step(x: mg.Tensor) -> mg.Tensor:
        optimizer.zero_grad()
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        return loss

    x = np.ones((4, 3), np.float32)
    parts = overhead.parts_of(step, (x,))
    assert tuple(parts) == overhead.PARTS
    before = model.weight.numpy().copy()
    for part in ("whole call", "machine code"):  # each subtracts the gradient, 4, times lr
        parts[part]()
        np.testing.assert_allclose(model.weight.numpy(), before - 0.4, rtol=1e-5)
        before = model.weight.numpy().copy()


def test_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """Python's part is what is left of the whole call."""
    found = overhead.compare_overhead(["empty"], rounds=1)["empty"]
    assert found["whole call"] == pytest.approx(found["Python"] + found["machine code"])
    assert overhead.program("empty")[0]() is None
    assert capsys.readouterr().out.splitlines()[-1].split()[0] == "empty"
