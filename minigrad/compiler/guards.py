"""Whether Tensors and Modules that a trace has met are still as they were."""

from collections.abc import Iterable
from typing import Any

from ..nn.module import Module, edits
from ..tensor import Tensor
from .watch import same


class Together:
    """Whether Tensors that share an array still do; in a program they are one."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        first: dict[int, Tensor] = {}
        self._pairs = []
        for x in tensors:
            other = first.setdefault(id(x._data), x)
            if other is not x:
                self._pairs.append((x, other))

    def __len__(self) -> int:
        return len(self._pairs)

    def __call__(self) -> bool:
        return all(a._data is b._data for a, b in self._pairs)


class Modules:
    """Whether the attributes of modules, which a trace takes for constants, are as they were."""

    def __init__(self, modules: Iterable[Module]) -> None:
        self._modules = list(modules)
        self._count, self._seen = edits[0], self._attributes()

    def __len__(self) -> int:
        return len(self._modules)

    def __call__(self) -> bool:
        count = edits[0]
        if count != self._count:
            now, seen = self._attributes(), self._seen
            if len(now) != len(seen) or not all(map(same, now, seen)):
                return False
            self._count = count
        return True

    def _attributes(self) -> list[Any]:
        """Names and values; the objects themselves, so that no other gets the identity of one."""
        return [x for module in self._modules for x in (*vars(module), *vars(module).values())]
