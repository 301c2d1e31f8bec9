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

# --- indices ------------------------------------------------------------------------------------


def _locate(indices: Any, n: int, places: Any) -> int:
    """places[i] = places[i] * n + indices[i], of which negative ones count from n downwards.

    Returns the first place of an index out of range, or -1.
    """
    for i in range(indices.size):
        index = indices[i] if indices[i] >= 0 else indices[i] + n
        if index < 0 or index >= n:
            return i
        places[i] = places[i] * n + index
    return -1


def _take(a: Any, places: Any, y: Any) -> None:
    """y[i, j] = a[i, places[j]], for arrays of three dimensions."""
    for i in range(a.shape[0]):
        for j in range(places.size):
            source, target = a[i, places[j]], y[i, j]
            for k in range(target.size):
                target[k] = source[k]


def _put(g: Any, places: Any, out: Any) -> None:
    """out[i, places[j]] += g[i, j], into zeros and in order, for arrays of three dimensions."""
    out[...] = 0
    for i in range(out.shape[0]):
        for j in range(places.size):
            source, target = g[i, j], out[i, places[j]]
            for k in range(target.size):
                target[k] += source[k]


def _first_extreme(a: Any, largest: bool, y: Any) -> None:
    """y[i, k] = the first j at which a[i, j, k] is NaN or, without one, largest or smallest."""
    for i in range(a.shape[0]):
        for k in range(a.shape[2]):
            first, best = 0, a[i, 0, k]
            for j in range(1, a.shape[1]):
                x = a[i, j, k]
                if best == best and (x != x or (x > best if largest else x < best)):
                    first, best = j, x
            y[i, k] = first


locate, take, put, first_extreme = part(_locate), part(_take), part(_put), part(_first_extreme)

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
