"""Shape primitives move elements without changing them; the public functions are made of them.

A public function checks and normalises its arguments once. The primitive that it calls gets full
shapes and non-negative axes only, so rules, printers and compilers handle a single form.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from ..checks import is_integer
from ..errors import ArgumentError, DtypeError, ShapeError
from ..types import Array, Shape
from .primitive import Operand, Primitive, Scalar, letters, primitive

Axes = int | Sequence[int] | None


def normalize_axes(name: str, ndim: int, axis: Axes) -> tuple[int, ...]:
    """Return sorted, non-negative, distinct axes; None means all.

    Errors: DtypeError, ArgumentError.
    """
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    result = {normalize_axis(name, ndim, one, "an int, a tuple of ints or None") for one in axes}
    if len(result) != len(axes):
        raise ArgumentError(f"{name}: axis {axis!r} names a dimension twice")
    return tuple(sorted(result))


def normalize_axis(name: str, ndim: int, axis: object, expected: str = "one int") -> int:
    """Return one axis, non-negative. Errors: those of normalize_axes."""
    if not is_integer(axis):
        raise DtypeError(f"{name}: axis must be {expected}, got {axis!r:.40}")
    if not ndim:
        raise ArgumentError(f"{name}: a scalar has no axes, got axis {axis}; reshape it first")
    if not -ndim <= axis < ndim:
        raise ArgumentError(
            f"{name}: axis {axis} is out of range for {ndim} dimensions; "
            f"expected {-ndim} to {ndim - 1}"
        )
    return int(axis) % ndim


# --- primitives ---------------------------------------------------------------------------------

_reshape: Primitive = primitive(
    "reshape",
    lambda a, shape: a.reshape(shape),
    (lambda g, _y, _a, shape: _reshape(g, shape=_a.shape),),
    "the elements of a in C order, in another shape",
    formula="reshape(a, shape)",
    is_view=True,
)
_permute: Primitive = primitive(
    "permute",
    lambda a, axes: a.transpose(axes),
    (lambda g, _y, _a, axes: _permute(g, axes=_inverse(axes)),),
    "dimension i of the result is dimension axes[i] of a",
    formula=lambda a, axes: "a.T" if axes == (1, 0) else "permute_dims(a, axes)",
    is_view=True,
)


def _broadcast_forward(a: Array, shape: Shape) -> Array:
    """Return a view with strides of 0, built without np.broadcast_to, which is slow."""
    if not isinstance(a, np.ndarray) or not a.flags.c_contiguous or a.size == 0:
        return np.broadcast_to(a, shape)
    strides = _broadcast_strides(a.shape, a.strides, len(shape))
    view: Array = np.ndarray(shape, a.dtype, a, 0, strides)
    view.flags.writeable = False
    return view


@functools.lru_cache(maxsize=1024)
def _broadcast_strides(shape: Shape, strides: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    steps = [0 if n == 1 else stride for n, stride in zip(shape, strides, strict=True)]
    return (0,) * (ndim - len(shape)) + tuple(steps)


_broadcast_to = primitive(
    "broadcast_to",
    _broadcast_forward,
    (lambda g, _y, _a, shape: g,),  # the backward pass sums g to the shape of a
    "a repeated along new dimensions and along those of size 1",
    formula="broadcast_to(a, shape)",
    is_view=True,
    scalar=Scalar("{0}", cheap=True, integers=True),
)


def _concat_vjp(
    g: Operand, _y: Operand, *_inputs: Operand, wrt: Sequence[int], axis: int
) -> tuple[Operand, ...]:
    start, parts = 0, []
    for a in _inputs:  # only their shapes are read
        stop = start + a.shape[axis]
        parts.append(g[(slice(None),) * axis + (slice(start, stop),)])
        start = stop
    return tuple(parts)


_concat = primitive(
    "concat",
    lambda *arrays, axis: np.concatenate(arrays, axis=axis),
    _concat_vjp,
    "the inputs, joined one after the other along one axis",
    promotes=True,
    formula=lambda *a, axis: f"concat(({', '.join(letters(len(a)))},), axis={axis})",
)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axes.index(i) for i in range(len(axes)))


# --- functions ----------------------------------------------------------------------------------


def reshape(x: Operand, shape: int | Sequence[int]) -> Operand:
    """Return the elements of x in C order under another shape; one size may be -1.

    The result shares memory with x if its strides allow. Errors: ShapeError if the product of the
    sizes differs from the size of x.
    """
    wanted = normalize_shape("reshape", shape)
    size, old = math.prod(np.shape(x)), tuple(np.shape(x))
    full = wanted
    if wanted.count(-1) == 1:
        known = -math.prod(wanted)
        if known > 0 and size % known == 0:
            full = tuple(size // known if n == -1 else n for n in wanted)
    if min(full, default=0) < 0 or math.prod(full) != size:
        why = "; one size at most may be -1" if wanted.count(-1) > 1 else ""
        raise ShapeError(f"reshape: {size} elements of shape {old} do not fit into {wanted}{why}")
    return _reshape(x, shape=full)


def permute_dims(x: Operand, axes: Sequence[int]) -> Operand:
    """Return a view whose dimension i is dimension axes[i] of x. Errors: ArgumentError."""
    ndim = np.ndim(x)
    normal = tuple(normalize_axis("permute_dims", ndim, i) for i in axes)
    if sorted(normal) != list(range(ndim)):
        raise ArgumentError(
            f"permute_dims: axes {tuple(axes)} must name each of the {ndim} dimensions once"
        )
    return _permute(x, axes=normal)


def transpose(x: Operand, a: int, b: int) -> Operand:
    """Return a view of x with dimensions a and b swapped. Errors: ArgumentError."""
    axes = list(range(np.ndim(x)))
    i, j = (normalize_axis("transpose", len(axes), one) for one in (a, b))
    axes[i], axes[j] = j, i
    return _permute(x, axes=tuple(axes))


def squeeze(x: Operand, axis: Axes = None) -> Operand:
    """Return x without all dimensions of size 1, or without `axis`, whose size must be 1."""
    shape = np.shape(x)
    if axis is None:
        axes: tuple[int, ...] = tuple(i for i, n in enumerate(shape) if n == 1)
    else:
        axes = normalize_axes("squeeze", len(shape), axis)
        for i in axes:
            if shape[i] != 1:
                raise ShapeError(f"squeeze: dimension {i} of shape {tuple(shape)} is not 1")
    return _reshape(x, shape=tuple(n for i, n in enumerate(shape) if i not in axes))


def unsqueeze(x: Operand, axis: int) -> Operand:
    """Return x with a new dimension of size 1, which is dimension `axis` of the result."""
    shape = list(np.shape(x))
    i = normalize_axis("unsqueeze", len(shape) + 1, axis)
    return _reshape(x, shape=(*shape[:i], 1, *shape[i:]))


def broadcast_to(x: Operand, shape: int | Sequence[int]) -> Operand:
    """Return x repeated to `shape` by NumPy's rules, as a read-only view.

    Errors: ShapeError if x does not broadcast to it.
    """
    wanted, old = normalize_shape("broadcast_to", shape), tuple(np.shape(x))
    aligned = wanted[len(wanted) - len(old) :]
    if len(old) > len(wanted) or any(m not in (1, n) for m, n in zip(old, aligned, strict=True)):
        raise ShapeError(
            f"broadcast_to: shape {old} does not broadcast to {wanted}; dimensions, aligned at the "
            "last, must be equal, or 1 in the old shape (reshape or unsqueeze it?)"
        )
    return _broadcast_to(x, shape=wanted)


def concat(tensors: Sequence[Operand], axis: int = 0) -> Operand:
    """Join the tensors one after the other along an existing axis.

    Errors: ArgumentError for an empty list, ShapeError if other dimensions differ.
    """
    tensors = list(tensors)
    if not tensors:
        raise ArgumentError("concat: expected at least one tensor, got an empty list")
    shapes = [tuple(np.shape(t)) for t in tensors]
    i = normalize_axis("concat", len(shapes[0]), axis)
    if len({(len(s), s[:i], s[i + 1 :]) for s in shapes}) > 1:
        raise ShapeError(
            f"concat: shapes {shapes} may differ only in dimension {i}; reshape or cut them"
        )
    return _concat(*tensors, axis=i)


def stack(tensors: Sequence[Operand], axis: int = 0) -> Operand:
    """Join tensors of one shape along a new axis.

    Errors: ArgumentError for an empty list, ShapeError if shapes differ.
    """
    tensors = list(tensors)
    if not tensors:
        raise ArgumentError("stack: expected at least one tensor, got an empty list")
    shapes = [tuple(np.shape(t)) for t in tensors]
    if len(set(shapes)) > 1:
        raise ShapeError(
            f"stack: shapes {shapes} must be equal; concat joins along a dimension that may differ"
        )
    i = normalize_axis("stack", len(shapes[0]) + 1, axis)
    return concat([unsqueeze(t, i) for t in tensors], i)


def flatten(x: Operand, start_dim: int = 0, end_dim: int = -1) -> Operand:
    """Return x with dimensions start_dim to end_dim (inclusive) merged; a scalar becomes 1-D."""
    shape = tuple(np.shape(x))
    if not shape:
        return _reshape(x, shape=(1,))
    i, j = (normalize_axis("flatten", len(shape), one) for one in (start_dim, end_dim))
    if i > j:
        raise ArgumentError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    return _reshape(x, shape=(*shape[:i], math.prod(shape[i : j + 1]), *shape[j + 1 :]))


def normalize_shape(name: str, shape: int | Sequence[int]) -> Shape:
    """Return a shape, given as ints or as one int, as a tuple. Errors: DtypeError."""
    sizes = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
    if not all(is_integer(n) for n in sizes):
        raise DtypeError(f"{name}: a shape is made of ints, got {shape!r:.40}")
    return tuple(int(n) for n in sizes)
