"""Stochastic gradient descent. May import tensor, kernels and below."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.tape import compiling, enable_grad, refuse_in_trace
from ..engine.tensor import Tensor, mark_changed, tensor
from ..errors import ArgumentError, DtypeError, MinigradError, ShapeError, StateDictError
from ..kernels.inplace import sgd, sgd_momentum
from ..kernels.jit.decorators import plain
from ..kernels.threading.pool import pool_for
from ..ops.inplace import SGD as PLAIN
from ..ops.inplace import SGD_MOMENTUM
from .param_groups import Group, Groups, HyperSource, MomentumSource, as_arrays, check_group

__all__ = ["SGD"]


class SGD:
    """Mini-batch gradient descent, with PyTorch's arguments, defaults and arithmetic.

        g <- grad (or -grad with maximize) + weight_decay * p
        b <- g in the first step, then momentum * b + (1 - dampening) * g
        p <- p - lr * (g + momentum * b with nesterov, else b)

    params: leaf Tensors of floats (as from `model.parameters()`), or a list of dicts, each
        with "params" and its own values of the other arguments: parameter groups.
    A change of `param_groups[i]["lr"]` counts from the next step on. Parameters without a gradient
    are left alone. Errors: ArgumentError, DtypeError; a step that raises has changed nothing.

    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> opt = optim.SGD([w], lr=0.25)
    >>> for _ in range(2):
    ...     opt.zero_grad()
    ...     (w * w).sum().backward()  # the gradient is 2 * w
    ...     opt.step()
    >>> w
    tensor([0.25], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
    ) -> None:
        refuse_in_trace("a new SGD", "would be made once; build it outside the step")
        self.defaults: dict[str, Any] = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        check_group(self.defaults)
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, dict[str, NDArray[Any]]] = {}
        if isinstance(params, Tensor):
            raise DtypeError("SGD: params must be a list of Tensors, got one Tensor; use [tensor]")
        given = _listed(params)
        if not given:
            raise ArgumentError("SGD: got an empty parameter list (a generator that was used up?)")
        groups = given if isinstance(given[0], Mapping) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add `group`, a dict: "params", and its own values of the arguments; the rest as for SGD.

        Errors: ArgumentError, DtypeError; a parameter may be in one group only.
        """
        if not isinstance(group, Mapping) or "params" not in group:
            raise ArgumentError("SGD: a parameter group is a dict with the key 'params'")
        unknown = [k for k in group if k not in self.defaults and k != "params"]
        if unknown:
            raise ArgumentError(f"SGD: a group has {sorted(self.defaults)}, got unknown {unknown}")
        one = isinstance(group["params"], Tensor)
        params = [group["params"]] if one else _listed(group["params"])
        new = Group({**self.defaults, **group, "params": params})
        check_group(new)
        if not params:
            raise ArgumentError("SGD: a group has an empty parameter list")
        seen = {id(p) for g in self.param_groups for p in g["params"]}
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise DtypeError(
                    f"SGD: parameter {i} is a {type(p).__name__}, expected a Tensor; pass "
                    "model.parameters() (not named_parameters() or state_dict())"
                )
            if not p.is_leaf or p.dtype.kind != "f":
                raise ArgumentError(
                    f"SGD: parameter {i}, shape {p.shape}, must be a leaf of floats, got "
                    f"{p.dtype if p.is_leaf else 'the result of an operation'}; train the Tensor "
                    "that mg.tensor or nn.Parameter made"
                )
            if id(p) in seen:
                raise ArgumentError(
                    f"SGD: parameter {i}, shape {p.shape}, is given twice; leave one out (a shared "
                    "one comes once from model.parameters())"
                )
            seen.add(id(p))
        self.param_groups.append(new)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Take the gradients of all parameters away or, with set_to_none=False, make them zero."""
        trace = compiling()
        if trace is not None:
            trace.guard(Groups(self))
        for group in self.param_groups:
            for p in group["params"]:
                if trace is not None:
                    (trace.cleared if set_to_none else trace.reads_gradient)(p)
                if set_to_none or p._grad is None:
                    p._grad = None
                else:
                    p.grad = tensor(np.zeros(p.shape, p.dtype))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns what `closure()` returned, if given.

        closure: computes the loss and calls backward, before the update. Errors: ShapeError for a
        gradient that does not fit, ArgumentError, DtypeError.
        """
        loss = None
        if closure is not None and not callable(closure):
            raise DtypeError(f"SGD.step: closure must be a function, got {type(closure).__name__}")
        if closure is not None:
            with enable_grad():
                loss = closure()
        trace = compiling()
        if trace is not None:
            trace.guard(Groups(self))
        updates = []  # all checked before the first is made
        for group in self.param_groups:
            hyper, momentum, nesterov = as_arrays(group), group["momentum"], group["nesterov"]
            for p in group["params"]:
                if trace is not None:
                    trace.reads_gradient(p)
                if p._grad is None:
                    continue
                data, g = p._data, p._grad._data
                fits = data.flags.carray and g.flags.carray
                if not fits or g.shape != data.shape or g.dtype is not data.dtype:
                    _check_gradient(data, g)
                updates.append((p, data, g, fits, hyper[data.dtype], momentum, nesterov, group))
        for p, data, g, fits, values, momentum, nesterov, group in updates:
            if trace is not None:
                self._note(trace, group, p)
                continue
            target, buffer, first = data, None, False
            if not fits:
                target, g = plain(data), plain(g)
            if momentum:
                buffer = self.buffer(p)
                if buffer is None:
                    buffer, first = np.zeros(data.shape, data.dtype), True
                    self.state[p] = {"momentum_buffer": buffer}
            if buffer is None:
                sgd(target, g, values, pool_for(target.size))
            else:
                sgd_momentum(target, g, buffer, values, nesterov, first, pool_for(target.size))
            if target is not data:
                data[...] = target
        mark_changed(*[update[0] for update in updates])
        return loss

    def _note(self, trace: Any, group: Group, p: Tensor) -> None:
        """Report p's update to a trace, with sources by which each call finds the group's values
        and the momentum buffer."""
        momentum = MomentumSource(self, p)
        begins = group["momentum"] and not trace.has_source(momentum)
        hyper = trace.source(HyperSource(self, group, p, begins), "hyper")
        if not group["momentum"]:
            trace.update(PLAIN, p, p._grad, hyper)
            return
        self.buffer(p)  # in the dtype of p, whatever that was before
        buffer = trace.source(momentum, "momentum", p)
        trace.update(SGD_MOMENTUM, p, p._grad, buffer, hyper, group["nesterov"], False)

    def buffer(self, p: Tensor) -> NDArray[Any] | None:
        """Return the momentum buffer of a parameter p, or None before its first step.

        It has p's dtype, which Module.to may have changed since the last step.
        """
        state = self.state.get(p)
        if state is None:
            return None
        buffer = state["momentum_buffer"]
        if buffer.dtype != p._data.dtype:
            buffer = state["momentum_buffer"] = buffer.astype(p._data.dtype)
        return buffer

    # --- state ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Copies of all momentum buffers and group values; parameters are named by their order."""
        refuse_in_trace("SGD.state_dict")
        order = [p for group in self.param_groups for p in group["params"]]
        index = {id(p): i for i, p in enumerate(order)}
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
        refuse_in_trace("SGD.load_state_dict", "would load once; load outside the step")
        order = [p for group in self.param_groups for p in group["params"]]
        try:
            groups, buffers = state["param_groups"], dict(state["state"])
            sizes = [len(g["params"]) for g in groups]
            loaded = [{k: g[k] for k in self.defaults} for g in groups]
            loaded_state = {int(i): np.array(s["momentum_buffer"]) for i, s in buffers.items() if s}
        except (KeyError, TypeError, ValueError) as error:
            raise StateDictError(f"SGD.load_state_dict: not a state of SGD: {error!r}") from error
        expected = [len(g["params"]) for g in self.param_groups]
        if sizes != expected:
            raise StateDictError(
                f"SGD.load_state_dict: groups of {sizes} parameters, expected {expected}"
            )
        for i, buffer in loaded_state.items():
            fits = 0 <= i < len(order) and buffer.shape == order[i].shape
            if not fits or buffer.dtype.kind != "f":
                raise StateDictError(
                    f"SGD.load_state_dict: momentum_buffer {i} of shape {buffer.shape}, "
                    f"{buffer.dtype}, fits no parameter in that place"
                )
        try:
            for group in loaded:
                check_group(group)
        except MinigradError as error:
            raise StateDictError(f"SGD.load_state_dict: {error}") from error
        for group, values in zip(self.param_groups, loaded, strict=True):
            group.update(values)
        self.state = {
            order[i]: {"momentum_buffer": np.ascontiguousarray(b, order[i].dtype).reshape(b.shape)}
            for i, b in loaded_state.items()
        }

    def __repr__(self) -> str:
        values = [
            ", ".join(f"{k}={v}" for k, v in group.items() if k != "params")
            for group in self.param_groups
        ]
        return f"SGD({'; '.join(values)})"


def _listed(params: Any) -> list[Any]:
    if isinstance(params, (set, frozenset)):
        raise DtypeError("SGD: params must be in an order, which a set has not; pass a list")
    if not isinstance(params, Iterable):
        raise DtypeError(f"SGD: params must be a list of Tensors, got {type(params).__name__}")
    return list(params)


def _check_gradient(p: NDArray[Any], g: NDArray[Any]) -> None:
    """Errors unless the kernel may run on a parameter and its gradient."""
    if g.shape != p.shape or (g.dtype is not p.dtype and g.dtype != p.dtype):
        raise ShapeError(
            f"SGD: a gradient of shape {g.shape}, {g.dtype}, for a parameter of shape {p.shape}, "
            f"{p.dtype}; clear it with zero_grad() after changing a parameter"
        )
    if not p.flags.writeable:
        raise ArgumentError(f"SGD: the array of a parameter of shape {p.shape} is read-only")
