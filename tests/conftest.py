"""Set BLAS to one thread, lift time limits, sample cases for a plain run, and start a browser."""

import gc
import os

# Set before NumPy is imported. The threads of BLAS, which the tests' own products in NumPy and
# PyTorch would use, wait by spinning; minigrad does not use them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Page, start
from hypothesis import HealthCheck, settings
from interpreted import as_python as run_as_python
from interpreted import interpreted
from pages import digits_loss, small_loss

import minigrad as mg
from minigrad.kernels import codegen_runtime

# The tests make many objects that live long, among which a search for cycles finds little.
gc.set_threshold(20_000)

# A test must not fail because a machine is slow.
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
    """Mark as exhaustive the cases that the mark `sampled` leaves out of a plain run."""
    cases: Counter[Any] = Counter()
    for item in items:
        mark = item.get_closest_marker("sampled")
        if mark and not is_sampled(item, cases, *mark.args, **mark.kwargs):
            item.add_marker("exhaustive")


@pytest.fixture(scope="module", autouse=True)
def old_objects_are_frozen() -> None:
    """Exclude what other files have left, such as compiled functions, from garbage collection."""
    gc.collect()
    gc.freeze()


GENERATED = interpreted(vars(codegen_runtime), vars(codegen_runtime))


@pytest.fixture
def as_python() -> Iterator[None]:
    """Run generated functions, and the kernels that they call, as Python."""
    with run_as_python(GENERATED):
        yield


chromium = pytest.fixture(scope="session")(start)


@pytest.fixture
def page(chromium: Any) -> Iterator[Page]:
    """Return an empty page, and fail the test if its console shows an error or warning."""
    opened = Page(chromium)
    yield opened
    assert opened.complaints() == []


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Return an explanation of the digits network's loss, and the path of its page."""
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
