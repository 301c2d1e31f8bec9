"""What a function finds outside itself: modules and Tensors, with their names."""

import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from ..nn.module import Module
from ..optim import SGD
from ..tensor import Tensor
from .attributes import attributes
from .trace import Trace


def _seen(function: Any) -> Iterator[tuple[str, Any]]:
    """The objects that a function names: closure, globals, defaults, and what it is bound to."""
    while isinstance(function, functools.partial):
        yield from ((f"arg{i}", x) for i, x in enumerate(function.args))
        yield from function.keywords.items()
        function = function.func
    owner = getattr(function, "__self__", None)
    if owner is not None:
        yield "self", owner
        yield from attributes(owner).items()
    function = inspect.unwrap(getattr(function, "__func__", function))
    if isinstance(function, Module):
        yield "model", function
    if not inspect.isfunction(function):
        return
    found = inspect.getclosurevars(function)
    yield from found.nonlocals.items()
    yield from found.globals.items()
    yield from inspect.signature(function).parameters.items()


def _objects(function: Any) -> Iterator[tuple[str, Any]]:
    for name, x in _seen(function):
        if isinstance(x, inspect.Parameter):
            x = x.default
        if isinstance(x, Mapping):
            yield from ((f"{name}.{k}", v) for k, v in x.items())
        elif isinstance(x, (list, tuple)):
            yield from ((f"{name}.{i}", v) for i, v in enumerate(x))
        else:
            yield name, x


def modules_of(function: Any) -> Iterator[tuple[str, Module]]:
    """The modules that a function can see, with their names."""
    for name, x in _objects(function):
        if isinstance(x, Module):
            for path, module in x.named_modules():
                yield (f"{name}.{path}" if path else name), module


def _own(name: str, module: Module) -> Iterator[tuple[str, Tensor]]:
    """A module's parameters and buffers, by their names."""
    return ((f"{name}.{key}", x) for key, x in vars(module).items() if isinstance(x, Tensor))


def tensors_of(modules: Mapping[str, Module], function: Any) -> Iterator[tuple[str, Tensor]]:
    """The Tensors of these modules, and those that the function can see besides."""
    for name, module in modules.items():
        yield from _own(name, module)
    for name, x in _objects(function):
        if isinstance(x, Tensor):
            yield name, x
        if isinstance(x, SGD):
            for i, p in enumerate(p for group in x.param_groups for p in group["params"]):
                yield f"{name}.{i}", p


class Noting:
    """Notes the modules that a step calls, wherever it has them from, in `modules`."""

    def __init__(self, trace: Trace, modules: dict[str, Module]) -> None:
        self._trace, self._modules = trace, modules
        self._found = {id(module) for module in modules.values()}

    def __call__(self, called: Module) -> None:
        if id(called) in self._found:
            return
        first = f"module_{len(self._modules)}"
        for path, module in called.named_modules():
            if id(module) not in self._found:
                self._found.add(id(module))
                name = f"{first}.{path}" if path else first
                self._modules[name] = module
                for own, x in _own(name, module):
                    self._trace.know(own, x)
