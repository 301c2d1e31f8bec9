"""A DataLoader cuts arrays in memory into mini-batches.

A loader knows nothing of Tensors: it yields ndarrays, which models and losses take as they are.
"""

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import flag, integer
from .engine.tracer import refuse_in_trace
from .errors import ArgumentError, ShapeError, StateDictError
from .types import Array

__all__ = ["DataLoader"]

# What a loader yields: an array or, if it has several arrays, a tuple with a piece of each.
Batch: TypeAlias = Array | tuple[Array, ...]


class DataLoader:
    """Cut arrays of equal first dimension into mini-batches.

        for x, y in DataLoader(images, labels, batch_size=64, shuffle=True):
            ...

    Every `iter(loader)`, and so every `for` loop, is one epoch, numbered from 0. The order of
    epoch `e` depends on `(seed, e)` alone: neither a `break` in an earlier epoch nor a second
    iterator alive at the same time changes it.

    arrays: one or more of anything `np.asarray` takes, shapes `(n, ...)` with the same `n`, any
        dtype. ndarrays are kept as they are, not copied.
    batch_size: samples per batch, an integer of at least 1.
    shuffle: draw a new order for every epoch; otherwise the arrays' own order.
    drop_last: leave out a last batch of fewer than `batch_size` samples. Training with BatchNorm
        wants this: one sample has no variance.
    seed: an integer of at least 0 that fixes the orders of all epochs.

    Yields a bare ndarray of shape `(b, ...)` when there is one array, and a tuple of ndarrays
    when there are several; `b` is `batch_size`, or less in the last batch. Dtypes are the
    arrays' own. A batch is always a copy: writing into it leaves the data set as it was.

    Errors: ShapeError for a 0-d or ragged array and for different first dimensions;
    ArgumentError for no arrays, for a number of the wrong type or range, and for `drop_last`
    with a `batch_size` above `n`, which would leave no batch; DtypeError for a flag that is not a
    bool. `n == 0` is allowed and gives no batches.

    >>> loader = DataLoader(np.arange(5), batch_size=2)
    >>> [batch.tolist() for batch in loader]
    [[0, 1], [2, 3], [4]]
    >>> [y.tolist() for x, y in DataLoader(np.eye(3), [7, 8, 9], batch_size=2, drop_last=True)]
    [[7, 8]]
    """

    # Fixed at construction: under other settings a saved position would mean other samples.
    arrays: Final[tuple[Array, ...]]
    batch_size: Final[int]
    shuffle: Final[bool]
    drop_last: Final[bool]
    seed: Final[int]
    dataset_size: Final[int]

    def __init__(
        self,
        *arrays: ArrayLike,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
    ) -> None:
        if not arrays:
            raise ArgumentError("DataLoader: no arrays; pass at least one, as in DataLoader(x, y)")
        self.arrays = tuple(_as_array(array, i) for i, array in enumerate(arrays))
        self.dataset_size = n = len(self.arrays[0])
        for i, array in enumerate(self.arrays):
            if len(array) != n:
                raise ShapeError(
                    f"DataLoader: first dimensions differ, {n} in array 0 and {len(array)} in "
                    f"array {i}; every array needs one entry per sample"
                )
        self.batch_size = integer("DataLoader", "batch_size", batch_size, 1)
        self.shuffle = flag("DataLoader", "shuffle", shuffle)
        self.drop_last = flag("DataLoader", "drop_last", drop_last)
        self.seed = integer("DataLoader", "seed", seed, 0)
        if self.drop_last and 0 < n < self.batch_size:
            raise ArgumentError(
                f"DataLoader: drop_last=True with batch_size={self.batch_size} and only {n} "
                "samples leaves no batch at all; lower batch_size or set drop_last=False"
            )
        self._position = (0, 0)  # for state_dict(): epoch, and how many of its batches were yielded
        self._next = (0, 0)  # where the next iterator begins
        self._newest = object()  # marks the one iterator that moves _position

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        full, rest = divmod(self.dataset_size, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"DataLoader({settings})"

    def __iter__(self) -> Iterator[Batch]:
        """Begin the next epoch or, once after `load_state_dict`, the rest of the saved one."""
        return map(self._batch, self.rows())

    def rows(self) -> Iterator[NDArray[np.intp]]:
        """Begin an epoch as `iter` does, but yield the sample numbers of each batch, `(b,)`."""
        refuse_in_trace(
            "a batch of a DataLoader", "would be the same in each call; pass batches as arguments"
        )
        # Not in the generator, whose body waits for the first next(): iter() begins the epoch.
        self._position = epoch, first = self._next
        self._next = (epoch + 1, 0)
        self._newest = object()
        return self._rows(epoch, first, self._newest)

    def _rows(self, epoch: int, first: int, me: object) -> Iterator[NDArray[np.intp]]:
        order = self._order(epoch)
        for i in range(first, len(self)):
            if self._newest is me:  # before the yield: the batch in the loop body counts
                self._position = (epoch, i + 1)
            yield order[i * self.batch_size : (i + 1) * self.batch_size]
        if self._newest is me:
            self._position = (epoch + 1, 0)

    def _batch(self, rows: NDArray[np.intp]) -> Batch:
        batch = tuple(array.take(rows, axis=0) for array in self.arrays)
        return batch if len(batch) > 1 else batch[0]

    def _order(self, epoch: int) -> NDArray[np.intp]:
        """Return the sample numbers in the order of `epoch`, shape `(dataset_size,)`."""
        if not self.shuffle:
            return np.arange(self.dataset_size)
        # Not default_rng([seed, epoch]): NumPy pads that list with zeros, so epoch 0 would
        # repeat default_rng(seed), from which callers draw their own splits and noise.
        stream = np.random.SeedSequence(self.seed, spawn_key=(epoch,))
        return np.random.default_rng(stream).permutation(self.dataset_size)

    def state_dict(self) -> dict[str, int | bool]:
        """Return position and settings as plain ints and bools, which JSON can hold.

        `epoch` and `batches_yielded` say how far the newest iterator is:
        - before the first iterator: 0 and 0;
        - in the body of a loop: `e` and `k`, with the current batch counted. At the last batch `k`
          is `len(loader)`: the loop after loading is the empty rest of epoch `e`, so a resumed
          program runs the same loops as one that was never stopped;
        - after a loop that ran to its end: `e + 1` and 0;
        - after a `break`: still `e` and `k`. A new loop here begins epoch `e + 1`; after loading
          the state, it resumes epoch `e`.

        A resumed program still runs `range(loader.state_dict()["epoch"], epochs)`.
        """
        epoch, batches_yielded = self._position
        return {"epoch": epoch, "batches_yielded": batches_yielded, **self._settings()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next iterator continue where `state` was saved; the one after it is a new epoch.

        The samples are not in the state: make the loader with the same arrays. Iterators that
        exist already keep their batches, but `state_dict()` no longer follows them.

        Errors: StateDictError for a missing or unknown key, for settings or a data set's size
        other than this loader's, and for an invalid position. The loader is then unchanged.
        """
        own = self.state_dict()
        saved_by = "pass what the state_dict() of a DataLoader returned"
        if not isinstance(state, Mapping):
            raise StateDictError(f"DataLoader: state is a {type(state).__name__}; {saved_by}")
        for keys, problem in ((own.keys() - state, "lacks"), (state.keys() - own, "has unknown")):
            if keys:
                names = ", ".join(sorted(map(repr, keys)))
                raise StateDictError(f"DataLoader: state {problem} {names}; {saved_by}")
        for name, value in self._settings().items():
            # The type too: True == 1, but a shuffle of 1 was not saved by a DataLoader.
            if type(state[name]) is not type(value) or state[name] != value:
                raise StateDictError(
                    f"DataLoader: state was saved with {name}={state[name]!r}, this loader has "
                    f"{name}={value!r}; build it as it was when the state was saved"
                )
        epoch, batches_yielded = position = state["epoch"], state["batches_yielded"]
        if any(type(k) is not int or k < 0 for k in position) or batches_yielded > len(self):
            raise StateDictError(
                f"DataLoader: state has epoch={epoch!r} and batches_yielded={batches_yielded!r}, "
                f"expected ints of at least 0, the second at most {len(self)}; {saved_by}"
            )
        self._position = self._next = position
        self._newest = object()

    def _settings(self) -> dict[str, int | bool]:
        names = ("dataset_size", "batch_size", "shuffle", "drop_last", "seed")
        return {name: getattr(self, name) for name in names}


def _as_array(value: ArrayLike, i: int) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:  # NumPy says what is ragged, but not in which argument
        remedy = "pass arrays one by one, DataLoader(x, y)"
        raise ShapeError(f"DataLoader: array {i} is ragged ({error}); {remedy}") from error
    if array.ndim == 0:
        raise ShapeError(
            f"DataLoader: array {i} is 0-d ({value!r:.40}), expected shape (n, ...); "
            "settings go by name, as in batch_size=64"
        )
    return array
