"""A CompiledModule is a Module whose calls are compiled; everything else is its model's."""

import functools
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ..nn.module import Module

if TYPE_CHECKING:
    from .api import CompiledFunction

# What a CompiledModule has of its compiled function, where the model has no such attribute.
OF_FUNCTION = ("epoch", "path", "program", "report", "source", "traces")


class CompiledModule(Module):
    """A CompiledModule looks and behaves as the model that it was made of, but compiles its calls.

    Parameters, buffers, modules, modes and attributes are the model's, under the model's names.

    model: the model; make: makes a compiled function of the model.
    """

    def __init__(self, model: Module, make: "Callable[[Module], CompiledFunction]") -> None:
        vars(self).update(_model=model, _make=make, _compiled=make(model))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._compiled(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # protocols such as copying are about the CompiledModule
            raise AttributeError(name)
        of_function = name in OF_FUNCTION and not hasattr(self._model, name)
        return getattr(self._compiled if of_function else self._model, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._model, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._model, name)

    training = property(lambda self: self._model.training)
    _buffers = property(lambda self: self._model._buffers)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._model), *OF_FUNCTION})

    def __getitem__(self, i: Any) -> Any:
        return self._model[i]

    def __len__(self) -> int:
        return len(self._model)

    def __bool__(self) -> bool:
        return bool(self._model)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._model)

    def __contains__(self, x: object) -> bool:
        return x in self._model

    def __repr__(self) -> str:
        return f"compiled {self._model!r}"

    def __reduce__(self) -> tuple[object, ...]:
        """Support pickle and copy; the copy compiles its own calls."""
        return CompiledModule, (self._model, self._make)


def _delegated(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the model's method of this name; a method that returns its model returns self."""

    @functools.wraps(method)
    def delegate(self: CompiledModule, *args: Any, **kwargs: Any) -> Any:
        found = getattr(self._model, name)(*args, **kwargs)
        return self if found is self._model else found

    return delegate


for _name, _method in vars(Module).items():
    if isinstance(_method, FunctionType) and not _name.startswith("__"):
        setattr(CompiledModule, _name, _delegated(_name, _method))
