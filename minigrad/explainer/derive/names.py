"""Names: what the user calls Tensors and modules, and identifiers made of that."""

import keyword
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from ...arrays import Array
from ...engine.tensor import Tensor
from ...errors import DtypeError
from ...nn.module import Module

LABELS = "iub"  # kinds of dtypes
ANY = frozenset("abcgwx")  # operands whose names tell nothing
MOST_ELEMENTS = 100  # of a list or dict of the user's that are looked at
LONGEST_NAME = 30  # characters of an identifier, of which a line has several


class Names:
    """Names of Tensors, arrays and modules, by their identity; the first that is found counts.

    given: what the user has named, first; seen: variables where the explanation was asked for.
    """

    def __init__(self, given: Mapping[str, Any], seen: Iterable[Mapping[str, Any]]) -> None:
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            raise DtypeError(
                f"explain: names is a dict of what to call Tensors, by text, got {given!r:.60}; "
                "write names={'x': x}"
            )
        self._of: dict[Any, str] = {}
        self._held: list[Any] = []  # what has no other owner must keep its identity
        self._near: dict[int, list[tuple[Any, str]]] = {}  # by the memory that they are views of
        self._labels: dict[int, list[tuple[Array, str]]] = {}  # integers, by their number
        for name, x in given.items():
            if not isinstance(x, (Tensor, Module, np.ndarray)):
                raise DtypeError(
                    f"explain: names are of Tensors, arrays and Modules, got {type(x).__name__} "
                    f"for {name!r}"
                )
            self._enter(name, x)
        named = [i for v in seen for i in list(v.items()) if not i[0].startswith("_")]
        for name, x in named:
            self._enter(name, x)
        for name, x in named:  # behind all that have names of their own
            for path, element in _elements(name, x):
                self._enter(path, element)

    def of(self, x: Any) -> str | None:
        """The name of a Tensor, array or module; None if it has none."""
        return self._of.get(id(x))

    def of_leaf(self, x: Tensor | Array) -> str | None:
        """The name of what no record has made: its own, or one that tells whose elements it has,
        as a view, without the tape or, as losses do with labels, copied."""
        array = _array(x)
        name = self.of(x) or self.of(array)
        if name is not None:
            return name
        near = [
            (thing, name)
            for thing, name in self._near.get(_owner(array), ())
            if np.may_share_memory(_array(thing), array)
        ]
        for thing, name in near:
            if memory(_array(thing)) == memory(array):
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
        """The name of a constant that nobody has given one: what made it, if it was detached from
        what is not on the tape; or that of the operand that it is, unless it is the user's, too."""
        base = x._base
        if base is not None and base._record is not None:
            how = "detached" if memory(base._data) == memory(x._data) else "view"
            return f"{one_line(base._record.primitive.name)} {how}"
        return None if operand in ANY or operand in self._of.values() else operand

    def _enter(self, name: str, x: Any) -> None:
        for path, thing in _inside(name, x):
            if id(thing) not in self._of:
                self._of[id(thing)] = path = one_line(path)
                self._held.append(thing)
                if not isinstance(thing, Module):
                    array = _array(thing)
                    self._near.setdefault(_owner(array), []).append((thing, path))
                    if array.dtype.kind in LABELS and array.ndim:
                        self._labels.setdefault(array.size, []).append((array, path))


def _inside(name: str, x: Any) -> Iterator[tuple[str, Any]]:
    """x and, if it is a module, what belongs to it."""
    if isinstance(x, (Tensor, np.ndarray)):
        yield name, x
    elif isinstance(x, Module):
        for path, module in x.named_modules(name):
            yield path, module
        for found in (x.named_parameters(), x.named_buffers()):
            for path, tensor in found:
                yield f"{name}.{path}", tensor


def _elements(name: str, x: Any) -> Iterator[tuple[str, Any]]:
    """Those of a list, tuple or dict, as far as somebody may have named them one by one, or the
    attributes of an object, such as self.model."""
    items: Iterable[tuple[Any, Any]] = ()
    if type(x) in (list, tuple):
        items = ((f"[{i}]", element) for i, element in enumerate(x[:MOST_ELEMENTS]))
    elif type(x) is dict and len(x) <= MOST_ELEMENTS:
        items = [(f"[{k!r}]", element) for k, element in list(x.items()) if type(k) in (int, str)]
    elif not isinstance(x, (Tensor, Module, ModuleType, type)):
        attributes = list(getattr(x, "__dict__", {}).items())
        items = [(f".{k}", element) for k, element in attributes if not k.startswith("_")]
    for place, element in items:
        if isinstance(element, (Tensor, np.ndarray, Module)):
            yield f"{name}{place}", element


def memory(array: Array) -> tuple[Any, ...]:
    """What arrays of the same elements in the same order have in common."""
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


def _owner(array: Array) -> int:
    """Where the memory begins of which an array is a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return int(array.__array_interface__["data"][0])


def _array(x: Any) -> Array:
    array: Array = x._data if isinstance(x, Tensor) else x
    return array


def one_line(text: str) -> str:
    """In one line, without characters that no page or drawing may have."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()) or "?"


class Identifiers:
    """Identifiers for variables, each with one for its cotangent, and for parts of expressions;
    none of them is used twice."""

    def __init__(self, reserved: Iterable[str]) -> None:
        self._reserved = frozenset(reserved)
        self._taken = set(self._reserved)
        self.count = 0  # of variables without a label

    def new(self, label: str | None) -> str:
        """That of a variable: after its label, or v and a number; where it is taken, with a number,
        and where that is a function's, with an underscore."""
        self.count += label is None
        name = f"v{self.count}" if label is None else _identifier(label)
        free = name = f"{name}_" if name in self._reserved else name
        k = 1
        while {free, cotangent(free)} & self._taken:
            k += 1
            free = f"{name}_{k}"
        self._taken |= {free, cotangent(free)}
        return free

    def part(self, name: str, number: int) -> str:
        """That of a part of what step `number` computes: its name and number, and another number
        where that is taken."""
        free, k = f"{name}{number}", 1
        while free in self._taken:
            k += 1
            free = f"{name}{number}_{k}"
        self._taken.add(free)
        return free


def cotangent(name: str) -> str:
    """The identifier of the cotangent of a variable: g7 for v7, g_x for x."""
    return f"g{name[1:]}" if re.fullmatch(r"v\d+(_\d+)?", name) else f"g_{name}"


def _identifier(label: str) -> str:
    # As Python reads it: compatible forms of a letter are one name to it.
    name = unicodedata.normalize("NFKC", re.sub(r"\[(['\"]?)(.*?)\1\]", r"_\2", label))
    name = "".join(c if f"a{c}".isidentifier() else "_" for c in name)[-LONGEST_NAME:]
    reserved = keyword.iskeyword(name) or name.startswith("__")
    return f"_{name.lstrip('_')}_" if reserved or not name.isidentifier() else name
