"""Tracing: run a step once, eagerly, and write down every operation that it applies.

Arrays are known by identity: a primitive's results and their views are Values; any other array that
is met is memory that was there before.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import ops
from ..apply import apply
from ..arrays import as_array
from ..errors import TraceError
from ..nn.module import Module
from ..ops.update import Update
from ..tensor import Tensor
from .program import Fetch, Operation, Program, Value

# What apply takes as it is; lists become arrays.
_KNOWN = (Tensor, np.ndarray, np.generic, float, int, type(None))


class Trace:
    """What has been met so far.

    arguments, known: the Tensors that the step is given, and the user's others, with their names.
    """

    runs_again = True

    def __init__(
        self, arguments: Sequence[tuple[str, Tensor]], known: Sequence[tuple[str, Tensor]]
    ) -> None:
        self.rule: tuple[ops.Primitive, int | None] | None = None
        self.guards: list[tuple[Callable[[], Any], Any]] = []
        self.operations: list[Operation] = []
        self.owners: dict[int, Tensor] = {}  # the Tensors of states, by the identity of the Value
        self._values: dict[int, Value] = {}  # by the identity of the array
        self._views: dict[int, tuple[Operation, Any]] = {}  # what made a view, and its array
        self._stale: set[int] = set()  # views whose memory has changed since they were noted
        self._given = [x._data for _, x in arguments]
        self._held: list[Any] = []  # arrays, so that no other gets the identity of one
        self._known = {id(x): name for name, x in reversed(known)}
        self._tensors = {id(x._data): x for _, x in known}
        self._taken: set[str] = set()
        self._gradients: dict[int, tuple[Tensor, Any]] = {}  # leaves, and .grad as it was
        self._undo: list[Callable[[], Any]] = []
        self.note_module: Callable[[Module], None] = lambda module: None  # what is told of a call
        self.arguments = [
            self._enter(x._data, Value(self._free(name), x._data, "argument", keep=False))
            for name, x in arguments
        ]

    # --- what tells ----------------------------------------------------------------------------

    def apply(
        self, primitive: ops.Primitive, inputs: Sequence[Any], attributes: dict[str, Any]
    ) -> Any:
        """Apply the primitive, and write that down."""
        inputs = [x if isinstance(x, _KNOWN) else as_array(x, primitive.name) for x in inputs]
        given = [self._input(x) for x in inputs]
        result = apply(primitive, *inputs, **attributes)
        outputs = [self._made(a, primitive.name) for a in _arrays(result, primitive)]
        operation = Operation(primitive, given, attributes, outputs, self.rule)
        self.operations.append(operation)
        if primitive.is_view and outputs[0] is not None:
            self._note_view(operation, _array(inputs[0]), _array(result))
        return result

    def update(self, update: Update, *inputs: Any) -> None:
        """Write down an update in place, which whoever tells is about to make."""
        given = [self._input(x) for x in inputs]
        for i in update.changes:
            if given[i].origin in ("result", "argument"):
                raise TraceError(
                    f"compile: {update.name} would change {given[i]!r}, an argument, a view, or "
                    "what the step has made; make a new Tensor, or change a whole one from outside"
                )
            array = inputs[i].array if isinstance(inputs[i], Value) else inputs[i]
            if any(np.may_share_memory(array, a) for a in self._given):
                raise TraceError(
                    f"compile: {update.name} would change {given[i]!r}, whose memory is that of an "
                    "argument; give the step a copy, or let it use the Tensor from outside"
                )
            self._undo.append(partial(np.copyto, array, array.copy()))
            self._make_stale(given[i])
        self.operations.append(Operation(update, given, {}, []))

    def source(self, fetch: Fetch, name: str, owner: Any = None) -> Value:
        """The array that `fetch` finds, which at another call may be another; of an owner, if it
        belongs to the array of a Tensor."""
        array = fetch()
        known = self._values.get(id(array))
        if known is not None and (known.fetch is None or known.fetch == fetch):
            return known
        name = name if owner is None else f"{self._input(owner).name}.{name}"
        value = Value(self._free(name), array, "state", fetch)
        # One array may now be found in two places, and later be another in one of them.
        return value if known is not None else self._enter(array, value)

    def guard(self, look: Callable[[], Any]) -> None:
        """The trace holds only as long as `look` sees what it sees now."""
        if all(look != known for known, _ in self.guards):
            self.guards.append((look, look()))

    def know(self, name: str, x: Tensor) -> None:
        """A name for a Tensor that the step may meet."""
        self._known.setdefault(id(x), name)
        self._tensors.setdefault(id(x._data), x)

    def undo(self, action: Callable[[], Any]) -> None:
        """What takes back a change that is about to be made."""
        self._undo.append(action)

    def cleared(self, leaf: Tensor) -> None:
        """The gradient that the leaf had is about to be overwritten."""
        self._gradients.setdefault(id(leaf), (leaf, leaf._grad))

    def reads_gradient(self, leaf: Tensor) -> None:
        """The gradient of the leaf is about to be read, or added to."""
        if id(leaf) in self._gradients:
            return
        self._gradients[id(leaf)] = leaf, leaf._grad
        absent = leaf._grad is None
        self.guard(lambda: leaf._grad is None)
        if not absent and id(leaf._grad._data) not in self._values:  # type: ignore[union-attr]
            self.source(lambda: leaf._grad._data, "grad", leaf._data)  # type: ignore[union-attr]

    def value_of(self, x: Tensor) -> Value | None:
        """The Value of a Tensor that has been met."""
        return self._values.get(id(x._data))

    def is_known(self, state: Value) -> bool:
        """Whether it was there before the step, which may make Tensors of arrays as well."""
        owner = self.owners.get(id(state))
        return owner is None or id(owner) in self._known

    # --- what it comes to ----------------------------------------------------------------------

    def program(self, results: Sequence[Tensor]) -> Program:
        """All of it, with what is to be returned."""
        given = {id(v): v for v in self.arguments}
        for leaf, _ in self._gradients.values():
            if id(self._values.get(id(leaf._data))) in given and leaf._grad is not None:
                raise TraceError(
                    "compile: backward reaches an argument of the step, whose .grad the caller "
                    "would not see; return mg.grad(loss, [argument]) instead"
                )
        grads = [
            (leaf, None if leaf._grad is None else self._input(leaf._grad))
            for leaf, _ in self._gradients.values()
        ]
        returned = [self._input(x) for x in results]
        program = Program(self.arguments, self.operations, returned, grads)
        program.check()
        return program

    def take_back(self) -> None:
        """Everything that the traced step has changed becomes what it was."""
        for action in reversed(self._undo):
            action()
        for leaf, gradient in self._gradients.values():
            leaf._grad = gradient

    # --- Values --------------------------------------------------------------------------------

    def _input(self, x: Any) -> Any:
        """What an operation notes for an input: a Value, or a number or None as it is."""
        if isinstance(x, Tensor):
            x = x if id(x._data) not in self._values else x._data
        if isinstance(x, np.ndarray):
            known = self._values.get(id(x)) or self._outer(x)
            return self._again(known) if id(known) in self._stale else known
        if isinstance(x, Tensor):
            return self._view(x._data) or self._captured(x)
        return x.item() if isinstance(x, np.generic) else x

    def _outer(self, array: Any) -> Value:
        """An array that is no result."""
        tensor = self._tensors.get(id(array))
        if tensor is not None:
            return self._captured(tensor)
        return self._view(array) or self._constant(array)

    def _captured(self, x: Tensor) -> Value:
        """A Tensor from outside: state of the user."""
        name = self._known.get(id(x))
        value = Value(self._free(name or "tensor"), x._data, "state", lambda: x._data)
        self.owners[id(value)] = x
        return self._enter(x._data, value)

    def _constant(self, array: Any) -> Value:
        return self._enter(array, Value(self._free("constant"), array, "constant"))

    def _view(self, array: Any) -> Value | None:
        """A view that somebody made of a known array without a primitive: a row of it, or another
        shape. Errors: TraceError for any other."""
        base = array.base
        while base is not None and id(base) not in self._values:
            base = base.base if isinstance(base, np.ndarray) else None
        if base is None:
            return None
        known = self._values[id(base)]
        if array.flags.c_contiguous and array.dtype == base.dtype and base.flags.c_contiguous:
            start = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
            row = base[0].nbytes if base.ndim and len(base) else 0
            if array.size == base.size:
                made = self._made(array, "reshape")
                reshape = ops.TABLE["reshape"]
                attributes: dict[str, Any] = {"shape": array.shape}
                self.operations.append(Operation(reshape, [known], attributes, [made]))
                self._note_view(self.operations[-1], base, array)
                return made
            if row and array.shape == base.shape[1:]:
                made = self._made(array, "row")
                index = (start // row,)
                getitem = ops.TABLE["getitem"]
                self.operations.append(Operation(getitem, [known], {"index": index}, [made]))
                self._note_view(self.operations[-1], base, array)
                return made
        raise TraceError(
            f"compile: an array of shape {array.shape} is part of {known!r}, of shape "
            f"{known.shape}, by no operation of minigrad; index or reshape the Tensor instead"
        )

    def _note_view(self, operation: Operation, base: Any, array: Any) -> None:
        """The operation has made an array of the memory of another, unless it has copied."""
        if np.may_share_memory(base, array):
            self._views[id(operation.makes[0])] = operation, array

    def _make_stale(self, changed: Value) -> None:
        """The memory of a Value is about to change, and so is what its views show."""
        stale = {id(changed)}
        for v, (operation, _) in self._views.items():
            if id(operation.inputs[0]) in stale:
                stale.add(v)
        self._stale |= stale - {id(changed)}

    def _again(self, v: Value) -> Value:
        """A view as it is now: the operation that made it is done again."""
        operation, array = self._views[id(v)]
        base, *more = operation.inputs
        base = self._again(base) if id(base) in self._stale else base
        fresh = self._enter(array, Value(self._free(v.name), array, "result", keep=False))
        self.operations.append(
            Operation(operation.what, [base, *more], operation.attributes, [fresh], operation.rule)
        )
        self._views[id(fresh)] = self.operations[-1], array
        return fresh

    def _made(self, array: Any, name: str) -> Value | None:
        """The Value of an output; none if it is absent, or an array that has one already."""
        if array is None or id(array) in self._values:
            return None
        return self._enter(array, Value(self._free(name), array, "result", keep=False))

    def _enter(self, array: Any, value: Value) -> Value:
        self._values[id(array)] = value
        self._held.append(array)
        return value

    def _free(self, name: str) -> str:
        """The name, or with a number behind it where it is taken."""
        wanted, i = name, 1
        while wanted in self._taken:
            i += 1
            wanted = f"{name}_{i}"
        self._taken.add(wanted)
        return wanted


def _arrays(result: Any, primitive: ops.Primitive) -> list[Any]:
    """All arrays in what a primitive returned: its outputs, then what it saved."""
    if primitive.saves:
        y, saved = result
        return [_array(y), *(saved if isinstance(saved, tuple) else (saved,))]
    if primitive.outputs > 1:
        return [_array(y) for y in result]
    return [_array(result)]


def _array(y: Any) -> Any:
    return y._data if isinstance(y, Tensor) else y
