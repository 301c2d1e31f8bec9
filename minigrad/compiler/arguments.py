"""What a compiled function is given: its arrays, and what else tells one trace from another."""

import ctypes
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from ..arrays import checked, plain
from ..errors import DtypeError
from ..tape import grad_mode
from ..tensor import Tensor, as_tensor
from .looking import is_foreign

# In the place of an argument that has to become an array first; no trace has it in its key.
_TO_CONVERT = ("array-like",)

# Types whose equal values are one and the same to any function.
_BY_VALUE = frozenset([int, bool, str, type(None)])


def signature_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], Any]:
    """The arrays among the arguments, in C order, and what a trace is found by: for each array its
    shape, dtype and whether it requires grad, and for any other argument its type and value."""
    arrays: list[Any] = []
    key: list[Any] = []
    for x in (*args, *kwargs.values()) if kwargs else args:  # a part of every call
        if isinstance(x, Tensor):
            a = x._data
            needs: Any = x._requires_grad
        elif isinstance(x, np.ndarray):
            # Of a class of its own only the memory counts, as it does without compile.
            a, needs = x if type(x) is np.ndarray else np.asarray(x), False
        else:
            key.append(_TO_CONVERT if is_array_like(x) else _static(x))
            continue
        if not a.flags.c_contiguous:
            a = np.ascontiguousarray(a)
        arrays.append(a)
        key.append((a.shape, a.dtype, needs))
    key.append(grad_mode.get())
    if kwargs:
        key += kwargs
    return arrays, tuple(key)


def shapes_of(signature: Any) -> Any:
    """What a signature says of arrays and modes, without the values of static arguments."""
    return [k for k in signature if not _is_static(k)]


def _is_static(k: Any) -> bool:
    return isinstance(k, tuple) and isinstance(k[0], type)


def _static(x: Any) -> Any:
    """A static argument as part of a key: 1, 1.0 and True are different, -0.0 and 0.0 as well, and
    one NaN is as another."""
    if type(x) in _BY_VALUE:
        return type(x), x
    if isinstance(x, (float, complex)):
        return type(x), repr(x)
    if isinstance(x, np.generic):
        return type(x), x.dtype, x.tobytes()
    if isinstance(x, tuple):
        return type(x), tuple(map(_static, x))
    if isinstance(x, frozenset):
        return type(x), frozenset(map(_static, x))
    if is_array_like(x):
        return [x]  # which makes no key
    kind = type(x)
    own = kind.__eq__ is not object.__eq__  # type: ignore[comparison-overlap]
    if not own or kind.__hash__ is None or is_foreign(kind.__module__):
        return kind, x
    if is_dataclass(x):  # all that it has, also what does not count for ==
        return kind, tuple([_static(getattr(x, field.name)) for field in fields(x)])
    return kind, _Itself(x)


class _Itself:
    """An object that is equal to itself alone, whatever its class calls equal."""

    def __init__(self, x: Any) -> None:
        self._x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and other._x is self._x

    def __hash__(self) -> int:
        return id(self._x)


def unhashable(names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> DtypeError:
    """The error for arguments that make no key."""
    found = []
    for name, x in (*zip(_names_of(names, args), args, strict=True), *kwargs.items()):
        part = None if isinstance(x, np.ndarray) else _obstacle(x)
        if part is not None:
            kind = type(part).__name__
            found.append(f"{name} is a {kind}" if part is x else f"{name} has a {kind} in it")
    return DtypeError(
        "compile: arguments are Tensors, arrays, or values that can be hashed; "
        f"{', '.join(found)}; put arrays into arguments of their own"
    )


def _obstacle(x: Any) -> Any:
    """What of x cannot be hashed; None if it can."""
    if isinstance(x, tuple):
        return next((part for part in map(_obstacle, x) if part is not None), None)
    try:
        hash(_static(x))
    except TypeError:
        return x
    return None


def _names_of(names: Sequence[str], args: Sequence[Any]) -> list[str]:
    """A name for each positional argument, if these are the names of the parameters."""
    return [*names[: len(args)], *(f"arg{i}" for i in range(len(names), len(args)))]


def is_array_like(x: Any) -> bool:
    """Whether x is no array, and np.asarray makes one of it without copying elements one by one."""
    kind = type(x)
    if kind in _BY_VALUE or kind is float or isinstance(x, (Tensor, np.ndarray, np.generic)):
        return False
    return (
        kind is memoryview
        or issubclass(kind, (array, ctypes.Array))
        or hasattr(kind, "__array__")
        or hasattr(kind, "__array_interface__")
    )


def is_native(x: Any) -> bool:
    """Whether x needs no conversion: to an array, or to the byte order of the machine."""
    return x.dtype.isnative if isinstance(x, np.ndarray) else not is_array_like(x)


def native(x: Any) -> Any:
    """What is, or is like, an array as one in the byte order of the machine; else x as it is.

    Errors: DtypeError for what np.asarray refuses, and as `checked`.
    """
    if is_array_like(x):
        try:
            return checked(np.asarray(x), "compile")
        except Exception as error:  # of any library
            kind = f"{type(x).__module__}.{type(x).__qualname__}"
            raise DtypeError(
                f"compile: an argument is a {kind}, which cannot be read as an array of numbers: "
                f"{error}; pass a Tensor, or a NumPy array of float32 or float64"
            ) from error
    return checked(x, "compile") if isinstance(x, np.ndarray) else x


def lifted(x: Any) -> Any:
    """An argument for a function within a trace: an array as a Tensor, anything else as it is."""
    x = native(x)
    return as_tensor(x, "compile") if isinstance(x, np.ndarray) else x


class TracedArguments:
    """The arguments of a call as the function that is traced gets them.

    args, kwargs: with Tensors of their own in place of arrays; tensors: these, by name; statics:
        the others, by name.
    """

    def __init__(
        self, names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        self.tensors: list[tuple[str, Tensor]] = []
        self.statics: dict[str, Any] = {}
        named = zip(_names_of(names, args), args, strict=True)
        self.args = [self._own(name, x) for name, x in named]
        self.kwargs = {name: self._own(name, x) for name, x in kwargs.items()}

    def _own(self, name: str, x: Any) -> Any:
        if not isinstance(x, (Tensor, np.ndarray)):
            self.statics[name] = x
            return x
        own = x._data if isinstance(x, Tensor) else checked(plain(x, "compile"), "compile")
        made = Tensor(np.ascontiguousarray(own).reshape(own.shape))
        if isinstance(x, Tensor):
            made._requires_grad = x._requires_grad
        if made._data is own or any(made._data is y._data for _, y in self.tensors):
            made._data = own.view()  # an array of its own, also where one is given twice
        self.tensors.append((name, made))
        return made
