"""BLAS in one thread; no time limits; which cases a plain run takes; a browser, and pages of
explanations for it."""

import gc
import os

# Before NumPy is imported. Compiled steps call SciPy's BLAS, eager ones NumPy's, which cut products
# among several threads in ways of their own: then not every bit is the same.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections import Counter
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


def is_sampled(item: Any, cases: Counter[Any], every: int, by: str | None = None) -> bool:
    """Return whether a case is the first of its test, or `every`, 2 * `every`, ... cases after it.

    by: the name of a parameter; cases are then counted for each of its values separately.
    """
    group = (item.parent.nodeid, item.originalname, by and item.callspec.params[by])
    cases[group] += 1
    return (cases[group] - 1) % every == 0


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what a test's mark `sampled` leaves out of a plain run as exhaustive."""
    cases: Counter[Any] = Counter()
    for item in items:
        mark = item.get_closest_marker("sampled")
        if mark and not is_sampled(item, cases, *mark.args, **mark.kwargs):
            item.add_marker("exhaustive")


@pytest.fixture(scope="module", autouse=True)
def old_objects_are_frozen() -> None:
    """Spare the garbage collector all that other files have left, such as compiled functions."""
    gc.collect()
    gc.freeze()


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
