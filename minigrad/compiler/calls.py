"""How generated code calls: for each primitive that is no loop, the lines that compute it, with
its arrays by name; None where this case is left to the primitive's forward, in Python."""

from collections.abc import Callable
from typing import Any

from .program import Operation, Value

Lines = list[str] | None
Name = Callable[[Any], str]  # of a Value, or of a number, by which generated code knows it


def _linear(op: Operation, name: Name) -> Lines:
    x, w, b = op.inputs
    if len({v.dtype for v in op.reads}) > 1 or x.dtype.kind != "f" or len(x.shape) != 2:
        return None
    y = name(op.outputs[0])
    lines = [f"np.dot({name(x)}, {name(w)}.T, {y})"]
    return lines if b is None else [*lines, f"add_bias({y}, {name(b)})"]


def _linear_grad(op: Operation, name: Name) -> Lines:
    g, x, w = op.inputs
    if len({v.dtype for v in op.reads}) > 1 or len(x.shape) != 2:
        return None
    dx, dw, db = op.outputs
    lines = [] if dx is None else [f"np.dot({name(g)}, {name(w)}, {name(dx)})"]
    lines += [] if dw is None else [f"np.dot({name(g)}.T, {name(x)}, {name(dw)})"]
    return lines + ([] if db is None else [f"sum_rows({name(g)}, 1.0, {name(db)})"])


def _matmul(op: Operation, name: Name) -> Lines:
    a, b = op.inputs
    if a.dtype != b.dtype or a.dtype.kind != "f" or not len(a.shape) == len(b.shape) == 2:
        return None
    return [f"np.dot({name(a)}, {name(b)}, {name(op.outputs[0])})"]


def _absent(like: Value, ndim: int = 1) -> str:
    shape = "0" if ndim == 1 else f"({', '.join('0' * ndim)})"
    return f"np.empty({shape}, {like.dtype.name})"


def _planes(v: Value, name: Name) -> str:
    """v of more than 3 dimensions as (n, c, s)."""
    text = name(v)
    return text if len(v.shape) < 4 else f"{text}.reshape({text}.shape[0], {text}.shape[1], -1)"


def _batch_norm(op: Operation, name: Name) -> Lines:
    x, gamma, beta, *given = op.inputs
    given = [v for v in given if v is not None]
    if 0 in x.shape:
        return None
    y, stats = op.outputs[:2]
    if y is None or stats is None:
        return None
    p = [name(v) if v is not None else _absent(x) for v in (gamma, beta)]
    kernel = "batch_norm" if len(x.shape) == 2 else "batch_norm_planes"
    kernel += "_eval" if given else ""
    eps, relu = name(op.attributes["eps"]), op.attributes["relu"]
    arrays = ", ".join([_planes(x, name), *p, *map(name, given)])
    return [f"{kernel}({arrays}, {eps}, {relu}, {_planes(y, name)}, {name(stats)})"]


def _batch_norm_grad(op: Operation, name: Name) -> Lines:
    g, x, gamma, y, stats = op.inputs
    if 0 in x.shape:
        return None
    ndim = min(len(x.shape), 3)
    dx, dgamma, dbeta = op.outputs
    kernel = "batch_norm_grad" if ndim == 2 else "batch_norm_planes_grad"
    given = [
        _planes(g, name),
        _planes(x, name),
        _absent(x, ndim) if y is None else _planes(y, name),
        _absent(x) if gamma is None else name(gamma),
        name(stats),
        str(op.attributes["batch"]),
        _absent(x, ndim) if dx is None else _planes(dx, name),
        *(_absent(x) if v is None else name(v) for v in (dgamma, dbeta)),
    ]
    return [f"{kernel}({', '.join(given)})"]


def _label_cross_entropy(op: Operation, name: Name) -> Lines:
    a, labels = op.inputs
    loss, p = op.outputs
    if p is None:
        return None
    given = f"{name(a)}, {name(labels)}, {op.attributes['ignore_index']}, {op.attributes['mean']}"
    return [f"bad = label_cross_entropy({given}, {name(loss)}, {name(p)})"]


def _label_cross_entropy_grad(op: Operation, name: Name) -> Lines:
    g, _, labels, p = op.inputs
    given = f"{name(g)}[()], {name(labels)}, {name(p)}"
    given += f", {op.attributes['ignore_index']}, {op.attributes['mean']}"
    return [f"label_cross_entropy_grad({given}, {name(op.outputs[0])})"]


def _update(op: Operation, name: Name) -> Lines:
    return [f"{op.name}({', '.join(name(x) for x in op.inputs)})"]


def _copy(op: Operation, name: Name) -> Lines:
    return [f"{name(op.inputs[0])}[...] = {name(op.inputs[1])}"]


CALLS: dict[str, Callable[[Operation, Name], Lines]] = {
    "linear": _linear,
    "linear_grad": _linear_grad,
    "matmul": _matmul,
    "batch_norm": _batch_norm,
    "batch_norm_grad": _batch_norm_grad,
    "label_cross_entropy": _label_cross_entropy,
    "label_cross_entropy_grad": _label_cross_entropy_grad,
    "sgd": _update,
    "sgd_momentum": _update,
    "running": _update,
    "increment": _update,
    "copy": _copy,
}
