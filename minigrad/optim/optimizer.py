"""What all optimizers have in common: parameter groups, state, checks and the step.

May import engine, ops, kernels and below.
"""

import functools
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import FLOAT32, FLOAT64
from ..engine.tape import enable_grad
from ..engine.tensor import Tensor, change_all, tensor
from ..engine.tracer import compiling, refuse_in_trace
from ..errors import ArgumentError, DtypeError, MinigradError, ShapeError, StateDictError
from ..ops.inplace import Update
from .live_state import LiveNumbers, LiveState, SameGroups

__all__ = ["Optimizer", "Rule"]


class Rule(Update):
    """How an optimizer changes one parameter: kernel(p, g, *buffers, *counters, numbers).

    name, doc: what the rule is called in listings of compiled steps, and its formula.
    kernel, threads: see Update. The kernel gets arrays in C order, the parameter and its gradient
        first; the numbers are an array of the parameter's dtype.
    buffers: the names of state arrays like the parameter; counters: the names of integers, arrays
        of int64 and shape (). All are zeros before the first step, and the kernel changes them.
    """

    def __init__(
        self,
        name: str,
        kernel: Callable[..., Any],
        doc: str,
        buffers: Sequence[str] = (),
        counters: Sequence[str] = (),
        threads: bool = False,
    ) -> None:
        self.buffers, self.counters = tuple(buffers), tuple(counters)
        self.state = (*self.buffers, *self.counters)
        changes = (0, *range(2, 2 + len(self.state)))
        super().__init__(name, kernel, changes, doc, threads=threads)

    def new(self, name: str, p: Tensor) -> NDArray[Any]:
        """Return the state array of this name as it is before the first step of p."""
        return np.zeros(p.shape, p.dtype) if name in self.buffers else np.zeros((), np.int64)

    def renewed(self, name: str, array: NDArray[Any] | None, p: Tensor) -> NDArray[Any]:
        """Return the state array of this name as it is, or a new one if it is missing, or has not
        the dtype of p, which Module.to may have changed since the last step."""
        if array is None:
            return self.new(name, p)
        return array.astype(p.dtype, copy=False) if name in self.buffers else array


class ParamGroup(dict[str, Any]):
    """Parameters, and the hyper-parameters for them, which compiled steps read in each call."""

    def __setitem__(self, name: str, value: Any) -> None:
        refuse_in_trace(
            f"setting {name!r} of a group", "would set it once; set it outside the step"
        )
        super().__setitem__(name, value)

    def update(self, *values: Any, **named: Any) -> None:
        """Set several values, as `dict.update` does."""
        for name, value in dict(*values, **named).items():
            self[name] = value

    def __ior__(self, values: Any) -> "ParamGroup":  # type: ignore[override, misc]
        self.update(values)
        return self


class Settings(NamedTuple):
    """What the hyper-parameters of a group come to: a rule, and its numbers for each dtype.

    first: the numbers for the first step of a parameter; later: those for all other steps.
    """

    rule: Rule
    first: dict[Any, NDArray[Any]]
    later: dict[Any, NDArray[Any]]

    @property
    def differs(self) -> bool:
        """Whether the first step of a parameter has numbers of its own."""
        return self.first is not self.later

    @property
    def structure(self) -> tuple[Rule, bool]:
        """What a compiled step is built on; it must be traced again if this changes."""
        return self.rule, self.differs


class Optimizer(ABC):
    """The base class of optimizers. A subclass gives `rules`, `check`, `numbers` and, if it has
    several rules, `rule`; CONTRIBUTING.md has the recipe.

    params: as for SGD; defaults: the hyper-parameters of groups without their own, by name.
    param_groups: a list of dicts, whose values may change between steps. state: by parameter, the
    arrays that the rule keeps for it. Errors: ArgumentError, DtypeError.
    """

    rules: ClassVar[tuple[Rule, ...]]

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        refuse_in_trace(f"a new {self._name}", "would be made once; build it outside the step")
        self.defaults: dict[str, Any] = dict(defaults)
        self._names = names = tuple(defaults)
        # The values of a group. The first name again, as for one name it would return no tuple.
        self.values = operator.itemgetter(*names, names[0])
        self.check(self.defaults)
        self.param_groups: list[ParamGroup] = []
        self.state: dict[Tensor, dict[str, NDArray[Any]]] = {}
        if isinstance(params, Tensor):
            raise DtypeError(
                f"{self._name}: params must be a list of Tensors, got one Tensor; use [tensor]"
            )
        given = self._listed(params)
        if not given:
            raise ArgumentError(
                f"{self._name}: got an empty parameter list (a generator that was used up?)"
            )
        groups = given if isinstance(given[0], Mapping) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    # --- what a subclass gives -----------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def check(group: Mapping[str, Any]) -> None:
        """Raise an ArgumentError or a DtypeError if a group has values that cannot be used."""

    @classmethod
    def rule(cls, group: Mapping[str, Any]) -> Rule:
        """Return the rule for a group: one of `rules`, which is the only one by default.

        Compiled steps are traced again when the rule of a group changes.
        """
        (rule,) = cls.rules
        return rule

    @staticmethod
    @abstractmethod
    def numbers(group: Mapping[str, Any], first: bool) -> Sequence[float]:
        """Return the numbers that the rule's kernel takes for the parameters of a group.

        first: whether they are for the first step of a parameter that has a state.
        """

    # --- groups --------------------------------------------------------------------------------

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add `group`, a dict of "params" and of hyper-parameters; those left out are the defaults.

        Errors: ArgumentError, DtypeError; a parameter may be in one group only.
        """
        if not isinstance(group, Mapping) or "params" not in group:
            raise ArgumentError(f"{self._name}: a parameter group is a dict with the key 'params'")
        unknown = [k for k in group if k not in self.defaults and k != "params"]
        if unknown:
            raise ArgumentError(
                f"{self._name}: a group has {sorted(self.defaults)}, got unknown {unknown}"
            )
        one = isinstance(group["params"], Tensor)
        params = [group["params"]] if one else self._listed(group["params"])
        new = ParamGroup({**self.defaults, **group, "params": params})
        self.check(new)
        if not params:
            raise ArgumentError(f"{self._name}: a group has an empty parameter list")
        seen = {id(p) for g in self.param_groups for p in g["params"]}
        for i, p in enumerate(params):
            self._check_parameter(i, p)
            if id(p) in seen:
                raise ArgumentError(
                    f"{self._name}: parameter {i}, shape {p.shape}, is given twice; leave one out "
                    "(a shared one comes once from model.parameters())"
                )
            seen.add(id(p))
        self.param_groups.append(new)

    def _check_parameter(self, i: int, p: Any) -> None:
        if not isinstance(p, Tensor):
            raise DtypeError(
                f"{self._name}: parameter {i} is a {type(p).__name__}, expected a Tensor; pass "
                "model.parameters() (not named_parameters() or state_dict())"
            )
        if not p.is_leaf or p.dtype.kind != "f":
            raise ArgumentError(
                f"{self._name}: parameter {i}, shape {p.shape}, must be a leaf of floats, got "
                f"{p.dtype if p.is_leaf else 'the result of an operation'}; train the Tensor "
                "that mg.tensor or nn.Parameter made"
            )

    def _listed(self, params: Any) -> list[Any]:
        if isinstance(params, (set, frozenset)):
            raise DtypeError(
                f"{self._name}: params must be in an order, which a set has not; pass a list"
            )
        if not isinstance(params, Iterable):
            raise DtypeError(
                f"{self._name}: params must be a list of Tensors, got {type(params).__name__}"
            )
        return list(params)

    def settings(self, group: Mapping[str, Any]) -> Settings:
        """Return the rule and the numbers of a group. Errors: those of `check`."""
        try:
            return _settings(type(self), self._names, *self.values(group))
        except TypeError:  # what cannot be hashed is no hyper-parameter either
            self.check(group)
            raise

    # --- training ------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Take the gradients of all parameters away or, with set_to_none=False, make them zero."""
        trace = compiling()
        if trace is not None:
            trace.guard(SameGroups(self))
        for group in self.param_groups:
            for p in group["params"]:
                if trace is not None:
                    (trace.cleared if set_to_none else trace.reads_gradient)(p)
                if set_to_none or p._grad is None:
                    p._grad = None
                else:
                    p.grad = tensor(np.zeros(p.shape, p.dtype))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, and return what `closure()` returned.

        closure: computes the loss and calls backward, before the update; None: nothing is called.
        Errors: ShapeError for a gradient that does not fit, ArgumentError, DtypeError. A step that
        raises has changed nothing.
        """
        loss = None
        if closure is not None and not callable(closure):
            raise DtypeError(
                f"{self._name}.step: closure must be a function, got {type(closure).__name__}"
            )
        if closure is not None:
            with enable_grad():
                loss = closure()
        trace = compiling()
        if trace is not None:
            trace.guard(SameGroups(self))
        updates: list[tuple[Update, list[Any]]] = []  # all are checked before the first is made
        changed: list[Tensor] = []
        states: dict[Tensor, dict[str, NDArray[Any]]] = {}  # those that are new
        for group in self.param_groups:
            settings = self.settings(group)
            rule, first, later = settings
            for p in group["params"]:
                if trace is not None:
                    trace.reads_gradient(p)
                gradient = p._grad
                if gradient is None:
                    continue
                data, g = p._data, gradient._data
                dtype = data.dtype
                fits = data.flags.carray and g.flags.carray
                if not fits or g.shape != data.shape or g.dtype is not dtype:
                    self._check_gradient(data, g)
                changed.append(p)
                if trace is not None:
                    live = self._live(trace, p, group, settings)
                    updates.append((rule, [p, gradient, *live]))
                    continue
                inputs, numbers = [data, g], later
                if rule.state:
                    state = self.state.get(p)
                    if state is None:
                        state, numbers = {}, first
                    for name in rule.state:  # every step pays for this loop
                        array = state.get(name)
                        if array is None or (array.dtype is not dtype and name in rule.buffers):
                            array = rule.renewed(name, array, p)
                            states.setdefault(p, {})[name] = array
                        inputs.append(array)
                inputs.append(numbers[dtype])
                updates.append((rule if fits else rule.in_any_order, inputs))
        for p, state in states.items():
            self.state.setdefault(p, {}).update(state)
        change_all(updates, changed)
        return loss

    def _live(self, trace: Any, p: Tensor, group: ParamGroup, settings: Settings) -> list[Any]:
        """Return the state of p and the numbers of its group as Values of a trace, which each
        compiled call looks up anew."""
        rule = settings.rule
        state = self.state.get(p, {})
        state |= {name: rule.renewed(name, array, p) for name, array in state.items()}
        live = [LiveState(self, p, rule, name) for name in rule.state]
        begins = not any(map(trace.has_source, live))
        numbers = trace.source(LiveNumbers(self, group, p, begins), "hyper")
        return [*(trace.source(each, each.name, p) for each in live), numbers]

    def _check_gradient(self, p: NDArray[Any], g: NDArray[Any]) -> None:
        """Raise an error unless the kernel may run on a parameter and its gradient."""
        if g.shape != p.shape or (g.dtype is not p.dtype and g.dtype != p.dtype):
            raise ShapeError(
                f"{self._name}: a gradient of shape {g.shape}, {g.dtype}, for a parameter of shape "
                f"{p.shape}, {p.dtype}; clear it with zero_grad() after changing a parameter"
            )
        if not p.flags.writeable:
            raise ArgumentError(
                f"{self._name}: the array of a parameter of shape {p.shape} is read-only"
            )

    # --- state ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all state and hyper-parameters; parameters are named by their order."""
        refuse_in_trace(f"{self._name}.state_dict")
        index = {id(p): i for i, p in enumerate(self._parameters())}
        return {
            "state": {
                index[id(p)]: {k: v.copy() for k, v in s.items()} for p, s in self.state.items()
            },
            "param_groups": [
                {**group, "params": [index[id(p)] for p in group["params"]]}
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a `state` that state_dict gave, for parameters of the same shapes and order.

        Errors: StateDictError; nothing is loaded then.
        """
        name, order = f"{self._name}.load_state_dict", self._parameters()
        refuse_in_trace(name, "would load once; load outside the step")
        try:
            groups, saved = state["param_groups"], dict(state["state"])
            sizes = [len(g["params"]) for g in groups]
            loaded = [{k: g[k] for k in self.defaults} for g in groups]
            kept = {
                int(i): {k: np.array(s[k]) for k in self._rule_of(s).state}
                for i, s in saved.items()
                if s
            }
        except (KeyError, TypeError, ValueError) as error:
            raise StateDictError(f"{name}: not a state of {self._name}: {error!r}") from error
        expected = [len(g["params"]) for g in self.param_groups]
        if sizes != expected:
            raise StateDictError(f"{name}: groups of {sizes} parameters, expected {expected}")
        states: dict[Tensor, dict[str, NDArray[Any]]] = {}
        for i, arrays in kept.items():
            for key, array in arrays.items():
                fresh = self._rule_of(arrays).new(key, order[i]) if 0 <= i < len(order) else None
                if fresh is None or array.shape != fresh.shape or array.dtype.kind not in "fiu":
                    raise StateDictError(
                        f"{name}: {key} {i} of shape {array.shape}, {array.dtype}, fits no "
                        "parameter in that place"
                    )
                np.copyto(fresh, array, casting="unsafe")
                states.setdefault(order[i], {})[key] = fresh
        try:
            for group in loaded:
                self.check(group)
        except MinigradError as error:
            raise StateDictError(f"{name}: {error}") from error
        for group, values in zip(self.param_groups, loaded, strict=True):
            group.update(values)
        self.state = states

    def _rule_of(self, state: Mapping[str, Any]) -> Rule:
        """Return the rule that keeps arrays of these names for a parameter. Errors: KeyError."""
        return {frozenset(rule.state): rule for rule in self.rules}[frozenset(state)]

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        values = [
            ", ".join(f"{k}={v}" for k, v in group.items() if k != "params")
            for group in self.param_groups
        ]
        return f"{self._name}({'; '.join(values)})"


@functools.lru_cache(maxsize=64, typed=True)
def _settings(kind: type[Optimizer], names: tuple[str, ...], *values: Any) -> Settings:
    group = dict(zip(names, values, strict=False))
    kind.check(group)
    rule = kind.rule(group)
    later = tuple(kind.numbers(group, False))
    first = tuple(kind.numbers(group, True)) if rule.state else later
    arrays = _arrays_of(later)
    return Settings(rule, arrays if first == later else _arrays_of(first), arrays)


def _arrays_of(numbers: Sequence[float]) -> dict[Any, NDArray[Any]]:
    return {dtype: np.array(numbers, dtype) for dtype in (FLOAT32, FLOAT64)}
