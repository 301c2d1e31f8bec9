"""Arguments of a compiled function are arrays and static values; a signature selects a trace."""

import ctypes
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

import numpy as np

from ...arrays import checked, to_ndarray
from ...engine.tape import grad_mode
from ...engine.tensor import Tensor, as_tensor
from ...errors import DtypeError
from ...types import Array
from .inspection import is_foreign
from .straight_line import StraightLine

Signature: TypeAlias = tuple[object, ...]  # what selects a trace; it can be hashed

# The part of a signature for an argument that must become an array first; no kept trace has it.
_TO_CONVERT = ("array-like",)

LIVE = object()  # in a signature, stands for the value of a live number, which may be any

# Equal values of these types are the same to any function.
_BY_VALUE = frozenset([int, bool, str, type(None)])


def signature_of(
    args: Sequence[object], kwargs: Mapping[str, object]
) -> tuple[list[Array], Signature]:
    """Return the arrays among the arguments, in C order, and the signature that selects a trace.

    The signature has the shape, dtype and requires_grad of each array, and the type and value of
    each other argument.
    """
    arrays: list[Array] = []
    key: list[object] = []
    for x in (*args, *kwargs.values()) if kwargs else args:  # runs in each call, so it must be fast
        if isinstance(x, Tensor):
            a = x._data
            requires_grad: bool = x._requires_grad
        elif isinstance(x, np.ndarray):
            # Only the memory of a subclass of ndarray counts, as in eager calls.
            a, requires_grad = x if type(x) is np.ndarray else np.asarray(x), False
        else:
            key.append(_TO_CONVERT if is_array_like(x) else _static(x))
            continue
        flags = a.flags
        if not (flags.c_contiguous and flags.aligned):
            a = plainly_stored(a)
        arrays.append(a)
        key.append((a.shape, a.dtype, requires_grad))
    key.append(grad_mode.get())
    if kwargs:
        key += kwargs
    return arrays, tuple(key)


def plainly_stored(a: Array) -> Array:
    """Return an array in C order and aligned, as generated code expects; a copy if necessary."""
    return np.require(a, requirements=["C", "A"])


def write_tests(
    code: StraightLine, signature: Signature, count: int, otherwise: str
) -> list[str] | None:
    """Write lines that run `return otherwise` unless a call has this signature.

    The lines stand in a `try` block, read the variables `args` and `kwargs`, and put all arguments
    into `given`.

    count: the number of arguments.

    Return the names of variables for the arrays among the arguments; None if an argument is a live
    number, whose value each call has to note.
    """
    parts: Sequence[Any] = signature[:count]
    mode, names = signature[count], list(signature[count + 1 :])
    name, variables, arrays = code.name, code.fresh(count), []

    def expect(test: str) -> None:
        code.add(f"if not ({test}): return {otherwise}", 2)

    expect(f"[*kwargs] == {name(names)}" if names else "not kwargs")
    code.add(f"given = {'(*args, *kwargs.values())' if names else 'args'}", 2)
    if not variables:
        expect("not given")
    code.unpack("given", variables, 2)
    expect(f"{name(grad_mode.get)}() is {name(mode)}")
    for x, part in zip(variables, parts, strict=True):
        if _is_static(part):
            kind, value = part[:2]
            if value is LIVE:
                return None
            if kind in _BY_VALUE:
                expect(f"type({x}) is {name(kind)} and {x} == {name(value)}")
            elif kind.__eq__ is object.__eq__:
                expect(f"type({x}) is {name(kind)} and {x} is {name(value)}")
            else:
                expect(f"{name(_static)}({x}) == {name(part)}")
            continue
        shape, dtype, requires_grad = part
        code.add(f"if type({x}) is not {name(np.ndarray)}:", 2)
        code.add(f"if not isinstance({x}, {name(Tensor)}): return {otherwise}", 3)
        code.add(f"if {x}._requires_grad is not {requires_grad}: return {otherwise}", 3)
        code.add(f"{x} = {x}._data", 3)
        if requires_grad:
            code.add(f"else: return {otherwise}", 2)
        expect(f"{x}.dtype is {name(dtype)}")
        expect(f"{x}.shape == {name(shape)}")
        expect(f"{x}.flags.carray")
        arrays.append(x)
    return arrays


def shapes_of(signature: Signature) -> list[object]:
    """Return a signature without its static arguments, as a list."""
    return [k for k in signature if not _is_static(k)]


def _is_static(k: object) -> bool:
    return isinstance(k, tuple) and isinstance(k[0], type)


def _static(x: object) -> object:
    """Return the part of the signature for a static argument.

    The parts for 1, 1.0 and True differ, and so do those for -0.0 and 0.0. All NaN have one part.
    """
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
        return [x]  # a list cannot be hashed
    kind = type(x)
    own = kind.__eq__ is not object.__eq__
    if not own or kind.__hash__ is None or is_foreign(kind.__module__):
        return kind, x
    if is_dataclass(x):  # it may have fields that == does not compare
        return kind, tuple([_static(getattr(x, field.name)) for field in fields(x)])
    return kind, _Itself(x)


class _Itself:
    """_Itself compares an object by identity, even if its class defines `__eq__`."""

    def __init__(self, x: object) -> None:
        self._x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and other._x is self._x

    def __hash__(self) -> int:
        return id(self._x)


def unhashable(
    names: Sequence[str], args: Sequence[object], kwargs: Mapping[str, object]
) -> DtypeError:
    """Return the error that names the arguments that cannot be hashed."""
    found = []
    for name, x in (*zip(names_of(names, args), args, strict=True), *kwargs.items()):
        part = None if isinstance(x, np.ndarray) else _obstacle(x)
        if part is not None:
            kind = type(part).__name__
            found.append(f"{name} is a {kind}" if part is x else f"{name} has a {kind} in it")
    return DtypeError(
        "compile: arguments are Tensors, arrays, or values that can be hashed; "
        f"{', '.join(found)}; put arrays into arguments of their own"
    )


def _obstacle(x: object) -> object:
    """Return the part of x that cannot be hashed, or None."""
    if isinstance(x, tuple):
        return next((part for part in map(_obstacle, x) if part is not None), None)
    try:
        hash(_static(x))
    except TypeError:
        return x
    return None


def names_of(names: Sequence[str], args: Sequence[object]) -> list[str]:
    """Return a name for each positional argument; names: the names of the parameters."""
    return [*names[: len(args)], *(f"arg{i}" for i in range(len(names), len(args)))]


def is_array_like(x: object) -> bool:
    """Return whether x is not an array, but np.asarray can wrap it without visiting elements."""
    kind = type(x)
    if kind in _BY_VALUE or isinstance(x, (float, int, Tensor, np.ndarray, np.generic)):
        return False
    return (
        kind is memoryview
        or issubclass(kind, (array, ctypes.Array))
        or hasattr(kind, "__array__")
        or hasattr(kind, "__array_interface__")
    )


def is_native(x: object) -> bool:
    """Return whether x needs no conversion to an array, or to the machine's byte order."""
    return x.dtype.isnative if isinstance(x, np.ndarray) else not is_array_like(x)


def native(x: object) -> Any:
    """Return an array or array-like as an array in the machine's byte order, and other x as it is.

    Errors: DtypeError if np.asarray refuses x; those of `checked`.
    """
    if is_array_like(x):
        try:
            return checked(np.asarray(x), "compile")
        except Exception as error:  # each library has errors of its own
            kind = f"{type(x).__module__}.{type(x).__qualname__}"
            raise DtypeError(
                f"compile: an argument is a {kind}, which cannot be read as an array of numbers: "
                f"{error}; pass a Tensor, or a NumPy array of float32 or float64"
            ) from error
    return checked(x, "compile") if isinstance(x, np.ndarray) else x


def lifted(x: object) -> Any:
    """Return an array or array-like as a Tensor, and any other argument as it is."""
    x = native(x)
    return as_tensor(x, "compile") if isinstance(x, np.ndarray) else x


class TracedArguments:
    """TracedArguments holds the arguments that the function gets while it is traced.

    args, kwargs: the arguments, with new Tensors in place of Tensors and arrays; tensors: the new
        Tensors, with their names; statics: the other arguments, by name.
    """

    def __init__(
        self, names: Sequence[str], args: Sequence[object], kwargs: Mapping[str, object]
    ) -> None:
        self.tensors: list[tuple[str, Tensor]] = []
        self.statics: dict[str, object] = {}
        named = zip(names_of(names, args), args, strict=True)
        self.args = [self._own(name, x) for name, x in named]
        self.kwargs = {name: self._own(name, x) for name, x in kwargs.items()}

    def _own(self, name: str, x: object) -> object:
        if not isinstance(x, (Tensor, np.ndarray)):
            self.statics[name] = x
            return x
        own = x._data if isinstance(x, Tensor) else checked(to_ndarray(x, "compile"), "compile")
        made = Tensor(np.ascontiguousarray(own).reshape(own.shape))
        if isinstance(x, Tensor):
            made._requires_grad = x._requires_grad
        if made._data is own or any(made._data is y._data for _, y in self.tensors):
            made._data = own.view()  # an array that is given twice is two arguments
        self.tensors.append((name, made))
        return made
