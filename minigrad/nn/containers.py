"""A Sequential is a container that runs its modules one after another."""

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from ..checks import is_integer
from ..errors import ArgumentError, DtypeError, OutOfRangeError
from .module import Module


class Sequential(Module):
    """A chain of modules, under the names "0", "1", ... or those of a dict.

    A fused BatchNorm and a ReLU that follows it are one call, of the BatchNorm; with fused=False
    both are called. `Module.fusion_with` allows the same for other layers.
    Errors: DtypeError, ArgumentError for a name.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))
    >>> model(np.ones((5, 4))).shape, len(model), model[1].num_features
    ((5, 2), 4, 3)
    """

    def __init__(self, *modules: Module | dict[str, Module]) -> None:
        named: Mapping[str, object] = {str(i): m for i, m in enumerate(modules)}
        if len(modules) == 1 and isinstance(modules[0], dict):
            named = modules[0]
        for name, module in named.items():
            if not isinstance(module, Module):
                raise DtypeError(
                    f"Sequential: expected Modules, got {type(module).__name__} at {name!r}"
                )
            if not isinstance(name, str) or not name or "." in name or hasattr(Module, name):
                raise ArgumentError(
                    f"Sequential: {name!r} does not serve as a name; expected a non-empty string "
                    "without a dot that Module does not use itself"
                )
            setattr(self, name, module)

    def forward(self, x: Any) -> Any:
        """Return the output of the last module."""
        modules = self._chain()
        fused = False  # whether the module before has computed this one
        for module, following in zip_longest(modules, modules[1:]):
            if fused:
                fused = False
                continue
            options = {} if following is None else module.fusion_with(following)
            x, fused = module(x, **options), bool(options)
        return x

    def _chain(self) -> list[Module]:
        return [v for v in vars(self).values() if isinstance(v, Module)]

    def __iter__(self) -> Iterator[Module]:
        return iter(self._chain())

    def __len__(self) -> int:
        return len(self._chain())

    def __getitem__(self, i: int | slice) -> Any:
        modules = self._chain()
        if isinstance(i, slice):
            return Sequential(dict(list(self.named_children())[i]))
        if not is_integer(i):
            raise DtypeError(f"Sequential: an index is an integer or a slice, got {i!r:.40}")
        try:
            return modules[i]
        except IndexError:
            raise OutOfRangeError(
                f"Sequential: no module {i} among {len(modules)} modules"
            ) from None
