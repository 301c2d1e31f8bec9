"""Reductions compute sums, means, variances and extremes over any axes.

Sums of float32 are accumulated in float64 and rounded once, as in every kernel. The rules of sum
and mean return a cotangent with unit dimensions, which the backward pass broadcasts.
"""

import functools
import math
from typing import Any

import numpy as np

from ..arrays import FLOAT32, as_carray
from ..checks import number
from ..errors import ArgumentError, ShapeError
from ..kernels.reductions import (
    is_one_block,
    mean_square_rows,
    sum_along,
    sum_between,
    sum_few_rows,
    sum_rows,
)
from ..types import Array, Shape
from .builder import Builder, Value
from .elementwise import div, equal, mul, sqrt, sub
from .primitive import Operand, Reduction, primitive
from .shapes import Axes, _reshape, normalize_axes, normalize_axis

_Steps = tuple[tuple[int, int, int], ...]

_add_reduce: Any = np.add.reduce  # its stubs do not know a `keepdims` that varies

# --- sums on arrays -----------------------------------------------------------------------------


def _kept(shape: Shape, axis: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([1 if i in axis else n for i, n in enumerate(shape)])


def _count(shape: Shape, axis: tuple[int, ...]) -> int:
    n = 1
    for i in axis:
        n *= shape[i]
    return n


def _total(a: Array, axis: tuple[int, ...], keepdims: bool, mean: bool) -> Operand:
    """Return the sum or mean of a over `axis`, accumulated in float64 and rounded once."""
    steps, shape, count = _steps(a.shape, axis, keepdims)
    if a.dtype.kind != "f" or not steps:
        return _total_by_numpy(a, axis, keepdims, mean)
    divisor = count if mean else 1
    if not a.flags.carray:
        total = _total_of_any(a, axis) / divisor
        return total.reshape(shape).astype(a.dtype, "C")
    return _add(a, steps, divisor, np.empty(shape, a.dtype))


def _add(a: Array, steps: _Steps, divisor: int, out: Array) -> Array:
    """Sum a by these steps, divide by the divisor, write the result into out, and return out.

    Both arrays are in C order.
    """
    for p, n, c in steps[:-1]:
        a = _add(a, ((p, n, c),), 1, np.empty(p * c))
    p, n, c = steps[-1]
    if c == 1:
        sum_along(a.reshape(p, n), divisor, out)
    elif p == 1:
        sum_rows(a.reshape(n, c), divisor, out)
    else:
        sum_between(a.reshape(p, n, c), divisor, out)
    return out


def sum_of_rows(a: Array) -> Operand:
    """Return the sum of a matrix over its rows, like sum_over with axis 0."""
    if not a.flags.carray or a.dtype.kind != "f" or not a.size:
        return _total(a, (0,), False, False)
    out = np.empty(a.shape[1], a.dtype)
    if is_one_block(len(a), a.dtype):
        sum_few_rows(a, out)
    else:
        sum_rows(a, 1, out)
    return out


@functools.lru_cache(maxsize=1024)
def _steps(
    shape: Shape, axis: tuple[int, ...], keepdims: bool
) -> tuple[_Steps, tuple[int, ...], int]:
    """Return the steps that sum an array in C order, the shape of the result, and the number of
    terms in each of its elements.

    A step (p, n, c) reshapes the array to these three sizes and sums over the middle one. The first
    step sums the last axes, which are adjacent in memory. An empty array has no steps.
    """
    kept = _kept(shape, axis)
    result = kept if keepdims else tuple([n for i, n in enumerate(shape) if i not in axis])
    count = _count(shape, axis)
    if 0 in shape:
        return (), result, count
    steps: list[tuple[int, int, int]] = []
    c, n = 1, 1  # sizes of the kept and of the summed axes to the right
    for i in range(len(shape) - 1, -1, -1):
        if i in axis:
            n *= shape[i]
        elif shape[i] > 1:
            if n > 1:
                steps.append((math.prod(shape[: i + 1]), n, c))
            c, n = c * shape[i], 1
    if n > 1 or not steps:
        steps.append((1, n, c))
    return tuple(steps), result, count


def _total_of_any(a: Array, axis: tuple[int, ...]) -> Array:
    """Return the sum of an array in any layout, in float64 and with unit dimensions.

    The axes are sorted by their order in memory. An axis of stride 0, which broadcasting makes, is
    not summed; the result is multiplied by its size.
    """
    once = a[tuple([slice(1) if step == 0 else slice(None) for step in a.strides])]
    order = sorted(range(a.ndim), key=lambda i: -abs(a.strides[i]))
    steps, shape, _ = _steps(
        tuple([once.shape[i] for i in order]), tuple([order.index(i) for i in axis]), True
    )
    total = _add(as_carray(once.transpose(order)), steps, 1, np.empty(shape))
    back = total.transpose([order.index(i) for i in range(a.ndim)])
    repeated = _count(a.shape, axis) // _count(once.shape, axis)
    return np.broadcast_to(back * repeated, _kept(a.shape, axis))


def _total_by_numpy(a: Array, axis: tuple[int, ...], keepdims: bool, mean: bool) -> Operand:
    """Return the sum or mean of an array that is empty or holds no floats.

    The mean of an empty array is NaN.
    """
    total = _add_reduce(a, axis=axis, keepdims=keepdims)
    if not mean:
        return total
    n = _count(a.shape, axis)
    total = total / n if n else total * np.nan
    return total.astype(a.dtype if a.dtype.kind == "f" else np.float32)


def _sum_forward(a: Array, axis: tuple[int, ...], keepdims: bool) -> Operand:
    return _total(a, axis, keepdims, False)


def _mean_forward(a: Array, axis: tuple[int, ...], keepdims: bool) -> Operand:
    return _total(a, axis, keepdims, True)


def _mean_square_forward(a: Array, axis: tuple[int, ...], keepdims: bool) -> Operand:
    steps, shape, _ = _steps(a.shape, axis, keepdims)
    rows = len(steps) == 1 and steps[0][0] == 1
    if not rows or not a.flags.carray or a.dtype.kind != "f":
        return _total(a * a, axis, keepdims, True)
    out = np.empty(shape, a.dtype)
    mean_square_rows(a.reshape(steps[0][1:]), out)
    return out


def _var_forward(a: Array, axis: tuple[int, ...], keepdims: bool, correction: float) -> Operand:
    """Return the variance, computed in two passes with the mean and the squares in float64."""
    dtype = a.dtype if a.dtype.kind == "f" else np.float32
    n = _count(a.shape, axis)
    if a.size == 0:
        return np.full(_steps(a.shape, axis, keepdims)[1], np.nan, dtype)
    wide = a.astype(np.float64)
    wide -= _total(wide, axis, True, True)
    wide *= wide
    with np.errstate(divide="ignore", invalid="ignore"):  # n = correction is checked by `var`
        return (_total(wide, axis, keepdims, False) / np.float64(n - correction)).astype(dtype)


# --- rules --------------------------------------------------------------------------------------


def _keep(g: Operand, a: Operand, axis: tuple[int, ...], keepdims: bool) -> Operand:
    """Return g with the reduced dimensions as units, so that it broadcasts to the shape of a."""
    return g if keepdims else _reshape(g, shape=_kept(a.shape, axis))


def _mean_vjp(
    g: Operand, _y: Operand, a: Operand, axis: tuple[int, ...], keepdims: bool
) -> Operand:
    # Named a, not _a, although only its shape is read: if the input of a batch_norm was changed in
    # place, backward then raises an error in the composed form as in the fused one.
    n = a.size // g.size if g.size else 0
    return _keep(g / n if n else g, a, axis, keepdims)


def _mean_square_vjp(
    g: Operand, _y: Operand, a: Operand, axis: tuple[int, ...], keepdims: bool
) -> Operand:
    n = a.size // g.size if g.size else 0
    g = g * (2.0 / n) if n else g  # before broadcasting, while g is small
    return _keep(g, a, axis, keepdims) * a


def _var_vjp(
    g: Operand, _y: Operand, a: Operand, axis: tuple[int, ...], keepdims: bool, correction: float
) -> Operand:
    n = _count(a.shape, axis)
    centred = a - mean_over(a, axis=axis, keepdims=True)
    factor = 2.0 / (n - correction) if n else 0.0  # avoids 0 / 0 for an empty reduction
    return _keep(g * factor, a, axis, keepdims) * centred


def _extreme_vjp(
    g: Operand, y: Operand, a: Operand, axis: tuple[int, ...], keepdims: bool
) -> Operand:
    """Return g divided equally among the elements that equal the extreme y; NaN where y is NaN."""
    g, y = _keep(g, a, axis, keepdims), _keep(y, a, axis, keepdims)
    return g * _ties(a, y, axis=axis)


@np.errstate(invalid="ignore")  # no element equals NaN, so this computes 0 / 0
def _ties_forward(a: Array, y: Array, axis: tuple[int, ...]) -> Operand:
    attained = a == y
    return attained.astype(a.dtype) / _add_reduce(attained, axis=axis, keepdims=True, dtype=a.dtype)


def _ties_formula(a: Array, y: Array, axis: tuple[int, ...]) -> str:
    equal = "astype(a == b, 'float32')" if a.dtype == FLOAT32 else "a == b"
    return f"tie = {equal}\ntie / sum(tie, axis=axis, keepdims=True)"


# --- decompositions -----------------------------------------------------------------------------


def has_floats(a: Value) -> bool:
    """Return whether loops can reduce a Value: it must hold floats, and at least one element."""
    return a.dtype.kind == "f" and 0 not in a.shape


def _write_var(
    write: Builder, a: Value, axis: tuple[int, ...], keepdims: bool, correction: float
) -> bool:
    if not has_floats(a):
        return False
    n = _count(a.shape, axis)
    centred = write(sub, a, write(mean_over, a, axis=axis))
    biased = write(mean_square, centred, axis=axis)
    unbiased = write(mul, biased, n / (n - correction))
    write.reshaped(unbiased, write.result.shape, write.result)
    return True


def _write_ties(write: Builder, a: Value, y: Value, axis: tuple[int, ...]) -> bool:
    if not has_floats(a):
        return False
    attained = write.cast(write(equal, a, y), a.dtype)
    write(div, attained, write(sum_over, attained, axis=axis), to=write.result)
    return True


# --- primitives ---------------------------------------------------------------------------------

sum_over = primitive(
    "sum",
    _sum_forward,
    (lambda g, _y, _a, axis, keepdims: _keep(g, _a, axis, keepdims),),
    "the sum of a over axes",
    reduction=Reduction(),
)
mean_over = primitive(
    "mean",
    _mean_forward,
    (_mean_vjp,),
    "the mean of a over axes",
    reduction=Reduction(mean=True),
)
mean_square = primitive(
    "mean_square",
    _mean_square_forward,
    (_mean_square_vjp,),
    "the mean of a ** 2 over axes",
    formula="mean(a ** 2, axis=axis, keepdims=keepdims)",
    promotes=True,
    reduction=Reduction("{0} * {0}", mean=True),
)
_var = primitive(
    "var",
    _var_forward,
    (_var_vjp,),
    "the variance of a over axes: the sum of (a - mean) ** 2, divided by n - correction",
    decompose=_write_var,
)
max_over = primitive(
    "max",
    lambda a, axis, keepdims: np.maximum.reduce(a, axis=axis, keepdims=keepdims),
    (_extreme_vjp,),
    "the largest element over axes; ties share the cotangent equally",
    reduction=Reduction(extreme=("maximum", "-inf")),
)
min_over = primitive(
    "min",
    lambda a, axis, keepdims: np.minimum.reduce(a, axis=axis, keepdims=keepdims),
    (_extreme_vjp,),
    "the smallest element over axes; ties share the cotangent equally",
    reduction=Reduction(extreme=("minimum", "inf")),
)
_ties = primitive(
    "ties",
    _ties_forward,
    None,
    "1 / (number of ties) where a equals y, 0 elsewhere; NaN where y is NaN",
    formula=_ties_formula,
    decompose=_write_ties,
)
_argmax = primitive(
    "argmax",
    lambda a, axis: np.argmax(a, axis=axis),
    None,
    "the index of the first largest element",
)
_argmin = primitive(
    "argmin",
    lambda a, axis: np.argmin(a, axis=axis),
    None,
    "the index of the first smallest element",
)

# --- functions ----------------------------------------------------------------------------------


def sum(x: Operand, axis: Axes = None, keepdims: bool = False) -> Operand:
    """Return the sum over axes (None: all); float32 is accumulated in float64.

    Errors: ArgumentError.
    """
    return sum_over(x, axis=normalize_axes("sum", np.ndim(x), axis), keepdims=keepdims)


def mean(x: Operand, axis: Axes = None, keepdims: bool = False) -> Operand:
    """Return the mean over axes (None: all), or NaN over no elements; integers give float32.

    Errors: ArgumentError.
    """
    return mean_over(x, axis=normalize_axes("mean", np.ndim(x), axis), keepdims=keepdims)


def var(x: Operand, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Operand:
    """Return the variance over axes (None: all), sum of (x - mean)^2 / (n - correction).

    correction: 0 gives the biased variance (NumPy's, the array API's and BatchNorm's default), 1
    the unbiased one (PyTorch's default). Errors: ArgumentError unless n > correction.
    """
    axes = normalize_axes("var", np.ndim(x), axis)
    n = _count(np.shape(x), axes)
    correction = number("var", "correction", correction)
    if not correction < (n or 1):
        raise ArgumentError(
            f"var: correction {correction} leaves no degree of freedom over {n} elements of shape "
            f"{tuple(np.shape(x))}; use correction=0 or more elements"
        )
    return _var(x, axis=axes, correction=correction, keepdims=keepdims)


def std(x: Operand, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Operand:
    """Return the square root of `var`, with its arguments; the derivative is NaN where it is 0."""
    return sqrt(var(x, axis, correction, keepdims))


def max(x: Operand, axis: Axes = None, keepdims: bool = False) -> Operand:
    """Return the largest element over axes (None: all).

    Ties share the gradient equally, as in torch.amax.

    Errors: ShapeError over an empty dimension.
    """
    return max_over(x, axis=_nonempty("max", np.shape(x), axis), keepdims=keepdims)


def min(x: Operand, axis: Axes = None, keepdims: bool = False) -> Operand:
    """Return the smallest element over axes (None: all).

    Ties share the gradient equally, as in torch.amin.

    Errors: ShapeError over an empty dimension.
    """
    return min_over(x, axis=_nonempty("min", np.shape(x), axis), keepdims=keepdims)


def argmax(x: Operand, axis: int | None = None) -> Operand:
    """Return the index of the first largest element along an axis, or in the flat x if it is None.

    The result is int64 and has no gradient.
    """
    return _argmax(x, axis=_one_nonempty("argmax", np.shape(x), axis))


def argmin(x: Operand, axis: int | None = None) -> Operand:
    """Return the index of the first smallest element along an axis, or in the flat x if it is None.

    The result is int64 and has no gradient.
    """
    return _argmin(x, axis=_one_nonempty("argmin", np.shape(x), axis))


def _one_nonempty(name: str, shape: Shape, axis: int | None) -> int | None:
    if axis is not None:
        axis = normalize_axis(name, len(shape), axis, "one int or None (for the flat tensor)")
    _nonempty(name, shape, axis)
    return axis


def _nonempty(name: str, shape: Shape, axis: Axes) -> tuple[int, ...]:
    axes = normalize_axes(name, len(shape), axis)
    if _count(shape, axes) == 0:
        raise ShapeError(f"{name}: no elements along axis {axis} of shape {tuple(shape)}")
    return axes
