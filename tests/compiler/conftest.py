"""Fixtures for tests of the compiler."""

from typing import Any

import pytest

from minigrad.compiler import api
from minigrad.compiler.runtime.executable import Executable


@pytest.fixture
def executables(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that gets each executable that a compiled function makes, in order.

    Each also has what it was made from: `captures` and `workspace`.
    """
    made = []

    class Noted(Executable):
        def __init__(self, trace: Any, captures: Any, *given: Any) -> None:
            super().__init__(trace, captures, *given)
            self.captures, self.workspace = captures, given[-1]
            made.append(self)

    monkeypatch.setattr(api, "Executable", Noted)
    return made
