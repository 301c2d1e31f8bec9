"""Fixtures that set how kernels use threads."""

import pytest

from minigrad.kernels.batchnorm import small_rows
from minigrad.kernels.threading import pool


@pytest.fixture
def two_threads():
    """Set two threads for each test, and put the number back afterwards."""
    before = pool.get_num_threads()
    pool.set_num_threads(2)
    yield
    pool.set_num_threads(before)


@pytest.fixture(params=["small", "whole", "threaded"])
def threaded(request, monkeypatch):
    """Choose plain loops for small arrays, or blocks: all in one call, or shared by threads."""
    monkeypatch.setattr(pool, "THREADED", 1 if request.param == "threaded" else 1 << 60)
    if request.param != "small":
        monkeypatch.setattr(small_rows, "ROWS", 0)
