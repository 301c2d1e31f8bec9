"""The hyperparameters of a group of parameters, checked and in the form that SGD's kernels take.

The sources here are what a compiled step calls to find these values and the momentum in each call.
May import tape, arrays, checks, errors and kernels.
"""

import functools
import operator
from collections.abc import Mapping
from operator import is_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import FLOAT32, FLOAT64
from ..checks import flag, number
from ..engine.tracer import refuse_in_trace
from ..errors import ArgumentError
from ..kernels.inplace import HYPER


class Group(dict[str, Any]):
    """The values of a group of parameters; a compiled step reads them anew in each call."""

    def __setitem__(self, name: str, value: Any) -> None:
        refuse_in_trace(
            f"setting {name!r} of a group", "would set it once; set it outside the step"
        )
        super().__setitem__(name, value)

    def update(self, *values: Any, **named: Any) -> None:
        """As that of a dict."""
        for name, value in dict(*values, **named).items():
            self[name] = value

    def __ior__(self, values: Any) -> "Group":  # type: ignore[override, misc]
        self.update(values)
        return self


_LARGEST = float(np.finfo(np.float32).max)  # so that each value has a float32
_NAMES = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
_values = operator.itemgetter(*_NAMES)


def check_group(group: Mapping[str, Any]) -> None:
    """Errors: ArgumentError, DtypeError for values that SGD cannot use."""
    number("SGD", "lr", group["lr"], 0, _LARGEST, hint="to ascend, use maximize=True")
    number("SGD", "momentum", group["momentum"], 0, _LARGEST)
    number("SGD", "weight_decay", group["weight_decay"], 0, _LARGEST)
    number("SGD", "dampening", group["dampening"], -_LARGEST, _LARGEST)
    flag("SGD", "nesterov", group["nesterov"])
    flag("SGD", "maximize", group["maximize"])
    if group["nesterov"] and (not group["momentum"] or group["dampening"]):
        raise ArgumentError(
            "SGD: nesterov needs momentum above 0 and dampening 0, got "
            f"momentum={group['momentum']}, dampening={group['dampening']}"
        )


def as_arrays(group: Group, first: bool = False) -> dict[Any, NDArray[Any]]:
    """Return the group's values, checked, as the kernels take them, for each dtype of parameters.

    first: whether they are for the first step of a parameter with momentum, which is not dampened.
    """
    try:
        found = _as_arrays(*_values(group))
        return _as_arrays(*_values({**group, "dampening": 0.0})) if first else found
    except TypeError:  # what cannot be hashed is no number either
        check_group(group)
        raise


class HyperSource:
    """A function that returns the values of a group, or None if they need another kernel.

    begins: whether this is the parameter's first update in the step, and so may be its very first.
    """

    def __init__(self, optimizer: Any, group: Group, parameter: Any, begins: bool) -> None:
        self.optimizer, self.group, self.parameter = optimizer, group, parameter
        self.begins = begins
        self.dtype = parameter.dtype
        self.seen, self.kind = _values(group), _kind(group)
        self.found = self._find()

    def _find(self) -> Any:
        first = self.kind[-1] and self.begins and self.parameter not in self.optimizer.state
        return as_arrays(self.group, first)[self.dtype]

    def __call__(self) -> Any:
        now = _values(self.group)
        if now != self.seen:
            if _kind(self.group) != self.kind:
                return None
            self.found, self.seen = self._find(), now
        elif self.kind[-1]:  # dampening begins with the second step of a parameter
            self.found = self._find()
        return self.found

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, HyperSource)
            and other.group is self.group
            and other.dtype == self.dtype
            and other.kind == self.kind
            and (not self.kind[-1] or self._one() == other._one())
        )

    def _one(self) -> Any:
        return id(self.parameter), self.begins

    def __hash__(self) -> int:
        return id(self.group)


def _kind(group: Mapping[str, Any]) -> tuple[bool, bool, bool]:
    """Return what selects the kernel: momentum, nesterov, and whether the first step differs."""
    momentum = bool(group["momentum"])
    return momentum, bool(group["nesterov"]), momentum and bool(group["dampening"])


class Groups:
    """A guard that an optimizer still has the same groups, with the same parameters."""

    def __init__(self, optimizer: Any) -> None:
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Groups) and other.optimizer is self.optimizer

    def __hash__(self) -> int:
        return id(self.optimizer)


class MomentumSource:
    """A function that returns the momentum of a parameter.

    Before the parameter's first step it returns zeros, which `commit` gives to the optimizer.
    """

    def __init__(self, optimizer: Any, parameter: Any) -> None:
        self.optimizer, self.parameter = optimizer, parameter
        self.pending: NDArray[Any] | None = None

    def __call__(self) -> Any:
        state = self.optimizer.state.get(self.parameter)
        if state is not None:
            return state["momentum_buffer"]
        if self.pending is None:
            self.pending = np.zeros(self.parameter.shape, self.parameter.dtype)
        return self.pending

    def commit(self) -> None:
        """Give the momentum to the optimizer, after the first step."""
        self.optimizer.state[self.parameter] = {"momentum_buffer": self.pending}
        self.pending = None

    def forget(self) -> None:
        """Let go of the momentum, after a first step that has failed."""
        self.pending = None

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, MomentumSource)
            and other.optimizer is self.optimizer
            and other.parameter is self.parameter
        )

    def __hash__(self) -> int:
        return id(self.parameter)


@functools.lru_cache(maxsize=64, typed=True)
def _as_arrays(*values: Any) -> dict[Any, NDArray[Any]]:
    group = dict(zip(_NAMES, values, strict=True))
    check_group(group)
    hyper = {
        "lr": group["lr"],
        "weight_decay": group["weight_decay"],
        "sign": -1.0 if group["maximize"] else 1.0,
        "momentum": group["momentum"],
        "1 - dampening": 1.0 - group["dampening"],
    }
    listed = [hyper[name] for name in HYPER]
    return {dtype: np.array(listed, dtype) for dtype in (FLOAT32, FLOAT64)}
