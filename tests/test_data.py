"""minigrad.data: what a DataLoader yields, in which order, how it resumes, what it refuses."""

import itertools
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from minigrad.data import DataLoader
from minigrad.errors import ArgumentError, DtypeError, ShapeError, StateDictError

sizes = st.integers(0, 40)
batch_sizes = st.integers(1, 12)
seeds = st.integers(0, 2**70)


def naive_epoch(n, batch_size, shuffle, drop_last, seed, epoch):
    """The sample numbers of every batch of an epoch, in plain loops."""
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
    """One epoch of a loader over a single array, as nested lists."""
    return [batch.tolist() for batch in loader]


def shuffled(n=10, **changes):
    """A loader over `arange(n)`: its batches are sample numbers."""
    return DataLoader(np.arange(n), **{"batch_size": 3, "shuffle": True, "seed": 7} | changes)


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


# --- state


def position(loader):
    state = loader.state_dict()
    return state["epoch"], state["batches_yielded"]


def test_what_the_state_says_at_every_moment():
    loader = shuffled()
    assert position(loader) == (0, 0)
    assert [position(loader) for _ in loader] == [(0, 1), (0, 2), (0, 3), (0, 4)]
    assert position(loader) == (1, 0)
    for _ in loader:
        break
    assert position(loader) == (1, 1)
    iterator = iter(loader)
    assert position(loader) == (2, 0)
    next(iterator)
    assert position(loader) == (2, 1)


def test_the_state_follows_the_newest_iterator_only():
    loader = shuffled()
    old = iter(loader)
    next(old)
    new = iter(loader)
    next(new)
    next(new)
    list(old)
    assert position(loader) == (1, 2)


def test_empty_epochs_count():
    loader = shuffled(0)
    assert list(loader) == list(loader) == []
    assert position(loader) == (2, 0)


def test_asking_for_the_state_changes_nothing():
    asked, quiet = shuffled(), shuffled()
    for _ in range(2):
        asked.state_dict()["epoch"] = 99
        batches = []
        for batch in asked:
            asked.state_dict()["batches_yielded"] = 0
            batches.append(batch.tolist())
        assert batches == epoch_of(quiet)


def test_the_state_is_plain_and_survives_json():
    loader = DataLoader(
        np.arange(6),
        batch_size=np.int64(2),
        shuffle=np.bool_(True),
        drop_last=np.bool_(False),
        seed=np.uint8(3),
    )
    next(iter(loader))
    state = loader.state_dict()
    assert state == {
        "epoch": 0,
        "batches_yielded": 1,
        "dataset_size": 6,
        "batch_size": 2,
        "shuffle": True,
        "drop_last": False,
        "seed": 3,
    }
    assert {name: type(value) for name, value in state.items()} == {
        name: bool if name in ("shuffle", "drop_last") else int for name in state
    }
    assert json.loads(json.dumps(state)) == state
    loader.load_state_dict(json.loads(json.dumps(state)))
    assert loader.state_dict() == state


@pytest.mark.parametrize("epoch", [0, 2])
@pytest.mark.parametrize("yielded", [0, 1, 3, 4])
def test_a_restored_loader_yields_the_rest_and_then_the_next_epoch(epoch, yielded):
    saver = shuffled()
    for _ in range(epoch):
        list(saver)
    iterator = iter(saver)
    for _ in range(yielded):
        next(iterator)
    state = saver.state_dict()
    rest = [batch.tolist() for batch in iterator]
    following = [epoch_of(saver), epoch_of(saver)]

    restored = shuffled()
    epoch_of(restored)  # what a loader did before must not matter
    restored.load_state_dict(state)
    assert restored.state_dict() == state
    assert epoch_of(restored) == rest
    assert [epoch_of(restored), epoch_of(restored)] == following


def test_a_break_then_loading_the_own_state_resumes():
    clean = epoch_of(shuffled())
    loader = shuffled()
    for _ in loader:
        break
    loader.load_state_dict(loader.state_dict())
    assert epoch_of(loader) == clean[1:]


def test_resuming_twice_within_one_epoch():
    clean = epoch_of(shuffled())
    loader, seen = shuffled(), []
    for _ in clean:  # one batch per "process"
        seen.append(next(iter(loader)).tolist())
        state, loader = loader.state_dict(), shuffled()
        loader.load_state_dict(state)
    assert seen == clean
    assert epoch_of(loader) == []  # stopped with the last batch in hand: an empty rest


def test_a_resumed_rest_may_be_broken_off_too():
    clean = shuffled()
    epochs = [epoch_of(clean), epoch_of(clean)]
    loader = shuffled()
    loader.load_state_dict(loader.state_dict() | {"batches_yielded": 1})
    assert next(iter(loader)).tolist() == epochs[0][1]
    assert epoch_of(loader) == epochs[1]


def test_loading_leaves_a_living_iterator_its_batches_and_stops_following_it():
    clean = epoch_of(shuffled())
    loader = shuffled()
    iterator = iter(loader)
    next(iterator)
    loader.load_state_dict(loader.state_dict() | {"epoch": 5, "batches_yielded": 2})
    assert next(iterator).tolist() == clean[1]
    assert position(loader) == (5, 2)
    assert epoch_of(iterator) == clean[2:]
    assert position(loader) == (5, 2)


def test_a_loop_stopped_anywhere_and_resumed_sees_what_an_unstopped_one_sees():
    def train(loader, log, epochs=3, stop=None):
        for epoch in range(loader.state_dict()["epoch"], epochs):
            for batch in loader:
                log.append((epoch, batch.tolist()))
                if len(log) == stop:
                    return loader.state_dict()
            log.append((epoch, "evaluate"))
            if len(log) == stop:
                return loader.state_dict()
        return None

    unstopped = []
    train(shuffled(), unstopped)
    assert len(unstopped) == 3 * (4 + 1)
    for stop in range(1, len(unstopped)):
        log = []
        state = train(shuffled(), log, stop=stop)
        resumed = shuffled()
        resumed.load_state_dict(state)
        train(resumed, log)
        assert log == unstopped


class AnyUse(RuleBasedStateMachine):
    """Iterators made, advanced, dropped, saved and loaded in any order, beside a plain model."""

    @initialize(
        n=sizes,
        batch_size=batch_sizes,
        shuffle=st.booleans(),
        seed=st.integers(0, 3),
        drop=st.booleans(),
    )
    def start(self, n: int, batch_size: int, shuffle: bool, seed: int, drop: bool):
        self.options = {
            "batch_size": batch_size,
            "shuffle": shuffle,
            "drop_last": drop and not 0 < n < batch_size,
            "seed": seed,
        }
        self.x = np.arange(n)
        self.loader = DataLoader(self.x, **self.options)
        self.next = self.position = (0, 0)
        self.iterators = []  # [iterator, epoch, batches already out, is the newest]
        self.saved = []  # (state, position)

    def expected(self, epoch):
        return naive_epoch(len(self.x), **self.options, epoch=epoch)

    def nobody_is_newest(self):
        for entry in self.iterators:
            entry[3] = False

    @rule()
    def begin(self):
        self.nobody_is_newest()
        self.iterators.append([iter(self.loader), *self.next, True])
        self.position = self.next
        self.next = (self.next[0] + 1, 0)

    @precondition(lambda self: self.iterators)
    @rule(data=st.data(), steps=st.integers(1, 6))
    def advance(self, data, steps):
        entry = data.draw(st.sampled_from(self.iterators))
        iterator, epoch, _, newest = entry
        for _ in range(steps):
            batch = next(iterator, None)
            expected = self.expected(epoch)
            if entry[2] == len(expected):
                assert batch is None
                self.iterators.remove(entry)
                if newest:
                    self.position = (epoch + 1, 0)
                return
            assert batch.tolist() == expected[entry[2]]
            entry[2] += 1
            if newest:
                self.position = (epoch, entry[2])

    @rule()
    def save(self):
        state = self.loader.state_dict()
        assert (state["epoch"], state["batches_yielded"]) == self.position
        self.saved.append((state, self.position))

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), fresh=st.booleans())
    def load(self, data, fresh):
        state, position = data.draw(st.sampled_from(self.saved))
        if fresh:
            self.loader = DataLoader(self.x, **self.options)
        self.loader.load_state_dict(state)
        self.nobody_is_newest()
        self.next = self.position = position


TestAnyUse = AnyUse.TestCase
TestAnyUse.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# --- states that are refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 4}, ["batch_size=4", "batch_size=3"]),
        ({"batch_size": 3.0}, ["batch_size=3.0"]),
        ({"shuffle": False}, ["shuffle=False", "shuffle=True"]),
        ({"shuffle": 1}, ["shuffle=1"]),
        ({"drop_last": True}, ["drop_last=True", "drop_last=False"]),
        ({"seed": 8}, ["seed=8", "seed=7"]),
        ({"seed": np.arange(2)}, ["seed=array([0, 1])"]),
        ({"dataset_size": 11}, ["dataset_size=11", "dataset_size=10"]),
        ({"epoch": -1}, ["epoch=-1", "at least 0"]),
        ({"epoch": True}, ["epoch=True"]),
        ({"epoch": 1.0}, ["epoch=1.0"]),
        ({"epoch": "1"}, ["epoch='1'"]),
        ({"batches_yielded": -1}, ["batches_yielded=-1", "at least 0"]),
        ({"batches_yielded": 5}, ["batches_yielded=5", "at most 4"]),
        ({"batches_yielded": None}, ["batches_yielded=None"]),
        ({"batches_yielded": False}, ["batches_yielded=False"]),
        ({"workers": 2, 3: 4}, ["unknown", "'workers'", "3"]),
    ],
)
def test_a_wrong_state_is_named_and_nothing_of_it_is_loaded(change, words):
    loader = shuffled()
    iterator = iter(loader)
    next(iterator)
    before = loader.state_dict()
    wrong = {**before, "epoch": 3, "batches_yielded": 2, **change}
    with pytest.raises(StateDictError) as caught:
        loader.load_state_dict(wrong)
    for word in words:
        assert word in str(caught.value)
    assert loader.state_dict() == before
    next(iterator)
    assert position(loader) == (0, 2)  # still the iterator that the state follows
    list(loader)
    assert position(loader) == (2, 0)


@pytest.mark.parametrize("name", list(shuffled().state_dict()))
def test_a_missing_key_is_named(name):
    loader = shuffled()
    state = loader.state_dict() | {"epoch": 3}
    del state[name]
    with pytest.raises(StateDictError, match=f"lacks '{name}'; pass what"):
        loader.load_state_dict(state)
    assert position(loader) == (0, 0)


@pytest.mark.parametrize("state", [None, [("epoch", 0)], 3])
def test_a_state_that_is_no_mapping_is_refused(state):
    with pytest.raises(StateDictError, match=f"state is a {type(state).__name__}"):
        shuffled().load_state_dict(state)


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
