"""Where the reverse walk begins and ends: Tensor.backward and mg.grad, with what they refuse.

Importing this installs `Tensor.backward`; here, and nowhere else, gradients are committed to
`.grad`. May import walk, tensor, tape and below.
"""

from collections.abc import Container, Sequence
from typing import Any

import numpy as np

from .errors import ArgumentError, DtypeError, GradError, ShapeError
from .tape import Record, compiling, grad_mode, last_change, tape
from .tensor import Tensor, as_tensor
from .walk import Node, leading_to, node_of, walk


def backward(
    self: Tensor,
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    start = start_of(self, gradient, "backward")
    records = tape([self])
    check_tape(records)
    gradients = walk([(self, start)], records, retain_graph, create_graph)
    trace = compiling()
    for leaf, g in gradients.items():  # only now: an error above leaves every .grad as it was
        if not leaf._requires_grad:
            continue  # no longer: it was frozen after the forward
        if trace is not None:
            trace.reads_gradient(leaf)
        if leaf._grad is None:
            leaf._grad = g
        else:
            before = grad_mode.get()
            try:
                grad_mode.set(create_graph)
                leaf._grad = leaf._grad + g
            finally:
                grad_mode.set(before)


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

    >>> x = mg.tensor([1, 2, 3], requires_grad=True)
    >>> (dx,) = mg.grad((x**3).sum(), x, create_graph=True)
    >>> dx.tolist(), mg.grad(dx.sum(), x)[0].tolist()
    ([3.0, 12.0, 27.0], [6.0, 12.0, 18.0])
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
    for x in roots + wanted:
        if not isinstance(x, Tensor):
            raise DtypeError(f"grad: outputs and inputs are Tensors, got {type(x).__name__}")
    for i, x in enumerate(wanted):
        if not x._requires_grad:
            raise GradError(
                f"grad: input {i} does not require grad; make it with requires_grad=True"
            )
    pairs = [(root, start_of(root, g, "grad")) for root, g in zip(roots, starts, strict=True)]
    nodes = [node_of(x) for x in wanted]
    targets = set(nodes)
    records, active, used = leading_to(targets, tape(roots))
    check_tape(records, "grad")
    if not allow_unused and not targets <= used:
        _check_used(wanted, used.union([node_of(root) for root in roots]))
    found = walk(pairs, records, retain_graph, create_graph, targets, active)
    if not allow_unused:
        _check_used(wanted, found)  # a rule may have returned None
    return tuple([found.get(node) for node in nodes])


def start_of(root: Tensor, gradient: Any, name: str) -> Tensor:
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
    if g._data.dtype is root._data.dtype and g._data.shape == root._data.shape:
        return g
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


def check_tape(records: list[Record], name: str = "backward") -> None:
    """Errors unless all records are there, and what their rules will read is as it was."""
    changed = last_change()
    for record in records:
        if record.inputs is None:
            raise GradError(
                f"{name}: the tape was freed by an earlier backward (at '{record.primitive.name}'"
                "); pass retain_graph=True to that one, or compute the result again"
            )
        if record.number > changed:
            continue  # no later record can have seen a change
        if record.changed and record.primitive.reads_result(record.y, record.needs):
            raise GradError(
                f"{name}: the result of '{record.primitive.name}' was changed in place, and its "
                "derivative is computed from it; compute the result again, or change it after "
                "backward"
            )
        for i, x in enumerate(record.inputs):
            if isinstance(x, Tensor):
                owner = x if x._base is None else x._base
                if owner._changed > record.number and record.primitive.reads(i, record.needs):
                    raise GradError(
                        f"{name}: input {i} of '{record.primitive.name}', shape {x.shape}, was "
                        "changed in place after it was used; compute the result again, or change "
                        "it after backward"
                    )


def _check_used(wanted: Sequence[Tensor], used: Container[Node]) -> None:
    """Raise a GradError unless the node of each wanted Tensor is among those used."""
    for i, x in enumerate(wanted):
        if node_of(x) not in used:
            raise GradError(
                f"grad: outputs do not depend on input {i}; allow_unused=True gives None for it"
            )
