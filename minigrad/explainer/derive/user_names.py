"""Find the names that the user gives to Tensors, arrays and modules."""

from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import TypeAlias

import numpy as np

from ...engine.tensor import Tensor
from ...errors import DtypeError
from ...nn.module import Module
from ...ops.primitive import Operand
from ...types import Array, Shape
from .identifiers import one_line

LABELS = "iub"  # kinds of dtypes that a loss's labels may have
ANONYMOUS = frozenset("abcgwx")  # names of operands that say nothing about them
MOST_ELEMENTS = 100  # of a list that get names; a longer dict is skipped

Named: TypeAlias = Tensor | Array | Module  # what may have a name
# The address of an array's first element, and its shape, strides and dtype.
MemoryKey: TypeAlias = tuple[int, Shape, Shape, str]


class UserNames:
    """The names of Tensors, arrays and modules, by identity; the first name found is kept."""

    def __init__(
        self, given: Mapping[str, Named], namespaces: Iterable[Mapping[str, object]]
    ) -> None:
        """Collect names. given: the user's own, which come first; namespaces: the caller's.

        Errors: DtypeError unless `given` maps text to Tensors, arrays and Modules.
        """
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            raise DtypeError(
                f"explain: names must be a dict from text to Tensors, got {given!r:.60}; write "
                "names={'x': x}"
            )
        self._of: dict[int, str] = {}
        self._kept_alive: list[Named] = []  # what is named, so that identities stay unique
        # Tensors and arrays, by the memory that they are views of.
        self._near: dict[int, list[tuple[Tensor | Array, str]]] = {}
        self._labels: dict[int, list[tuple[Array, str]]] = {}  # integer arrays, by size
        for name, x in given.items():
            if not isinstance(x, (Tensor, Module, np.ndarray)):
                raise DtypeError(
                    f"explain: names are given to Tensors, arrays and Modules, got "
                    f"{type(x).__name__} for {name!r}"
                )
            self._enter(name, x)
        named = [i for v in namespaces for i in list(v.items()) if not i[0].startswith("_")]
        for name, thing in named:
            self._enter(name, thing)
        for name, thing in named:  # after all variables: an element may have a name of its own
            for path, element in _elements(name, thing):
                self._enter(path, element)

    def of(self, x: object) -> str | None:
        """Return the name of a Tensor, array or module; None if it has none."""
        return self._of.get(id(x))

    def of_leaf(self, x: Tensor | Array) -> str | None:
        """Return the name of an array or Tensor that no record has made; None if it has none.

        A view, a detached Tensor and a copy of labels are named after their original.
        """
        array = array_of(x)
        name = self.of(x) or self.of(array)
        if name is not None:
            return name
        near = [
            (thing, name)
            for thing, name in self._near.get(_owner(array), ())
            if np.may_share_memory(array_of(thing), array)
        ]
        for thing, name in near:
            if memory(array_of(thing)) == memory(array):
                return f"{name} detached" if getattr(thing, "_requires_grad", False) else name
        if near:
            return f"{near[0][1]} view"
        if array.dtype.kind not in LABELS or not array.ndim:
            return None
        for labels, name in self._labels.get(array.size, ()):
            if np.array_equal(labels.ravel(), array.ravel()):
                return name
        return None

    def of_constant(self, x: Tensor, operand: str) -> str | None:
        """Return a name for a constant that the user has not named, or None.

        If it is a detached result or a view of one, it is named after the primitive; otherwise
        after the operand, unless this says nothing or the user has given the name to another thing.
        """
        base = x._base
        if base is not None and base._record is not None:
            how = "detached" if memory(base._data) == memory(x._data) else "view"
            return f"{one_line(base._record.primitive.name)} {how}"
        return None if operand in ANONYMOUS or operand in self._of.values() else operand

    def _enter(self, name: str, x: object) -> None:
        """Name x and what belongs to it, unless it has a name."""
        for path, thing in _inside(name, x):
            if id(thing) not in self._of:
                self._of[id(thing)] = path = one_line(path)
                self._kept_alive.append(thing)
                if not isinstance(thing, Module):
                    array = array_of(thing)
                    self._near.setdefault(_owner(array), []).append((thing, path))
                    if array.dtype.kind in LABELS and array.ndim:
                        self._labels.setdefault(array.size, []).append((array, path))


def _inside(name: str, x: object) -> Iterator[tuple[str, Named]]:
    """Yield x and, if it is a module, its modules, parameters and buffers, with their names."""
    if isinstance(x, (Tensor, np.ndarray)):
        yield name, x
    elif isinstance(x, Module):
        for path, module in x.named_modules(name):
            yield path, module
        for found in (x.named_parameters(), x.named_buffers()):
            for path, tensor in found:
                yield f"{name}.{path}", tensor


def _elements(name: str, x: object) -> Iterator[tuple[str, Named]]:
    """Yield the elements of a list, tuple or dict (xs[0]), or the attributes of an object."""
    items: Iterable[tuple[str, object]] = ()
    if type(x) is list or type(x) is tuple:
        items = ((f"[{i}]", element) for i, element in enumerate(x[:MOST_ELEMENTS]))
    elif type(x) is dict and len(x) <= MOST_ELEMENTS:
        items = [(f"[{k!r}]", element) for k, element in list(x.items()) if type(k) in (int, str)]
    elif not isinstance(x, (Tensor, Module, ModuleType, type)):
        attributes = list(getattr(x, "__dict__", {}).items())
        items = [(f".{k}", element) for k, element in attributes if not k.startswith("_")]
    for place, element in items:
        if isinstance(element, (Tensor, np.ndarray, Module)):
            yield f"{name}{place}", element


def memory(array: Array) -> MemoryKey:
    """Return a key that is the same for arrays of the same memory, shape, strides and dtype."""
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


def _owner(array: Array) -> int:
    """Return the address of the memory that an array is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return int(array.__array_interface__["data"][0])


def array_of(x: Operand) -> Operand:
    """Return the array of a Tensor, or x itself if it is none."""
    return x._data if isinstance(x, Tensor) else x
