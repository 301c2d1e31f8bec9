"""For each primitive that is a call, not a loop, CALLS has a function that writes the call's lines.

The function returns None for a case that is left to the primitive's forward, in NumPy. Its argument
`name` gives the name of an array or number in generated code. Primitives do not declare their calls
themselves, since the names, layouts and threads in them belong to one backend.
"""

import inspect
import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from ...kernels.batchnorm.entry_points import kind
from ...kernels.jit.decorators import name_of
from ...kernels.linear import is_small
from ...kernels.product import LARGEST, panels
from ...kernels.reductions import is_one_block
from ...ops import BUILTIN
from ...ops.inplace import COPY, Update
from ...types import Shape
from ..ir.program import Input, Operation, Value
from .fusion import iteration_shape
from .indexing import MOVES, Lines, Name, flat

# --- products -----------------------------------------------------------------------------------


# The texts of a matrix in C order, and of 1 if its transpose is the factor of a product, else 0.
Factor: TypeAlias = tuple[str, str]


def _product(a: Factor, b: Factor, y: str, m: int, n: int, inner: int) -> str:
    """Return the line that sets y to a @ b, for the sizes (m, inner) and (inner, n)."""
    given = f"{a[0]}, {b[0]}, {a[1]}, {b[1]}, {y}, blas"
    return f"large_product({given}, pool)" if panels(m, n, inner) > 1 else f"product({given})"


def _absent(like: Value, ndim: int = 1) -> str:
    shape = "(0,)" if ndim == 1 else f"({', '.join('0' * ndim)})"
    return f"array(0, {shape}, {like.dtype.name})"


def _given(v: Value | None, like: Value, name: Name, ndim: int = 1) -> str:
    """Return the name of v, or an empty array of the dtype of `like` in place of None."""
    return _absent(like, ndim) if v is None else name(v)


def _factor(text: str) -> Factor:
    """Return the factor that is a matrix in C order, or a transpose of one."""
    return f"in_c_order({text})", f"trans({text})"


def _is_product(*values: Value) -> bool:
    """Return whether `product` takes these factors: floats of one dtype, and no size too large.

    values: the factors, and others whose dtype must be the same.
    """
    dtype = values[0].dtype
    sizes = [size for v in values for size in v.shape]
    return (
        dtype.kind == "f"
        and all(v.dtype == dtype for v in values)
        and max(sizes, default=0) <= LARGEST
    )


def _linear(op: Operation, name: Name) -> Lines:
    x, w, b = op.inputs
    if not _is_product(*op.reads) or len(x.shape) != 2:
        return None
    y = name(op.outputs[0])
    if is_small(x.shape[0], w.size):
        return [f"linear_forward({name(x)}, {name(w)}, {_given(b, x, name)}, {y}, blas)"]
    factors = (name(x), "0"), (name(w), "1")
    lines = [_product(*factors, y, x.shape[0], w.shape[0], x.shape[1])]
    return lines if b is None else [*lines, f"add_bias({y}, {name(b)})"]


def _linear_grad(op: Operation, name: Name) -> Lines:
    g, x, w = op.inputs
    if not _is_product(*op.reads) or len(x.shape) != 2:
        return None
    dx, dw, db = op.outputs
    (m, n), inner = g.shape, x.shape[1]
    if is_small(m, w.size) and is_one_block(m, g.dtype):
        made = [_given(dx, x, name, 2), _given(dw, x, name, 2), _given(db, x, name)]
        return [f"linear_backward({name(g)}, {name(x)}, {name(w)}, {', '.join(made)}, blas)"]
    rows = name(g)
    lines = []
    if dx is not None:
        lines.append(_product((rows, "0"), (name(w), "0"), name(dx), m, inner, n))
    if dw is not None:
        lines.append(_product((rows, "1"), (name(x), "0"), name(dw), n, inner, m))
    if db is not None and is_one_block(m, g.dtype):
        return [*lines, f"sum_few_rows({rows}, {name(db)})"]
    return lines + ([] if db is None else [f"sum_rows({rows}, 1, {name(db)})"])


def _matmul(op: Operation, name: Name) -> Lines:
    a, b = op.inputs
    ndim, y = len(a.shape), op.makes[0]
    if not _is_product(a, b) or len(b.shape) != ndim:
        return None
    sizes = a.shape[-2], b.shape[-1], a.shape[-1]
    if ndim == 2:
        return [_product(_factor(name(a)), _factor(name(b)), name(y), *sizes)]
    factors = (f"{name(a)}[k]", "0"), (f"{name(b)}[k]", "0")
    line = _product(*factors, f"{name(y)}[k]", *sizes)
    return [f"for k in range({name(y)}.shape[0]):", f"    {line}"] if ndim == 3 else None


# --- normalisation and losses -------------------------------------------------------------------


def _layout(v: Value) -> tuple[str, int]:
    """Return the kind of BatchNorm kernel for v, as in eager calls, and the kernel's ndim."""
    n, c, *space = v.shape
    size = math.prod(space)
    shape = (n, c) if size == 1 else (n, c, size)
    return kind(shape), len(shape)


def _planes(v: Value, name: Name) -> str:
    """Return the expression for v in shape (n, c, s), or in (n, c) if s is 1."""
    text, ndim = name(v), _layout(v)[1]
    if len(v.shape) == ndim:
        return text
    sizes = [f"{text}.shape[{k}]" for k in range(len(v.shape))]
    folded = [" * ".join(sizes[2:])] if ndim == 3 else []
    return f"reshaped({text}, ({', '.join([*sizes[:2], *folded])}))"


def _batch_norm(op: Operation, name: Name) -> Lines:
    x, gamma, beta, *given = op.inputs
    given = [v for v in given if v is not None]
    y, stats = op.outputs[:2]
    if 0 in x.shape or y is None or stats is None:
        return None
    p = [_given(v, x, name) for v in (gamma, beta)]
    arguments = [_planes(x, name), *p, *map(name, given)]
    arguments += [name(op.attributes["eps"], "eps"), name(op.attributes["relu"], "relu")]
    arguments += [_planes(y, name), name(stats)]
    mode = "eval" if given else "train"
    return [f"{_layout(x)[0]}_{mode}({', '.join(arguments)}, {_pool(x, name)})"]


def _pool(x: Value, name: Name) -> str:
    """Return the expression for the threads that work on an array of x's size."""
    return f"pool_for(pool, {name(x)}.size)"


def _batch_norm_grad(op: Operation, name: Name) -> Lines:
    g, x, gamma, y, stats, *_ = op.inputs
    if 0 in x.shape:
        return None
    layout, ndim = _layout(x)
    dx, dgamma, dbeta = op.outputs
    arguments = [
        _planes(g, name),
        _planes(x, name),
        _absent(x, ndim) if y is None else _planes(y, name),
        _given(gamma, x, name),
        name(stats),
        name(op.attributes["batch"], "batch"),
        _absent(x, ndim) if dx is None else _planes(dx, name),
        *(_given(v, x, name) for v in (dgamma, dbeta)),
    ]
    return [f"{layout}_backward({', '.join(arguments)}, {_pool(x, name)})"]


def _label_cross_entropy(op: Operation, name: Name) -> Lines:
    a, labels = op.inputs
    loss, p = op.outputs
    if p is None:
        return None
    given = [name(a), name(labels), *_labelled(op, name), name(loss), name(p)]
    return [f"bad = label_cross_entropy_forward({', '.join(given)})"]


def _label_cross_entropy_grad(op: Operation, name: Name) -> Lines:
    g, _, labels, p = op.inputs
    given = [_scalar(g, name, "g"), name(labels), name(p), *_labelled(op, name)]
    return [f"label_cross_entropy_backward({', '.join(given)}, {name(op.outputs[0])})"]


def _labelled(op: Operation, name: Name) -> list[str]:
    return [name(op.attributes[key], key) for key in ("ignore_index", "mean")]


def _cross_entropy(op: Operation, name: Name) -> Lines:
    a, q, divisor = op.inputs
    y = name(op.makes[0])
    losses = name(Value.like("losses", a.shape[:1], np.float64))
    lines = [f"cross_entropy_forward({name(a)}, {name(q)}, {losses})"]
    by = _scalar(divisor, name, "divisor")
    if not op.attributes["per_row"]:
        return [*lines, f"{y}[()] = {losses}.sum() / {by}"]
    return [*lines, f"for k in range({losses}.size):", f"    {y}[k] = {losses}[k] / {by}"]


def _cross_entropy_grad(op: Operation, name: Name) -> Lines:
    g, a, q, divisor = op.inputs
    given = [flat(name(g)), name(a), name(q), _scalar(divisor, name, "divisor"), name(op.makes[0])]
    return [f"cross_entropy_backward({', '.join(given)})"]


def _scalar(x: Input, name: Name, like: str = "number") -> str:
    """Return the expression for a number, or for an array of one number, in float64."""
    return f"float64({name(x)}[()])" if isinstance(x, Value) else name(x * 1.0, like)


def _in_range(op: Operation, name: Name) -> Lines:
    (indices,), (out,) = op.inputs, op.makes
    ignored = op.attributes["ignore_index"]
    ignoring = name(ignored is not None, "ignoring")
    given = [flat(name(indices)), name(op.attributes["n"], "n")]
    given += [name(-1 if ignored is None else ignored, "ignore_index"), ignoring]
    return [f"bad = find_outside({', '.join(given)}, {flat(name(out))})"]


# --- changes in place ---------------------------------------------------------------------------


def _update(op: Operation, name: Name) -> Lines:
    update = op.what
    assert isinstance(update, Update)

    def argument(x: Input, meaning: str, number: bool) -> str:
        if number:
            return _scalar(x, name, meaning)
        return flat(name(x)) if update.flat and len(x.shape) != 1 else name(x)

    meanings = zip(op.inputs, parameters(update), strict=False)
    given = [argument(x, like, i in update.numbers) for i, (x, like) in enumerate(meanings)]
    given += [_pool(op.inputs[0], name)] if update.threads else []
    return [f"{name(update)}({', '.join(given)})"]


def parameters(update: Update) -> list[str]:
    """Return the names of the parameters of an update's kernel."""
    return list(inspect.signature(update.kernel).parameters)


def kernel_shape(update: Update, v: Value) -> Shape:
    """Return the shape in which an update's kernel takes an array."""
    return (v.size,) if update.flat else v.shape


def loop_key(op: Operation, whole: Callable[[Value], bool]) -> object:
    """Return a key that is equal for updates that one loop can run, or None for other operations.

    whole: a function that returns whether a Value has all the memory at its address.
    """
    update = op.what
    if not isinstance(update, Update) or name_of(update.kernel) is None or update.numbers:
        return None
    if not all(map(whole, op.inputs)):
        return None
    return update, *((len(kernel_shape(update, v)), v.dtype) for v in op.inputs)


CALLS: dict[str, Callable[[Operation, Name], Lines]] = {
    "linear": _linear,
    "linear_grad": _linear_grad,
    "matmul": _matmul,
    "cross_entropy": _cross_entropy,
    "cross_entropy_grad": _cross_entropy_grad,
    "in_range": _in_range,
    **MOVES,
    "batch_norm": _batch_norm,
    "batch_norm_grad": _batch_norm_grad,
    "label_cross_entropy": _label_cross_entropy,
    "label_cross_entropy_grad": _label_cross_entropy_grad,
}


def lines_of(op: Operation, name: Name) -> Lines:
    """Return the lines of a call, or None for an operation that is a loop or is left to NumPy.

    name: a function that returns the name of a Value, number or update's kernel in generated code.
    """
    if isinstance(op.what, Update) and op.what is not COPY:
        return None if name_of(op.what.kernel) is None else _update(op, name)
    own = op.what is COPY or BUILTIN.get(op.name) is op.what  # users' primitives have other names
    call = CALLS.get(op.name) if own else None
    return None if call is None else call(op, name)


def runs_in_numpy(op: Operation) -> bool:
    """Return whether NumPy runs the operation, since generated code has no loop or call for it."""
    return iteration_shape(op) is None and lines_of(op, lambda _, like="": "") is None
