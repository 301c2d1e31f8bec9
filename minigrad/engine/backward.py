"""The backward pass propagates cotangents from results back to the Tensors that need them.

It adds up the cotangents of each Tensor. Where an input was broadcast, it sums its cotangent to the
input's shape, and it casts each cotangent to the dtype of the input. Tensor.backward and mg.grad
check their arguments and run the pass.
"""

import functools
from collections.abc import Callable, Container, Sequence
from typing import Any, Literal, TypeAlias, overload

import numpy as np

from .. import ops
from ..errors import ArgumentError, DtypeError, GradError, ShapeError
from ..kernels.allocator import is_whole
from ..ops.primitive import Operand
from ..types import Shape
from .dispatch import on_tape
from .tape import Record, grad_mode, last_change, tape
from .tensor import Tensor, TensorLike, as_tensor, set_backward
from .tracer import compiling, tracer

# The key of a Tensor's sum of cotangents: for a leaf the Tensor itself, for another Tensor the
# number of the record's output that it is.
Node: TypeAlias = int | Tensor

# The backward pass calls an observer before it adds a contribution to an input's cotangent. The
# arguments are the record, g (the cotangent of its output, or a tuple of those of several outputs),
# the position of the input, and the contribution: the rule's result as a Tensor, already cast to
# the input's dtype and, if the input was broadcast, summed to its shape.
Observer: TypeAlias = Callable[[Record, Operand, int, Tensor], None]


def backward(
    root: Tensor, gradient: TensorLike | None, retain_graph: bool | None, create_graph: bool
) -> None:
    """Run the backward pass for Tensor.backward, and add the gradients to `.grad` of the leaves."""
    start = initial_cotangent(root, gradient, "backward")
    records = tape([root])
    check_tape(records)
    gradients = backward_pass([(root, start)], records, retain_graph, create_graph)
    trace = compiling()
    for leaf, g in gradients.items():  # after the pass, so that an error leaves every .grad alone
        if not isinstance(leaf, Tensor) or not leaf._requires_grad:
            continue  # the leaf was frozen after the forward
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


set_backward(backward)


@overload
def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: TensorLike | Sequence[TensorLike | None] | None = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: Literal[False] = False,
) -> tuple[Tensor, ...]: ...
@overload
def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: TensorLike | Sequence[TensorLike | None] | None = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    *,
    allow_unused: bool,
) -> tuple[Tensor | None, ...]: ...
def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: TensorLike | Sequence[TensorLike | None] | None = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of outputs, or of their sum, with respect to inputs.

    The inputs need not be leaves, and no `.grad` changes. grad_outputs: a cotangent for each
    output, in its shape; None stands for 1 if the output has a single element.
    create_graph, retain_graph: as in Tensor.backward. Returns a tuple with one Tensor for each
    input, in its shape and dtype; with allow_unused, None for an input that no output depends on.
    Errors: those of Tensor.backward, and GradError for an unused input.

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
        starts = list(grad_outputs) if isinstance(grad_outputs, (list, tuple)) else [grad_outputs]
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
    pairs = [
        (root, initial_cotangent(root, g, "grad")) for root, g in zip(roots, starts, strict=True)
    ]
    nodes = [node_of(x) for x in wanted]
    targets = set(nodes)
    records, active, used = leading_to(targets, tape(roots))
    check_tape(records, "grad")
    if not allow_unused and not targets <= used:
        _check_used(wanted, used.union([node_of(root) for root in roots]))
    found = backward_pass(pairs, records, retain_graph, create_graph, targets, active)
    if not allow_unused:
        _check_used(wanted, found)  # a rule may have returned None
    return tuple([found.get(node) for node in nodes])


def initial_cotangent(root: Tensor, gradient: TensorLike | None, name: str) -> Tensor:
    """Return the cotangent of the result `root`: `gradient`, after checks, or 1 if it is None.

    name: the name of the function, with which errors begin. Errors: GradError, ShapeError,
    DtypeError.
    """
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
        one = np.empty(root._data.shape, root._data.dtype)
        one.fill(1.0)  # np.ones is slower
        return Tensor(one)
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
    """Raise a GradError if a record was freed, or if an array that its rules read was changed."""
    changed = last_change()
    for record in records:
        if record.inputs is None:
            raise GradError(
                f"{name}: the tape was freed by an earlier backward (at '{record.primitive.name}'"
                "); pass retain_graph=True to that one, or compute the result again"
            )
        if record.number > changed:
            continue  # nothing was changed after this record was made
        if record.changed and record.primitive.reads_result(record.y, record.wrt):
            raise GradError(
                f"{name}: the result of '{record.primitive.name}' was changed in place, and its "
                "derivative is computed from it; compute the result again, or change it after "
                "backward"
            )
        for i, x in enumerate(record.inputs):
            if isinstance(x, Tensor):
                owner = x if x._base is None else x._base
                if owner._changed > record.number and record.primitive.reads(i, record.wrt):
                    raise GradError(
                        f"{name}: input {i} of '{record.primitive.name}', shape {x.shape}, was "
                        "changed in place after it was used; compute the result again, or change "
                        "it after backward"
                    )


def _check_used(wanted: Sequence[Tensor], used: Container[Node]) -> None:
    """Raise a GradError unless the node of every wanted Tensor is in `used`."""
    for i, x in enumerate(wanted):
        if node_of(x) not in used:
            raise GradError(
                f"grad: outputs do not depend on input {i}; allow_unused=True gives None for it"
            )


# --- the pass -----------------------------------------------------------------------------------


def node_of(x: Tensor) -> Node:
    """Return the key of a Tensor's sum of cotangents."""
    return x if x._node is None else x._node


def nodes_of(record: Record) -> Sequence[Node]:
    """Return the keys of the sums of a record's outputs."""
    return range(record.number, record.number + record.primitive.outputs)


def leading_to(
    targets: set[Node], records: list[Record]
) -> tuple[list[Record], set[Node], set[Node]]:
    """Find the paths on which cotangents reach the targets.

    Returns the records on these paths, the nodes on them (the targets and the outputs of these
    records), and the nodes among these that are an input of one of the records. A target that is
    missing from the last set is unused.
    """
    leading, active, used = [], set(targets), set()
    for record in records:
        # A freed record hides its inputs: it is kept, so that check_tape names the real error.
        leads = record.inputs is None
        for i in record.wrt:
            node = node_of(record.inputs[i])
            if node in active:
                leads = True
                used.add(node)
        if leads:
            leading.append(record)
            active.update(nodes_of(record))
    return leading, active, used


@np.errstate(all="ignore")  # inf and NaN raise no warnings; a decorator costs less than `with`
def backward_pass(
    roots: Sequence[tuple[Tensor, Tensor]],
    records: list[Record],
    retain_graph: bool | None,
    create_graph: bool,
    targets: set[Node] | None = None,
    active: set[Node] | None = None,
    observe: Observer | None = None,
) -> dict[Node, Tensor]:
    """Return gradients by node: those of all leaves, or of the targets that are reached.

    roots: results with their cotangents. records: the records to process, in the order of their
    numbers. targets: the nodes whose gradients are wanted; None: all leaves. active: the nodes on
    the paths to the targets, from `leading_to`. observe: see `Observer`.
    Rules are written with operators and primitives, so they run on arrays as well as on Tensors.
    The pass uses arrays, which is faster, unless it is itself recorded, traced or observed.
    """
    retain = create_graph if retain_graph is None else retain_graph
    tensors, mode, trace = create_graph, True if create_graph else None, compiling()
    if observe is None and trace is not None:
        observe = trace.name_cotangent
    if tracer.get() is not None or observe is not None:
        tensors, mode = True, create_graph
    sums: dict[Node, Operand] = {}
    lent: set[Node] = set()  # the nodes whose sum is an array that something else may hold, too
    own: set[Node] = set()  # the nodes whose sum is an array that only this pass holds
    before = grad_mode.get()
    try:  # an interrupt inside set() must restore the mode, too
        grad_mode.set(mode)
        for root, start in roots:
            if trace is not None:
                trace.name_start(root, start)
            g: Operand = start if tensors else start._data
            _accumulate(sums, lent, root, g, g)
        for record in reversed(records):
            primitive, number = record.primitive, record.number
            if primitive.outputs > 1:
                g = _gathered(sums, record, targets)
            elif targets is not None and number in targets:
                g = sums.get(number)
            else:
                g = sums.pop(number, None)
            if g is None:
                continue
            inputs, wrt = record.inputs, record.wrt
            if active is not None:
                wrt = [i for i in wrt if node_of(inputs[i]) in active]
            found: Any = ()
            if primitive.add_cotangent is None or tensors or not _added(record, g, wrt, sums, own):
                found = _cotangents(record, g, wrt, tensors)
            usual = primitive.outputs == 1 and not tensors
            for i in wrt if found else ():
                x, gx = inputs[i], found[i]
                if usual and gx is not None and gx is not g:
                    # What _accumulate would do for a first cotangent, without a call.
                    node, wanted = x if x._node is None else x._node, x._data
                    fits = gx.dtype is wanted.dtype and gx.shape == wanted.shape
                    if fits and node not in sums:
                        sums[node] = gx
                        continue
                seen = observe and functools.partial(observe, record, g, i)
                _accumulate(sums, lent, x, gx, g, seen)
            if not retain:
                record.free()
        if targets is not None:
            sums = {node: g for node, g in sums.items() if node in targets}
        return {node: _owned(g, node in lent) for node, g in sums.items()}
    finally:
        grad_mode.set(before)
        if trace is not None:
            trace.rule = None


def _cotangents(record: Record, g: Operand, wrt: Sequence[int], tensors: bool) -> Any:
    """Run a record's rules on g, the cotangent of its output or outputs.

    Returns the cotangents of the inputs by position, for at least the positions `wrt`.
    """
    primitive, attributes = record.primitive, record.attributes
    operands, y, trace = record.arrays, record.y, None
    if tensors:
        operands, y, trace = record.inputs, outputs_of(record), compiling()
    if primitive.vjp is not None:
        if trace is not None:
            trace.rule = primitive, None
        found = primitive.vjp(g, y, *operands, wrt=wrt, **attributes)
        if not tensors:
            return found
        found = {i: found[i] for i in wrt}
    else:
        rules: Any = primitive.rules  # an input that needs a gradient always has a rule
        found = {}
        for i in wrt:
            if trace is not None:
                trace.rule = primitive, i
            found[i] = rules[i](g, y, *operands, **attributes)
        if not tensors:
            return found
    name = f"the rule of {primitive.name}"
    return {i: None if gx is None else as_tensor(gx, name) for i, gx in found.items()}


def _added(
    record: Record, g: Operand, wrt: Sequence[int], sums: dict[Node, Operand], own: set[Node]
) -> bool:
    """Add the few elements of a cotangent that are not zero to the sum, if this pass owns the sum.

    Return whether it does: from the second cotangent on, a rule or an addition has allocated it.
    """
    if not wrt:
        return False
    node = node_of(record.inputs[0])
    total = sums.get(node) if node in own else None
    if type(total) is not np.ndarray:
        own.add(node)
        return False
    add: Any = record.primitive.add_cotangent
    add(total, g, record.y, *record.arrays, **record.attributes)
    return True


def _gathered(sums: dict[Node, Operand], record: Record, targets: set[Node] | None) -> Operand:
    """Return the cotangents of a record's outputs as a tuple, or None if no output has one."""
    parts = tuple(
        [
            sums.pop(node, None) if targets is None or node not in targets else sums.get(node)
            for node in nodes_of(record)
        ]
    )
    return parts if any(part is not None for part in parts) else None


def outputs_of(record: Record) -> Operand:
    """Return the result of a record's primitive, with its outputs as Tensors on the tape."""
    outputs, residuals = record.primitive.unpack(record.y)
    return record.primitive.pack(on_tape(outputs, record), residuals)


def _accumulate(
    sums: dict[Node, Operand],
    lent: set[Node],
    x: Tensor,
    gx: Operand,
    g: Operand,
    observe: Callable[[Operand], None] | None = None,
) -> None:
    """Add gx to the cotangent of x, in the shape and dtype of x, unless gx is None.

    gx: a rule's result, the cotangent of x or of x broadcast. g: the cotangent that the rule got,
    whose memory gx may share. observe: a function that is called with gx before it is added.
    """
    if gx is None:
        return
    node: Node = x if x._node is None else x._node
    wanted = x._data
    before = sums.get(node)
    if gx.shape != wanted.shape:
        gx = _unbroadcast(gx, wanted.shape, before is None)
    if gx.dtype is not wanted.dtype and gx.dtype != wanted.dtype:
        gx = ops.astype(gx, dtype=wanted.dtype)
    if observe is not None:
        observe(gx)
    if before is not None:
        gx = before + gx
        lent.discard(node)
    elif gx is g or (type(g) is tuple and any([gx is part for part in g])):
        lent.add(node)
    sums[node] = gx


def _unbroadcast(g: Operand, shape: Shape, alone: bool) -> Operand:
    """Return g summed to the shape of an input, over the dimensions that broadcasting added or
    stretched.

    A rule may also return a smaller g. It is broadcast to the shape if it is `alone`; otherwise,
    its addition to another cotangent broadcasts it.
    """
    axes = _axes_to_sum(g.shape, shape)
    if axes is None:
        return ops.broadcast_to(g, shape) if alone else g
    # Arrays skip the dispatch, since this code runs often.
    sum_over = ops.sum_over if isinstance(g, Tensor) else ops.sum_over.forward
    g = sum_over(g, axis=axes, keepdims=g.ndim == len(shape))
    return g if g.shape == shape else ops.reshape(g, shape)


@functools.lru_cache(maxsize=1024)
def _axes_to_sum(given: Shape, shape: Shape) -> tuple[int, ...] | None:
    """Return the axes along which broadcasting repeated `shape` to give `given`, or None."""
    extra = len(given) - len(shape)
    if extra < 0:
        return None
    stretched = [i for i, n in enumerate(shape, extra) if n == 1 and given[i] != 1]
    return (*range(extra), *stretched) or None


def _owned(g: Operand, lent: bool) -> Tensor:
    """Return g as a Tensor whose array is in C order and belongs to no other object."""
    if type(g) is np.ndarray:
        if lent or not is_whole(g) or not g.flags.c_contiguous:
            g = np.array(g, order="C")
        return Tensor(g)
    if not isinstance(g, Tensor):
        return Tensor(np.array(g, order="C"))
    a = g._data
    return g.clone() if lent or not is_whole(a) or not a.flags.c_contiguous else g
