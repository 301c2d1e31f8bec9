"""A DataLoader agrees with a plain model in any order of calls that Hypothesis tries."""

import numpy as np
from data_cases import batch_sizes, naive_epoch, sizes
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from minigrad.data import DataLoader


class AnyUse(RuleBasedStateMachine):
    """An AnyUse makes, advances, drops, saves and loads iterators beside a plain model."""

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
TestAnyUse.settings = settings(max_examples=60, stateful_step_count=30)
