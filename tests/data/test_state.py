"""A DataLoader's state tells where it is and resumes from there; wrong states are refused."""

import json

import numpy as np
import pytest
from data_cases import epoch_of, shuffled

from minigrad.data import DataLoader
from minigrad.errors import StateDictError

# --- what a state says and restores


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
