"""A DataLoader yields the right samples in the right order, and refuses wrong arguments."""

import itertools
import re

import numpy as np
import pytest
from data_cases import batch_sizes, epoch_of, naive_epoch, shuffled, sizes
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import DataLoader
from minigrad.errors import ArgumentError, DtypeError, ShapeError

seeds = st.integers(0, 2**70)


# --- what comes out


@given(n=sizes, batch_size=batch_sizes, shuffle=st.booleans(), drop_last=st.booleans(), seed=seeds)
def test_epochs_match_the_plain_loops(n, batch_size, shuffle, drop_last, seed):
    if drop_last and 0 < n < batch_size:
        drop_last = False
    loader = DataLoader(
        np.arange(n), batch_size=batch_size, shuffle=shuffle, drop_last=drop_last, seed=seed
    )
    for epoch in range(3):
        expected = naive_epoch(n, batch_size, shuffle, drop_last, seed, epoch)
        assert epoch_of(loader) == expected
        assert len(loader) == len(expected)


@given(n=sizes, batch_size=batch_sizes, shuffle=st.booleans())
def test_an_epoch_has_every_sample_once(n, batch_size, shuffle):
    loader = DataLoader(np.arange(n), batch_size=batch_size, shuffle=shuffle)
    assert sorted(itertools.chain(*epoch_of(loader))) == list(range(n))


@pytest.mark.parametrize("shuffle", [False, True])
def test_several_arrays_stay_in_step_and_keep_dtype_and_shape(shuffle):
    images = np.arange(10 * 2 * 3, dtype=np.float32).reshape(10, 2, 3)
    labels = np.arange(10, dtype=np.int8)
    names = [f"sample {i}" for i in range(10)]
    loader = DataLoader(images, labels, names, batch_size=4, shuffle=shuffle)
    seen = []
    for batch in loader:
        assert type(batch) is tuple and [type(part) for part in batch] == [np.ndarray] * 3
        x, y, s = batch
        assert x.dtype == np.float32 and y.dtype == np.int8 and s.dtype.kind == "U"
        assert x.shape == (len(y), 2, 3)
        for i, label in enumerate(y):
            assert np.array_equal(x[i], images[label])
            assert s[i] == f"sample {label}"
        seen += y.tolist()
    assert sorted(seen) == list(range(10))


def test_one_array_yields_the_bare_batch():
    (batch,) = DataLoader([[1.0, 2.0], [3.0, 4.0]], batch_size=2)
    assert type(batch) is np.ndarray
    assert np.array_equal(batch, [[1.0, 2.0], [3.0, 4.0]])


def test_a_last_batch_of_one_keeps_its_axis():
    *_, last = DataLoader(np.zeros((7, 5)), batch_size=3)
    assert last.shape == (1, 5)


def test_defaults():
    loader = DataLoader(np.arange(3))
    assert epoch_of(loader) == [[0], [1], [2]]
    assert (loader.dataset_size, loader.batch_size, loader.seed) == (3, 1, 0)
    assert loader.shuffle is False and loader.drop_last is False


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_empty_data_set_yields_no_batches(shuffle, drop_last):
    loader = DataLoader(
        np.empty((0, 4)), np.empty(0), batch_size=8, shuffle=shuffle, drop_last=drop_last
    )
    assert len(loader) == 0 and not loader
    assert list(loader) == [] and list(loader) == []


def test_samples_of_size_zero_are_still_samples():
    assert [b.shape for b in DataLoader(np.empty((5, 0)), batch_size=2)] == [(2, 0), (2, 0), (1, 0)]


@pytest.mark.parametrize("shuffle", [False, True])
def test_arrays_are_not_copied_but_batches_are(shuffle):
    x = np.arange(6.0)
    loader = DataLoader(x, batch_size=6, shuffle=shuffle)
    assert loader.arrays[0] is x
    (batch,) = loader
    assert not np.shares_memory(batch, x)
    batch[:] = -1
    assert np.array_equal(x, np.arange(6.0))
    x += 10  # no copy was taken at construction, so a later epoch sees it
    (batch,) = loader
    assert sorted(batch) == [10, 11, 12, 13, 14, 15]


def test_strided_and_read_only_arrays():
    x = np.arange(40).reshape(4, 10).T[::2]
    x.flags.writeable = False
    assert np.array_equal(np.concatenate(list(DataLoader(x, batch_size=2))), x)
    assert all(b.flags.c_contiguous and b.flags.writeable for b in DataLoader(x, batch_size=2))


# --- in which order


def test_orders_depend_on_seed_and_epoch_only():
    first, again = shuffled(100), shuffled(100)
    epochs = [epoch_of(first) for _ in range(4)]
    assert epochs == [epoch_of(again) for _ in range(4)]
    other_seed = shuffled(100, seed=8)
    everything = epochs + [epoch_of(other_seed) for _ in range(4)]
    assert all(a != b for a, b in itertools.combinations(everything, 2))


def test_epoch_zero_is_not_the_permutation_callers_get_from_the_same_seed():
    n = 100
    (order,) = epoch_of(shuffled(n, batch_size=n, seed=5))
    for source in (5, [5, 0], [0, 5]):
        assert order != np.random.default_rng(source).permutation(n).tolist()


def test_large_seeds_do_not_run_into_other_epochs():
    # As one list of 32-bit words, (5 + 2**32, 0) and (5, 1) would be the same numbers.
    low, high = shuffled(100, seed=5), shuffled(100, seed=5 + 2**32)
    epoch_of(low)
    assert epoch_of(low) != epoch_of(high)


def test_numpys_global_generator_is_neither_used_nor_moved():
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    first = epoch_of(shuffled())
    assert np.random.get_state()[1].tolist() == before
    np.random.seed(2)
    assert epoch_of(shuffled()) == first


@pytest.mark.parametrize("consumed", [0, 1, 3, 4])
def test_a_new_loop_is_a_new_epoch_whatever_was_consumed(consumed):
    clean = shuffled()
    epochs = [epoch_of(clean) for _ in range(3)]
    loader = shuffled()
    list(itertools.islice(loader, consumed))
    assert epoch_of(loader) == epochs[1]
    assert epoch_of(loader) == epochs[2]


def test_two_iterators_alive_at_once_do_not_disturb_each_other():
    clean = shuffled()
    zeroth, first = epoch_of(clean), epoch_of(clean)
    loader = shuffled()
    pairs = [(a.tolist(), b.tolist()) for a, b in zip(loader, loader, strict=True)]
    assert [a for a, _ in pairs] == zeroth
    assert [b for _, b in pairs] == first


def test_iterators_are_epochs_in_the_order_in_which_they_were_made():
    clean = shuffled()
    zeroth, first = epoch_of(clean), epoch_of(clean)
    loader = shuffled()
    early, late = iter(loader), iter(loader)
    assert epoch_of(late) == first
    assert epoch_of(early) == zeroth


# --- arguments that are refused


def message(text):
    return ".*".join(map(re.escape, text.split("...")))


def test_no_arrays():
    with pytest.raises(ArgumentError, match="no arrays; pass at least one"):
        DataLoader(batch_size=2)


@pytest.mark.parametrize("length", [4, 6])
def test_different_lengths_are_both_named(length):
    with pytest.raises(ShapeError, match=message(f"5 in array 0 and {length} in array 2")):
        DataLoader(np.zeros((5, 2)), np.zeros(5), np.zeros((length, 5)))


def test_a_setting_passed_by_position_is_told_to_go_by_name():
    with pytest.raises(ShapeError, match=message("array 2 is 0-d (64)...by name")):
        DataLoader(np.zeros((5, 2)), np.zeros(5), 64)


def test_a_pair_passed_as_one_argument_is_told_to_come_apart():
    with pytest.raises(ShapeError, match=message("array 0 is ragged...DataLoader(x, y)")):
        DataLoader((np.zeros((5, 2)), np.zeros(5)))


@pytest.mark.parametrize(
    "value", [0, -1, np.int64(0), True, np.True_, 2.0, np.float32(2), "2", None]
)
def test_bad_batch_sizes(value):
    with pytest.raises(
        ArgumentError, match=message(f"batch_size must be an integer...got {value!r}")
    ):
        DataLoader(np.zeros(5), batch_size=value)


@pytest.mark.parametrize("value", [-1, False, 0.0, "0", None, [1, 2]])
def test_bad_seeds(value):
    with pytest.raises(ArgumentError, match=message(f"seed must be an integer...got {value!r}")):
        DataLoader(np.zeros(5), seed=value)


@pytest.mark.parametrize("name", ["shuffle", "drop_last"])
@pytest.mark.parametrize("value", [0, 1, None, "yes", 1.0])
def test_bad_flags(name, value):
    with pytest.raises(DtypeError, match=message(f"{name} must be True or False, got {value!r}")):
        DataLoader(np.zeros(5), **{name: value})


def test_drop_last_that_would_drop_everything():
    with pytest.raises(ArgumentError, match=message("drop_last=True...batch_size=6...5 samples")):
        DataLoader(np.zeros(5), batch_size=6, drop_last=True)
    assert len(DataLoader(np.zeros(5), batch_size=5, drop_last=True)) == 1
    assert len(DataLoader(np.zeros(5), batch_size=6)) == 1


def test_options_of_pytorch_that_are_not_here_are_no_arguments():
    for name in ("num_workers", "sampler", "collate_fn", "pin_memory"):
        with pytest.raises(TypeError, match=name):
            DataLoader(np.zeros(5), **{name: None})


def test_repr_tells_the_settings():
    assert repr(shuffled()) == (
        "DataLoader(dataset_size=10, batch_size=3, shuffle=True, drop_last=False, seed=7)"
    )
