"""Several Python threads train at once, and share the workers while their number changes."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim
from minigrad.kernels.batchnorm import entry_points, small_rows
from minigrad.kernels.threading import pool

COMPILED = not numba.config.DISABLE_JIT
ROWS = 600 if COMPILED else 40  # several blocks of rows, so that there is something to share
WIDTH = 70 if COMPILED else 6


@pytest.fixture(autouse=True)
def shared_by_threads(monkeypatch):
    """Let each BatchNorm use threads, as large arrays do, and put the number of threads back."""
    monkeypatch.setattr(pool, "THREADED", 1)
    monkeypatch.setattr(small_rows, "ROWS", 0)
    before = pool.get_num_threads()
    yield
    pool.set_num_threads(before)


def train(seed):
    """Return every loss and the final state, as bytes, of this thread's own model and data."""
    random = np.random.default_rng(seed)
    planes = seed % 2
    hidden = (
        [nn.Linear(5, 3 * WIDTH), Planes(3, WIDTH), nn.BatchNorm1d(3), nn.ReLU(), nn.Flatten()]
        if planes
        else [nn.Linear(5, 3 * WIDTH), nn.BatchNorm1d(3 * WIDTH), nn.ReLU()]
    )
    model = nn.Sequential(*hidden, nn.Linear(3 * WIDTH, 4))
    with mg.no_grad():
        for p in model.parameters():
            p.copy_(random.standard_normal(p.shape))
    sgd = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    results = []
    for _ in range(4):
        x, labels = random.standard_normal((ROWS, 5), "f"), random.integers(0, 4, ROWS)
        sgd.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        sgd.step()
        model.eval()
        with mg.no_grad():
            results += [loss.data.tobytes(), model(x).data.tobytes()]
        model.train()
    return results + [v.tobytes() for v in model.state_dict().values()]


class Planes(nn.Module):
    """A Planes reshapes (n, c * s) to (n, c, s)."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        """Return x in the other shape."""
        return x.reshape(x.shape[0], *self.shape)


def test_eight_threads_train_as_each_alone_while_the_number_of_workers_changes(monkeypatch):
    """Every bit is the same, on one thread alone and on any number together."""
    pool.set_num_threads(1)
    alone = [train(seed) for seed in range(8)]
    assert len({results[0] for results in alone}) == 8
    done, sizes = threading.Event(), itertools.cycle([2, 5, 1, 3, 8])
    kernel, *others = entry_points.KERNELS["row"]
    rows = []

    def counted(*arguments):
        rows.append(1)
        kernel(*arguments)

    def change():
        changes = 0
        while not done.wait(0.001):
            mg.set_num_threads(next(sizes))
            changes += 1
        return changes

    monkeypatch.setitem(entry_points.KERNELS, "row", (counted, *others))
    with ThreadPoolExecutor(9) as executor:
        changes = executor.submit(change)
        try:
            for _ in range(3):
                assert list(executor.map(train, range(8))) == alone
        finally:
            done.set()
    assert changes.result() > 3
    assert len(rows) == 3 * 4 * 4  # in each step by half of them
