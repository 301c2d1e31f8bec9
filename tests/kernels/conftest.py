"""Fixtures that set how kernels use threads."""

import pytest

from minigrad.kernels.threading import pool


@pytest.fixture
def two_threads():
    """Set two threads for each test, and put the number back afterwards."""
    before = pool.get_num_threads()
    pool.set_num_threads(2)
    yield
    pool.set_num_threads(before)


@pytest.fixture(params=[False, True], ids=["whole", "threaded"])
def threaded(request, monkeypatch):
    """Choose one call, as below THREADED, or steps and threads."""
    monkeypatch.setattr(pool, "THREADED", 1 if request.param else 1 << 60)
