"""BLAS in one thread; no time limits; a browser, and pages of explanations for it."""

import os

# Before NumPy is imported. Compiled steps call SciPy's BLAS, eager ones NumPy's, which cut products
# among several threads in ways of their own: then not every bit is the same.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Page, start
from hypothesis import HealthCheck, settings
from pages import digits_loss, small_loss

import minigrad as mg

# A test must not fail by a slow machine: one stood still for a second while an example was drawn.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

chromium = pytest.fixture(scope="session")(start)


@pytest.fixture
def page(chromium: Any) -> Iterator[Page]:
    """Whatever a test does, nothing may be complained of."""
    opened = Page(chromium)
    yield opened
    assert opened.complaints() == []


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """An explanation and its page."""
    loss, net = digits_loss()
    explained = mg.explain(loss, names={"net": net, "loss": loss})
    path = tmp_path_factory.mktemp("page") / "digits.html"
    explained.save_html(path)
    return explained, path


@pytest.fixture
def small(tmp_path: Path) -> tuple[Any, Path]:
    loss, named = small_loss()
    explained = mg.explain(loss, names={**named, "loss": loss})
    explained.save_html(tmp_path / "small.html")
    return explained, tmp_path / "small.html"
