"""What a compiled function is given: its arrays, and what else tells one trace from another."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import checked, plain
from ..errors import DtypeError
from ..tape import grad_mode
from ..tensor import Tensor, as_tensor

# Types whose equal values are one and the same to any function.
_PLAIN = frozenset([int, bool, str, type(None)])


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
            a, needs = x, False
        else:
            key.append(_static(x))
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
    if type(x) in _PLAIN:
        return type(x), x
    if isinstance(x, (float, complex)):
        return type(x), repr(x)
    if isinstance(x, np.generic):
        return type(x), x.dtype, x.tobytes()
    if isinstance(x, tuple):
        return type(x), tuple(map(_static, x))
    if isinstance(x, frozenset):
        return type(x), frozenset(map(_static, x))
    return type(x), x


def unhashable(signature: Any) -> DtypeError:
    """The error for a signature that is no key."""
    kinds = [k[0].__name__ for k in signature if _is_static(k)]
    return DtypeError(
        "compile: arguments are Tensors, arrays, or values that can be hashed; got "
        f"{kinds}; put arrays into arguments of their own"
    )


def lifted(x: Any) -> Any:
    """An argument for a function within a trace: an array as a Tensor, anything else as it is."""
    return as_tensor(x, "compile") if isinstance(x, np.ndarray) else x


class Given:
    """The arguments of a call as the function that is traced gets them.

    args, kwargs: with Tensors of their own in place of arrays; tensors: these, by name; statics:
        the others, by name.
    """

    def __init__(
        self, names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        names = [*names[: len(args)], *(f"arg{i}" for i in range(len(names), len(args)))]
        self.tensors: list[tuple[str, Tensor]] = []
        self.statics: dict[str, Any] = {}
        self.args = [self._own(name, x) for name, x in zip(names, args, strict=True)]
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
