"""Names: what the user calls Tensors and modules, and identifiers made of that."""

import keyword
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import DtypeError
from ..nn.module import Module
from ..tensor import Tensor

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
        for name, x in given.items():
            if not isinstance(x, (Tensor, Module, np.ndarray)):
                raise DtypeError(
                    f"explain: names are of Tensors, arrays and Modules, got {type(x).__name__} "
                    f"for {name!r}"
                )
            self._enter(name, x)
        for variables in seen:
            for name, x in list(variables.items()):
                if not name.startswith("_"):
                    self._enter(name, x)

    def of(self, x: Any) -> str | None:
        """The name of a Tensor (or of its array) or of a module; None if it has none."""
        name = self._of.get(id(x))
        return self._of.get(_memory(x)) if name is None else name

    def _enter(self, name: str, x: Any) -> None:
        for path, thing in _inside(name, x):
            if id(thing) not in self._of:
                self._of[id(thing)] = path = plain(path)
                self._held.append(thing)
                if not isinstance(thing, Module):
                    self._of.setdefault(_memory(thing), path)


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


def _memory(x: Any) -> Any:
    """What an array, or that of a Tensor, has in common with others of the same elements."""
    array = x._data if isinstance(x, Tensor) else x
    if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
        return None
    return array.__array_interface__["data"][0], array.nbytes, array.dtype.str


def plain(text: str) -> str:
    """In one line, without characters that no page or drawing may have."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()) or "?"


class Identifiers:
    """Identifiers for variables, each with one for its cotangent, and for parts of expressions;
    none of them is used twice."""

    def __init__(self, reserved: Iterable[str]) -> None:
        self._taken = set(reserved)
        self.count = 0  # of variables without a label

    def new(self, label: str | None) -> str:
        """That of a variable: after its label, or v and a number."""
        self.count += label is None
        name = f"v{self.count}" if label is None else _identifier(label)
        while {name, cotangent(name)} & self._taken:
            name += "_"
        self._taken |= {name, cotangent(name)}
        return name

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
    return f"g{name[1:]}" if re.fullmatch(r"v\d+_*", name) else f"g_{name}"


def _identifier(label: str) -> str:
    # As Python reads it: compatible forms of a letter are one name to it.
    name = unicodedata.normalize("NFKC", label)
    name = "".join(c if f"a{c}".isidentifier() else "_" for c in name)[-LONGEST_NAME:]
    reserved = keyword.iskeyword(name) or name.startswith("__")
    return f"_{name.lstrip('_')}_" if reserved or not name.isidentifier() else name
