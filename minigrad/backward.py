"""The reverse walk: cotangents from the roots back to whatever asked for them.

Here, and nowhere else, cotangents are added up, summed down to a broadcast input's shape, cast to
its dtype and committed to `.grad`. May import apply, tensor, tape, ops and below.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import ops
from .apply import on_tape
from .errors import ArgumentError, DtypeError, GradError, ShapeError
from .tape import Record, grad_mode, last_change, tape
from .tensor import Tensor, as_tensor


def backward(
    self: Tensor,
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    start = _cotangent(self, gradient, "backward")
    gradients = _walk([(self, start)], None, retain_graph, create_graph)
    for leaf, g in gradients.items():  # only now: an error above leaves every .grad as it was
        if not leaf._requires_grad:
            continue  # no longer: it was frozen after the forward
        if leaf._grad is None:
            leaf._grad = g
        else:
            token = grad_mode.set(create_graph)
            try:
                leaf._grad = leaf._grad + g
            finally:
                grad_mode.reset(token)


backward.__doc__ = Tensor.backward.__doc__
Tensor.backward = backward  # type: ignore[method-assign]


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of (the sum of) outputs with respect to inputs, leaves or not; no `.grad` changes.

    grad_outputs: a cotangent for each output, of its shape; may be left out (or None) for single
    elements. create_graph, retain_graph: as in Tensor.backward. Returns a tuple, one Tensor for
    each input, in its shape and dtype; with allow_unused, None where outputs do not depend on it.
    Errors: as Tensor.backward, and GradError for an unused input.
    """
    roots: list[Any] = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    wanted: list[Any] = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    if grad_outputs is None:
        starts: list[Any] = [None] * len(roots)
    else:
        one = not isinstance(grad_outputs, (list, tuple))
        starts = [grad_outputs] if one else list(grad_outputs)
    if not roots or not wanted or len(starts) != len(roots):
        raise ArgumentError(
            f"grad: expected outputs, inputs and a grad_output for each output; got {len(roots)} "
            f"outputs, {len(wanted)} inputs, {len(starts)} grad_outputs"
        )
    for x in (*roots, *wanted):
        if not isinstance(x, Tensor):
            raise DtypeError(f"grad: outputs and inputs are Tensors, got {type(x).__name__}")
    for i, x in enumerate(wanted):
        if not x._requires_grad:
            raise GradError(
                f"grad: input {i} does not require grad; make it with requires_grad=True"
            )
    pairs = [(root, _cotangent(root, g, "grad")) for root, g in zip(roots, starts, strict=True)]
    found = _walk(pairs, wanted, retain_graph, create_graph, allow_unused)
    return tuple(found.get(_node(x)) for x in wanted)


# --- the walk -----------------------------------------------------------------------------------

# Where cotangents gather: at the number of a record's output, or, for a leaf, at the Tensor itself.
Node = Any


def _node(x: Tensor) -> Node:
    return x if x._node is None else x._node


def _nodes(record: Record) -> Sequence[Node]:
    return range(record.number, record.number + record.primitive.outputs)


def _walk(
    roots: Sequence[tuple[Tensor, Tensor]],
    wanted: Sequence[Tensor] | None,
    retain_graph: bool | None,
    create_graph: bool,
    allow_unused: bool = True,
) -> dict[Node, Tensor]:
    """Gradients by node: of all leaves (wanted is None), or of those wanted that are reached.

    Rules are made of operators and primitives, and so run on arrays as well as on Tensors: on
    arrays, which is faster, unless the backward pass itself is to be recorded.
    """
    retain = create_graph if retain_graph is None else retain_graph
    records = tape([root for root, _ in roots])
    targets = active = None
    if wanted is None:
        _check(records)
    else:
        targets = {_node(x) for x in wanted}
        records, active, used = _leading_to(targets, records)
        _check(records)
        if not allow_unused:
            _check_used(wanted, used.union([_node(root) for root, _ in roots]))
    sums: dict[Node, Any] = {}
    lent: set[Node] = set()  # nodes whose sum is, so far, an array that others may hold too
    token = grad_mode.set(True if create_graph else None)
    try:
        with np.errstate(all="ignore"):  # inf and NaN pass without a word
            for root, start in roots:
                g: Any = start if create_graph else start._data
                _accumulate(sums, lent, root, g, g)
            for record in reversed(records):
                if record.primitive.outputs > 1:
                    g = _gathered(sums, record, targets)
                elif targets is not None and record.number in targets:
                    g = sums.get(record.number)
                else:
                    g = sums.pop(record.number, None)
                if g is not None:
                    _pull(record, g, active, create_graph, sums, lent)
                    if not retain:
                        record.free()
            return {
                node: _owned(g, node in lent)
                for node, g in sums.items()
                if targets is None or node in targets
            }
    finally:
        grad_mode.reset(token)


def _pull(
    record: Record,
    g: Any,
    active: set[Node] | None,
    create_graph: bool,
    sums: dict[Node, Any],
    lent: set[Node],
) -> None:
    """Take the cotangent of a record's output, or outputs, back to its inputs."""
    primitive, inputs, attributes = record.primitive, record.inputs, record.attributes
    operands, y = record.arrays, record.y
    if create_graph:
        operands, y = inputs, _outputs(record)
    needs = record.needs
    if active is not None:
        needs = [i for i in needs if _node(inputs[i]) in active]
    if primitive.joint is not None:
        cotangents = primitive.joint(g, y, *operands, needs=needs, **attributes)
        for i in needs:
            if cotangents[i] is not None:
                _accumulate(sums, lent, inputs[i], cotangents[i], g)
    else:
        for i in needs:
            gx = primitive.rules[i](g, y, *operands, **attributes)
            _accumulate(sums, lent, inputs[i], gx, g)


def _gathered(sums: dict[Node, Any], record: Record, targets: set[Node] | None) -> Any:
    """The cotangents of a record's outputs, all of whose uses have been walked; None for none."""
    parts = tuple(
        [
            sums.pop(node, None) if targets is None or node not in targets else sums.get(node)
            for node in _nodes(record)
        ]
    )
    return parts if any(part is not None for part in parts) else None


def _outputs(record: Record) -> Any:
    """What the record's primitive returned, as Tensors on the tape."""
    if record.primitive.outputs > 1:
        return on_tape(record.y, record)
    if record.primitive.saves:
        y, saved = record.y
        return on_tape([y], record)[0], saved
    return on_tape([record.y], record)[0]


def _accumulate(sums: dict[Node, Any], lent: set[Node], x: Tensor, gx: Any, g: Any) -> None:
    """Add the cotangent gx of x, or of what x was broadcast to; g is what gx came from."""
    node: Node = x._node
    if node is None:
        node = x
    wanted = x._data
    before = sums.get(node)
    if gx.shape != wanted.shape:
        gx = _fitted(gx, wanted.shape, before is None)
    if gx.dtype is not wanted.dtype and gx.dtype != wanted.dtype:
        gx = ops.astype(gx, dtype=wanted.dtype)
    if before is not None:
        gx = before + gx
        lent.discard(node)
    elif gx is g or (type(g) is tuple and any([gx is part for part in g])):
        lent.add(node)
    sums[node] = gx


def _fitted(g: Any, shape: tuple[int, ...], alone: bool) -> Any:
    """g in another shape: the transpose of broadcasting, which is to sum over the dimensions that
    were added or stretched; or broadcast itself, unless adding it to what is there will do so."""
    axes = _axes_to_sum(g.shape, shape)
    if axes is None:
        return ops.broadcast_to(g, shape) if alone else g
    # Of arrays at once, since on this path each tenth of a microsecond tells.
    sum_over = ops.sum_over if isinstance(g, Tensor) else ops.sum_over.forward
    g = sum_over(g, axis=axes, keepdims=g.ndim == len(shape))
    return g if g.shape == shape else ops.reshape(g, shape)


@functools.lru_cache(maxsize=1024)
def _axes_to_sum(given: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The axes along which `shape` was repeated to become `given`; None if it was not."""
    extra = len(given) - len(shape)
    if extra < 0:
        return None
    stretched = [i for i, n in enumerate(shape, extra) if n == 1 and given[i] != 1]
    return (*range(extra), *stretched) or None


def _owned(g: Any, lent: bool) -> Tensor:
    """g as a Tensor with an array that nobody else holds."""
    if isinstance(g, Tensor):
        return g.clone() if lent or g._data.base is not None else g
    if type(g) is not np.ndarray or lent or g.base is not None:
        g = np.array(g)
    return Tensor(g)


def _leading_to(
    targets: set[Node], records: list[Record]
) -> tuple[list[Record], set[Node], set[Node]]:
    """The records through which cotangents reach a target, the nodes where they gather on their
    way, and those of these that are an input of such a record: a target that is not is unused."""
    leading, active, used = [], set(targets), set()
    for record in records:
        # A freed record hides what it led to: better to stop at it than to call inputs unused.
        leads = record.inputs is None
        for i in record.needs:
            node = _node(record.inputs[i])
            if node in active:
                leads = True
                used.add(node)
        if leads:
            leading.append(record)
            active.update(_nodes(record))
    return leading, active, used


def _check(records: list[Record]) -> None:
    """Errors unless all records are there, and what their rules will read is as it was."""
    changed = last_change()
    for record in records:
        if record.inputs is None:
            raise GradError(
                f"backward: the tape was freed by an earlier backward (at '{record.primitive.name}'"
                "); pass retain_graph=True to that one, or compute the result again"
            )
        if record.number > changed:
            continue  # no later record can have seen a change
        for i, x in enumerate(record.inputs):
            if isinstance(x, Tensor):
                owner = x if x._base is None else x._base
                if owner._changed > record.number and record.primitive.reads(i, record.needs):
                    raise GradError(
                        f"backward: input {i} of '{record.primitive.name}', shape {x.shape}, was "
                        "changed in place after it was used; compute the result again, or change "
                        "it after backward"
                    )


def _check_used(wanted: Sequence[Tensor], used: set[Node]) -> None:
    """Errors unless each wanted Tensor is a root or an input of a record that leads to one."""
    for i, x in enumerate(wanted):
        if _node(x) not in used:
            raise GradError(
                f"grad: outputs do not depend on input {i}; allow_unused=True gives None for it"
            )


# --- its beginning ------------------------------------------------------------------------------


def _cotangent(root: Tensor, gradient: Any, name: str) -> Tensor:
    """The cotangent to begin with: `gradient`, checked, or 1."""
    if not root._requires_grad:
        raise GradError(
            f"{name}: this result depends on no Tensor with requires_grad=True (or was computed "
            "in no_grad, or from detached values): there is nothing to differentiate"
        )
    if gradient is None:
        if root.size != 1:
            raise GradError(
                f"{name}: only a single element needs no gradient, got shape {root.shape}; pass "
                "one of that shape, or reduce it with .sum() or .mean()"
            )
        return Tensor(np.ones(root._data.shape, root._data.dtype))
    g = gradient
    if not isinstance(g, Tensor):
        g = as_tensor(g, f"{name}: the gradient")
    if g.shape != root.shape:
        raise ShapeError(
            f"{name}: the gradient has shape {g.shape}, expected {root.shape}, that of the result; "
            "reshape it, or give it that shape with broadcast_to"
        )
    if g.dtype.kind != "f":
        raise DtypeError(
            f"{name}: the gradient must be of floats, got {g.dtype}; convert with "
            f".astype('{root.dtype}')"
        )
    return g if g.dtype == root.dtype else g.astype(root.dtype)
