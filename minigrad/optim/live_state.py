"""Live state is what each call of a compiled step looks up in the optimizers.

The classes get the optimizer as an argument, since this module cannot import optimizer.py, which
imports it.
"""

from collections.abc import Sequence
from operator import is_
from typing import TYPE_CHECKING, TypeAlias

from ..types import Array

if TYPE_CHECKING:
    from ..engine.tensor import Tensor
    from .optimizer import Group, Optimizer
    from .rule import Rule

# Expressions that determine what a call returns, each with the objects in it.
Reads: TypeAlias = list[tuple[str, tuple[object, ...]]]


class LiveState:
    """A LiveState is a function that returns an array that an optimizer keeps for a parameter.

    Before the parameter's first step it returns a new array, which is stored in `pending` until
    `commit` gives it to the optimizer.
    """

    def __init__(
        self, optimizer: "Optimizer", parameter: "Tensor", rule: "Rule", name: str
    ) -> None:
        self.optimizer, self.parameter, self.rule, self.name = optimizer, parameter, rule, name
        self.pending: Array | None = None

    def __call__(self) -> Array:
        state = self.optimizer.state.get(self.parameter)
        found = None if state is None else state.get(self.name)
        if found is not None:
            self.pending = None
            return found
        if self.pending is None:
            self.pending = self.rule.new(self.name, self.parameter)
        return self.pending

    def reads(self) -> Reads:
        """Return the expression, with its objects, that alone determines what a call returns."""
        return [("{0}.state[{1}][{2}]", (self.optimizer, self.parameter, self.name))]

    def commit(self) -> None:
        """Give the new array to the optimizer, after the first step."""
        assert self.pending is not None
        self.optimizer.state.setdefault(self.parameter, {})[self.name] = self.pending
        self.pending = None

    def forget(self) -> None:
        """Drop the new array, after a first step that has failed."""
        self.pending = None

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, LiveState)
            and other.optimizer is self.optimizer
            and other.parameter is self.parameter
            and other.name == self.name
        )

    def __hash__(self) -> int:
        return hash((id(self.parameter), self.name))


class LiveNumbers:
    """LiveNumbers is a function that returns an array with the numbers that a group has now.

    The array is the same one in each call. The function returns None if the rule has changed.

    begins: whether this is the parameter's first update in the traced step, so that it may be the
        first update ever.
    """

    def __init__(
        self, optimizer: "Optimizer", group: "Group", parameter: "Tensor", begins: bool
    ) -> None:
        self.optimizer, self.group, self.parameter = optimizer, group, parameter
        self.dtype = parameter.dtype
        self.seen, self.settings = optimizer.values(group), optimizer.settings(group)
        self.begins = begins and self.settings.differs
        one = id(parameter) if self.begins else None
        self._key = id(group), self.dtype, self.settings.structure, one
        self._written: Array | None = None  # the numbers that the array has
        self._array: Array = self.settings.later[self.dtype].copy()

    def __call__(self) -> Array | None:
        now = self.optimizer.values(self.group)
        if not all(map(is_, now, self.seen)):  # Tensors and arrays cannot be compared
            settings = self.optimizer.settings(self.group)
            if settings.structure != self.settings.structure:
                return None
            self.seen, self.settings = now, settings
        first = self.begins and self.parameter not in self.optimizer.state
        found = (self.settings.first if first else self.settings.later)[self.dtype]
        if found is not self._written:
            self._array[...] = self._written = found
        return self._array

    def reads(self) -> Reads:
        """Return the expressions, with their objects, that determine what a call returns."""
        if self.begins:
            return [("{0}()", (self,))]
        return [("{0}[{1}]", (self.group, name)) for name in self.optimizer.defaults]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LiveNumbers) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)


class SameGroups:
    """SameGroups is a guard that holds while an optimizer has the same groups and parameters."""

    def __init__(self, optimizer: "Optimizer") -> None:
        self.optimizer = optimizer
        self.seen = [(group, list(group["params"])) for group in optimizer.param_groups]

    def __call__(self) -> bool:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.seen):
            return False
        for group, (known, params) in zip(groups, self.seen, strict=True):
            now = group["params"]
            if group is not known or len(now) != len(params) or not all(map(is_, now, params)):
                return False
        return True

    def reads(self) -> Reads:
        """Return the expressions, with their objects, that determine what a call returns."""
        groups = self.optimizer.param_groups
        found = [("{0}.param_groups", (self.optimizer,)), *_items(groups)]
        for group, _ in self.seen:
            found += [("{0}[{1}]", (group, "params")), *_items(group["params"])]
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameGroups) and other.optimizer is self.optimizer

    def __hash__(self) -> int:
        return id(self.optimizer)


def _items(x: Sequence[object]) -> Reads:
    return [("len({0})", (x,)), *(("{0}[{1}]", (x, i)) for i in range(len(x)))]
