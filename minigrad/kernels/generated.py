"""What code that minigrad.compiler generates calls, besides the kernels: memory by its address
and functions of one element."""

import ctypes
import math
from typing import Any

import numba
from numba import types
from numba.extending import intrinsic

from .jit import part


@intrinsic
def _address(_context: Any, _place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


def _pointer(place: int) -> Any:
    return ctypes.c_void_p(int(place))


pointer: Any = _pointer if numba.config.DISABLE_JIT else _address  # type: ignore[attr-defined]
carray: Any = numba.carray  # type: ignore[attr-defined]


def _gather(source: Any, rows: Any, target: Any) -> None:
    """target[i] = source[rows[i]], of arrays in C order."""
    width = target.size // max(rows.size, 1)
    sources, targets = source.reshape(source.size), target.reshape(target.size)
    for i in range(rows.size):
        start = rows[i] * width
        row, into = sources[start : start + width], targets[i * width : (i + 1) * width]
        for j in range(into.size):
            into[j] = row[j]


gather = part(_gather)

# --- one element --------------------------------------------------------------------------------


def _exp(a: Any) -> Any:
    return type(a)(math.exp(a))


def _log(a: Any) -> Any:
    return type(a)(math.log(a))


def _sqrt(a: Any) -> Any:
    return type(a)(math.sqrt(a))


def _tanh(a: Any) -> Any:
    return type(a)(math.tanh(a))


def _erf(a: Any) -> Any:
    return type(a)(math.erf(a))


def _maximum(a: Any, b: Any) -> Any:
    """The larger, or NaN if one is NaN."""
    return a if a >= b or a != a else b


def _minimum(a: Any, b: Any) -> Any:
    """The smaller, or NaN if one is NaN."""
    return a if a <= b or a != a else b


def _sign(a: Any) -> Any:
    """-1, 0, 1 or NaN."""
    zero = type(a)(0)
    return a if a != a else type(a)(int(a > zero) - int(a < zero))


def _sigmoid(a: Any) -> Any:
    """1 / (1 + exp(-a)), where exp cannot overflow."""
    one = type(a)(1)
    e = type(a)(math.exp(-abs(a)))
    return (one if a >= 0 else e) / (one + e)


def _softplus(a: Any) -> Any:
    """log(1 + exp(a)), where exp cannot overflow."""
    zero = type(a)(0)
    return (zero if a <= zero else a) + type(a)(math.log1p(math.exp(-abs(a))))


def _gelu(a: Any) -> Any:
    """a * Phi(a)."""
    return a * (type(a)(0.5) * type(a)(math.erfc(a * type(a)(-0.7071067811865476))))


exp, log, sqrt, tanh, erf = part(_exp), part(_log), part(_sqrt), part(_tanh), part(_erf)
maximum, minimum, sign = part(_maximum), part(_minimum), part(_sign)
sigmoid, softplus, gelu = part(_sigmoid), part(_softplus), part(_gelu)
