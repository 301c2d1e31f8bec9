"""The base class of optimizers has the parameter groups, the state, the checks and the step."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeAlias, TypeVar

import numpy as np

from ..engine.tape import enable_grad
from ..engine.tensor import Tensor, change_all, change_or_restore, tensor
from ..engine.tracer import StandIn, StepTracer, compiling, refuse_in_trace
from ..errors import ArgumentError, DtypeError, MinigradError, ShapeError, StateDictError
from ..kernels.jit.decorators import name_of
from ..kernels.threading.pool import THREADED
from ..ops.inplace import Update
from ..ops.primitive import Operand
from ..types import Array
from .live_state import LiveNumbers, LiveState, SameGroups
from .rule import Rule, Settings, class_of, settings_of

__all__ = ["Optimizer"]

X = TypeVar("X")
# Hyper-parameters by name, which differ in type. A group of an optimizer also has "params".
Group: TypeAlias = Mapping[str, Any]
Params: TypeAlias = Iterable[Tensor] | Iterable[Group]


class ParamGroup(dict[str, Any]):
    """A ParamGroup holds parameters and hyper-parameters, which each compiled call reads again."""

    def __setitem__(self, name: str, value: object) -> None:
        refuse_in_trace(
            f"setting {name!r} of a group", "would set it once; set it outside the step"
        )
        super().__setitem__(name, value)

    def update(self, *values: Any, **named: Any) -> None:
        """Set several values, like `dict.update`."""
        for name, value in dict(*values, **named).items():
            self[name] = value

    def __ior__(self, values: Any) -> "ParamGroup":  # type: ignore[override, misc]
        self.update(values)
        return self


class Optimizer(ABC):
    """Optimizer is the base class of optimizers.

    A subclass defines `rules`, `check`, `numbers` and, if it has several rules, `rule`;
    CONTRIBUTING.md has the recipe.

    params: as for SGD. defaults: all hyper-parameters by name, with the values for groups that do
    not set them: numbers, strings and tuples of these. The attribute `param_groups` is a list of
    dicts, whose values may change between steps, and `state` maps each parameter to the arrays that
    the rule keeps for it. Errors: ArgumentError, DtypeError.
    """

    rules: ClassVar[tuple[Rule, ...]]

    def __init__(self, params: Params, defaults: Group) -> None:
        refuse_in_trace(f"a new {self._name}", "would be made once; build it outside the step")
        rules = getattr(self, "rules", None)
        if not (isinstance(rules, tuple) and rules and all(isinstance(x, Rule) for x in rules)):
            raise DtypeError(
                f"{self._name}: the class must set `rules` to a tuple of Rules, got "
                f"{class_of(rules)}"
            )
        if not isinstance(defaults, Mapping) or "params" in defaults:
            raise ArgumentError(
                f"{self._name}: defaults must be a dict of hyper-parameters by name, got "
                f"{defaults!r:.60}; 'params' is the name for the parameters of a group"
            )
        self.defaults: dict[str, Any] = dict(defaults)
        self._names = names = tuple(defaults)
        # Returns a group's values. The first name is repeated, since one name would give no tuple.
        self.values = operator.itemgetter(*names, names[0]) if names else _no_values
        self._may_raise = any(name_of(rule.kernel) is None for rule in self.rules)
        self._check(self.defaults)
        self.param_groups: list[ParamGroup] = []
        self.state: dict[Tensor, dict[str, Array]] = {}
        given = self._listed(params)
        in_groups = given and isinstance(given[0], Mapping)
        for group in given if in_groups else [{"params": given}]:
            self.add_param_group(group)

    if not TYPE_CHECKING:  # type checkers would take it for any attribute

        def __getattr__(self, name: str) -> NoReturn:
            """Raise an error for an attribute that is missing, as all are without __init__."""
            began = "param_groups" in vars(self)
            hint = "" if began else "; __init__ must first call super().__init__(params, defaults)"
            raise AttributeError(f"{self._name} has no {name!r}{hint}", name=name, obj=self)

    # --- defined by subclasses -----------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def check(group: Group) -> None:
        """Raise an ArgumentError or a DtypeError if a group has invalid values."""

    @classmethod
    def rule(cls, group: Group) -> Rule:
        """Return the rule for a group, one of `rules`; the default returns the only one.

        Compiled steps are traced again when the rule of a group changes.
        """
        if len(cls.rules) > 1:
            raise ArgumentError(
                f"{cls.__name__}: it has {len(cls.rules)} rules; define `rule(group)` to choose one"
            )
        return cls.rules[0]

    @staticmethod
    @abstractmethod
    def numbers(group: Group, first: bool) -> Sequence[float]:
        """Return the numbers that the rule's kernel takes for the parameters of a group.

        first: whether the numbers are for the first step of a parameter; it is never True for a
            rule without a state.
        """

    # --- groups --------------------------------------------------------------------------------

    def add_param_group(self, group: Group) -> None:
        """Add `group`, a dict of "params" and hyper-parameters; missing ones get the defaults.

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
        self.settings(new)
        if not params:
            raise ArgumentError(
                f"{self._name}: got an empty parameter list (a generator that was used up?)"
            )
        seen = {p for g in self.param_groups for p in g["params"]}
        for i, p in enumerate(params):
            self._check_parameter(i, p)
            if p in seen:
                raise ArgumentError(
                    f"{self._name}: parameter {i}, shape {p.shape}, is given twice; leave one out "
                    "(a shared one comes once from model.parameters())"
                )
            seen.add(p)
        self.param_groups.append(new)

    @classmethod
    def _check(cls, group: Group) -> None:
        """Raise an error unless the hyper-parameters of a group can be used."""
        for name, value in group.items():
            if name != "params" and not _is_fixed(value):
                raise DtypeError(
                    f"{cls.__name__}: {name} must be a number, a str or a tuple of these, got "
                    f"{class_of(value)}, which may change unseen; pass a tuple for a list, and "
                    ".item() of a Tensor or an array"
                )
        cls.check(group)

    def _check_parameter(self, i: int, p: object) -> None:
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

    def _listed(self, params: object) -> list[Any]:
        if isinstance(params, (Tensor, set, frozenset)) or not isinstance(params, Iterable):
            raise DtypeError(
                f"{self._name}: params must be a list of Tensors, got {type(params).__name__}; "
                "pass a list, which has an order, or [tensor] for a single one"
            )
        return list(params)

    def settings(self, group: Group) -> Settings:
        """Return the rule and the numbers of a group. Errors: ArgumentError, those of `check`."""
        try:
            return settings_of(type(self), self._names, *self.values(group))
        except TypeError:  # a value that cannot be hashed; `_check` raises a better error
            self._check({name: group[name] for name in self._names})
            raise
        except KeyError as error:
            raise ArgumentError(
                f"{self._name}: a group lacks {error}, it has {[*group]}; set it again"
            ) from error

    # --- training ------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients of all parameters to None or, with set_to_none=False, to zeros."""
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

    def step(self, closure: Callable[[], X] | None = None) -> X | None:
        """Update every parameter that has a gradient, and return the result of `closure()`.

        closure: a function that computes the loss and calls backward; it runs before the update.
        None: nothing runs, and the result is None. Errors: ShapeError for a gradient that does not
        fit, ArgumentError, DtypeError. A step that raises has changed nothing.
        """
        loss: X | None = None
        if closure is not None:
            if not callable(closure):
                kind = type(closure).__name__
                raise DtypeError(f"{self._name}.step: closure must be a function, got {kind}")
            with enable_grad():
                loss = closure()
        trace = compiling()
        if trace is not None:
            trace.guard(SameGroups(self))
        updates: list[tuple[Update, list[Operand]]] = []  # all are checked first
        # Small parameters, by the identity of their numbers: the update of all, the arrays of
        # each, the arrays of all, and the numbers.
        together: dict[int, tuple[Update, int, list[Operand], Array]] = {}
        changed: list[Tensor] = []
        states: dict[Tensor, dict[str, Array]] = {}  # new or converted state arrays
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
                        fits = fits and array.flags.carray
                hyper = numbers[dtype]
                if rule.for_all is None or not fits or data.size >= THREADED:
                    inputs.append(hyper)
                    updates.append((rule if fits else rule.in_any_order, inputs))
                elif id(hyper) in together:
                    together[id(hyper)][2].extend(inputs)
                else:
                    together[id(hyper)] = rule.for_all, len(inputs), inputs, hyper
        for update, n, arrays, hyper in together.values():
            updates.append((update, [id(arrays), len(arrays) // n, hyper]))
        change = change_or_restore if self._may_raise and trace is None else change_all
        change(updates, changed)
        for p, state in states.items():
            self.state.setdefault(p, {}).update(state)
        return loss

    def _live(
        self, trace: StepTracer, p: Tensor, group: ParamGroup, settings: Settings
    ) -> list[StandIn]:
        """Return stand-ins for the state of p and the numbers of its group.

        Each call of the compiled step looks them up again.
        """
        rule = settings.rule
        state = self.state.get(p, {})
        state |= {name: rule.renewed(name, array, p) for name, array in state.items()}
        live = [LiveState(self, p, rule, name) for name in rule.state]
        begins = not any(map(trace.has_source, live))
        numbers = trace.source(LiveNumbers(self, group, p, begins), "hyper")
        return [*(trace.source(each, each.name, p) for each in live), numbers]

    def _check_gradient(self, p: Array, g: Array) -> None:
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
        """Return copies of all state and hyper-parameters, with indices in place of parameters."""
        refuse_in_trace(f"{self._name}.state_dict")
        index = {p: i for i, p in enumerate(self._parameters())}
        return {
            "state": {index[p]: {k: v.copy() for k, v in s.items()} for p, s in self.state.items()},
            "param_groups": [
                {**group, "params": [index[p] for p in group["params"]]}
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a `state` from state_dict, for parameters of the same shapes in the same order.

        Errors: StateDictError; then nothing has been loaded.
        """
        name, order = f"{self._name}.load_state_dict", self._parameters()
        refuse_in_trace(name, "would load once; load outside the step")
        rules = {frozenset(rule.state): rule for rule in self.rules}
        try:
            groups, saved = list(state["param_groups"]), dict(state["state"])
            sizes = [len(g["params"]) for g in groups]
            for i, g in enumerate(groups):
                if lacking := [k for k in self.defaults if k not in g]:
                    raise StateDictError(
                        f"{name}: group {i} lacks {lacking}, it has {[*g]}; expected a state of "
                        f"{self._name}"
                    )
            loaded = [{k: g[k] for k in self.defaults} for g in groups]
            for i, s in saved.items():
                if s and not (isinstance(s, Mapping) and frozenset(s) in rules):
                    found = [*s] if isinstance(s, Mapping) else type(s).__name__
                    expected = " or ".join(str([*r.state]) for r in self.rules if r.state)
                    raise StateDictError(
                        f"{name}: the state of parameter {i} has {found}, expected "
                        f"{expected or 'none'}; was it saved by another optimizer?"
                    )
            kept = {int(i): {k: np.array(a) for k, a in s.items()} for i, s in saved.items() if s}
        except (KeyError, TypeError, ValueError) as error:
            raise StateDictError(
                f"{name}: expected what state_dict of {self._name} returns, a dict of "
                f"'param_groups' and 'state', got {state!r:.60}: {error!r}"
            ) from error
        known = [len(g["params"]) for g in self.param_groups]
        if sizes != known:
            raise StateDictError(f"{name}: groups of {sizes} parameters, expected {known}")
        states: dict[Tensor, dict[str, Array]] = {}
        for i, arrays in kept.items():
            rule = rules[frozenset(arrays)]
            for key in rule.state:
                array = arrays[key]
                fresh = rule.new(key, order[i]) if 0 <= i < len(order) else None
                if fresh is None or array.shape != fresh.shape or array.dtype.kind not in "fiu":
                    raise StateDictError(
                        f"{name}: {key} {i} of shape {array.shape}, {array.dtype}, fits no "
                        "parameter in that place"
                    )
                np.copyto(fresh, array, casting="unsafe")
                states.setdefault(order[i], {})[key] = fresh
        try:
            for group in loaded:
                self._check(group)
        except MinigradError as error:
            raise StateDictError(f"{name}: {error}") from error
        for group, values in zip(self.param_groups, loaded, strict=True):
            group.update(values)
        self.state = states

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


def _no_values(group: Group) -> tuple[()]:
    """Return the hyper-parameters of a group of an optimizer that has none."""
    return ()


def _is_fixed(value: object) -> bool:
    """Return whether a hyper-parameter can be compared with its value in the step before."""
    if isinstance(value, tuple):
        return all(map(_is_fixed, value))
    return type(value).__hash__ is not None and not isinstance(value, Tensor)
