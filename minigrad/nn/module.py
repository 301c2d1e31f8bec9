"""A Module holds the state of a layer or network by name.

The parameters, buffers and children of a Module are plain attributes, which it finds by their type
when asked: attribute access costs nothing extra, and nothing is stored twice.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from reprlib import recursive_repr
from typing import Any, TypeAlias, TypeVar
from weakref import ref

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..arrays import checked_dtype
from ..checks import flag
from ..engine.tape import bindings, clock
from ..engine.tensor import Tensor, change
from ..engine.tracer import compiling, refuse_in_trace
from ..errors import DtypeError
from ..ops.inplace import COPY
from ..types import Array
from .parameter import Parameter
from .state_dict import Keys, fitting

M = TypeVar("M", bound="Module")
T = TypeVar("T", bound="Tensor | Module")
Named: TypeAlias = Iterator[tuple[str, T]]  # dotted names, each with its Tensor or Module
Options: TypeAlias = dict[str, Any]  # keyword arguments of a forward


def _once(named: Named[T]) -> Named[T]:
    """Yield each object once, under the first of its names."""
    seen: set[int] = set()
    for name, thing in named:
        if id(thing) not in seen:
            seen.add(id(thing))
            yield name, thing


def _tensors(y: object) -> Iterator[Tensor]:
    """Yield the Tensors in what a module returned, also inside nested tuples, lists and dicts."""
    stack, seen = [y], set()
    while stack:
        y = stack.pop()
        if type(y) is Tensor:
            yield y
        elif isinstance(y, (tuple, list, dict)) and id(y) not in seen:
            seen.add(id(y))  # a list may hold itself
            stack.extend(y.values() if isinstance(y, dict) else y)


class Module:
    """Base of all layers and networks; subclasses define `forward`.

    Attributes that are Parameters, Modules, or registered buffers belong to the module; assigning
    None takes one away.

    >>> class Scale(nn.Module):
    ...     def __init__(self, n):
    ...         self.factor = nn.Parameter(np.ones(n))
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> [name for name, _ in nn.Sequential(Scale(3), nn.Linear(3, 2)).named_parameters()]
    ['0.factor', '1.weight', '1.bias']
    """

    training: bool = True
    _buffers: tuple[str, ...] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; each subclass defines its own.

        Errors: NotImplementedError where a subclass has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def fusion_with(self, following: "Module") -> Options:
        """Return keyword arguments with which `forward` computes the module `following` as well.

        Sequential asks each of its modules, and does not call `following` unless the answer is {}.
        A layer that can compute an activation overrides this, for the modules that it knows.
        """
        return {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        trace = compiling()
        if trace is not None:
            trace.note_module(self)
        start = next(clock)
        y = self.forward(*args, **kwargs)
        for result in (y,) if type(y) is Tensor else _tensors(y):
            record = result._record
            if record is not None and record.number > start:  # otherwise it is an input
                record.scopes = (ref(self), start, record.scopes)
        return y

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute. Errors: DtypeError if it would replace a parameter or a buffer."""
        if not isinstance(value, Parameter) and value is not None:
            if isinstance(vars(self).get(name), Parameter):
                self._refuse(name, value, "parameter", "a Parameter or None")
            if name in self._buffers and not isinstance(value, Tensor):
                self._refuse(name, value, "buffer", "a Tensor or None")
        super().__setattr__(name, value)
        bindings[0] = object()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        bindings[0] = object()
        if name in self._buffers:  # it is no longer one
            self._buffers = tuple(buffer for buffer in self._buffers if buffer != name)

    def _refuse(self, name: str, value: object, kind: str, expected: str) -> None:
        raise DtypeError(
            f"{type(self).__name__}.{name} is a {kind}: expected {expected}, got "
            f"{type(value).__name__}; to change its values, use .copy_() inside mg.no_grad()"
        )

    # --- parameters, buffers, children -----------------------------------------------------------

    def register_buffer(self, name: str, value: Tensor | None) -> None:
        """Make `value` the attribute `name`: state that is not trained, such as a running mean.

        None is an absent buffer, which state_dict() leaves out. Errors: DtypeError unless it is a
        Tensor or None.
        """
        if value is not None and not isinstance(value, Tensor):
            raise DtypeError(
                f"register_buffer: {name!r} must be a Tensor or None, got {type(value).__name__}"
            )
        if name not in self._buffers:
            self._buffers = (*self._buffers, name)
        setattr(self, name, value)

    def named_children(self) -> Named["Module"]:
        """Yield the direct submodules with their names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator["Module"]:
        """Yield the direct submodules."""
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Named["Module"]:
        """Yield this module and all below it, each once, with dotted names behind prefix."""
        return _once(self._walk(prefix))

    def modules(self) -> Iterator["Module"]:
        """Yield this module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def _walk(self, prefix: str, above: frozenset[int] = frozenset()) -> Named["Module"]:
        """Yield this module and all below by every name, except a module that contains itself."""
        yield prefix, self
        above = above | {id(self)}
        for name, child in self.named_children():
            if id(child) not in above:
                yield from child._walk(f"{prefix}.{name}" if prefix else name, above)

    def _own_parameters(self) -> Named[Parameter]:
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield name, value

    def _own_buffers(self) -> Named[Tensor]:
        for name in self._buffers:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def _named(
        self, own: Callable[["Module"], Iterable[tuple[str, T]]], prefix: str = ""
    ) -> Named[T]:
        for path, module in self._walk(prefix):
            for name, value in own(module):
                yield f"{path}.{name}" if path else name, value

    def named_parameters(self) -> Named[Parameter]:
        """Yield all parameters with dotted names; one that two modules share comes once."""
        return _once(self._named(Module._own_parameters))

    def parameters(self) -> Iterator[Parameter]:
        """Yield all parameters, each once."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Named[Tensor]:
        """Yield all buffers with dotted names; one that two modules share comes once."""
        return _once(self._named(Module._own_buffers))

    def buffers(self) -> Iterator[Tensor]:
        """Yield all buffers, each once."""
        return (b for _, b in self.named_buffers())

    # --- modes ----------------------------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Set training mode, in this and all below: BatchNorm uses the batch, Dropout drops.

        mode: False means eval(). Returns self. Errors: DtypeError unless True or False.
        """
        mode = flag(f"{type(self).__name__}.train", "mode", mode)
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Set evaluation mode, in this and all below: BatchNorm uses its running statistics without
        changing them, and nothing drops out. Returns self."""
        return self.train(False)

    def requires_grad_(self: M, value: bool = True) -> M:
        """Freeze all parameters (with value=False) or unfreeze them; returns self.

        BatchNorm's statistics are not parameters: to freeze them, use eval() as well.
        """
        for p in self.parameters():
            p.requires_grad = value
        return self

    def zero_grad(self) -> None:
        """Set `.grad` of all parameters to None."""
        for p in self.parameters():
            p.grad = None

    def apply(self: M, function: Callable[["Module"], object]) -> M:
        """Call the function on this and all modules below; returns self."""
        for module in self.modules():
            function(module)
        return self

    # --- dtype ----------------------------------------------------------------------------------

    def to(self: M, dtype: DTypeLike) -> M:
        """Convert float parameters, their gradients and float buffers, in place; returns self.

        dtype: float32 or float64. Errors: DtypeError.
        """
        wanted = checked_dtype(dtype, "Module.to")
        if wanted.kind != "f":
            raise DtypeError(f"Module.to: expected float32 or float64, got {wanted}")
        for x in (*self.parameters(), *self.buffers()):
            if x.dtype.kind == "f" and x.dtype != wanted:
                g, x.grad = x.grad, None
                x.convert_(wanted)
                x.grad = None if g is None else g.detach().astype(wanted)
        return self

    def double(self: M) -> M:
        """Convert to float64, in place; returns self."""
        return self.to(np.float64)

    def float(self: M) -> M:
        """Convert to float32, in place; returns self."""
        return self.to(np.float32)

    # --- state ----------------------------------------------------------------------------------

    def _state(self) -> dict[str, Tensor]:
        both = lambda m: (*m._own_parameters(), *m._own_buffers())  # noqa: E731
        return dict(self._named(both))

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters and buffers as arrays, under PyTorch's names.

        >>> list(nn.BatchNorm1d(3).state_dict())
        ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
        """
        return {name: x.data.copy() for name, x in self._state().items()}

    def load_state_dict(self, state: Mapping[str, ArrayLike], strict: bool = True) -> Keys:
        """Overwrite parameters and buffers in place with the arrays of `state`, by name.

        strict: missing and unexpected keys are errors; otherwise they are returned. Errors:
        StateDictError that lists every wrong key, shape and dtype; then nothing is loaded.
        """
        name = f"{type(self).__name__}.load_state_dict"
        refuse_in_trace(name, "would load once; load outside the step")
        own = self._state()
        arrays, keys = fitting(own, state, strict, name)
        for k, new in arrays.items():
            change(COPY, own[k], new)
        return keys

    # --- display --------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return the arguments that repr shows in parentheses; each subclass has its own."""
        return ""

    @recursive_repr("...")
    def __repr__(self) -> str:
        lines = [
            f"  ({name}): " + repr(child).replace("\n", "\n  ")
            for name, child in self.named_children()
        ]
        head = f"{type(self).__name__}({self.extra_repr()}"
        return "\n".join([head, *lines, ")"]) if lines else head + ")"
