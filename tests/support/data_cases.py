"""Epochs in plain loops and a loader of sample numbers, shared by the tests of minigrad.data."""

import numpy as np
from hypothesis import strategies as st

from minigrad.data import DataLoader

sizes = st.integers(0, 40)
batch_sizes = st.integers(1, 12)


def naive_epoch(n, batch_size, shuffle, drop_last, seed, epoch):
    """Return the sample numbers of every batch of an epoch, by plain loops."""
    order = list(range(n))
    if shuffle:
        stream = np.random.SeedSequence(seed, spawn_key=(epoch,))
        order = np.random.default_rng(stream).permutation(n).tolist()
    batches = []
    while order:
        batches.append(order[:batch_size])
        order = order[batch_size:]
    if drop_last and batches and len(batches[-1]) < batch_size:
        batches.pop()
    return batches


def epoch_of(loader):
    """Return one epoch of a loader over a single array, as nested lists."""
    return [batch.tolist() for batch in loader]


def shuffled(n=10, **changes):
    """Return a loader over `arange(n)`, whose batches are sample numbers."""
    return DataLoader(np.arange(n), **{"batch_size": 3, "shuffle": True, "seed": 7} | changes)
