"""Tracing runs a step once with arrays that have no elements, and notes each operation.

While a step is traced, the array of each Tensor is a Value, which has a name, a shape and a dtype.
Nothing is computed, so a program can read only what existed before the step: arguments, state and
constants. All of them are Values, with names in the program.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, cast

import numpy as np

from ... import ops
from ...arrays import as_array, checked, memory_of
from ...engine.dispatch import on_tape
from ...engine.tape import Record, grad_mode
from ...engine.tensor import Tensor, TensorLike, share
from ...engine.tracer import Fetch, StandIn, StepTracer, tracing, users_line
from ...errors import TraceError
from ...names import Names
from ...ops import BUILTIN, Primitive
from ...ops.inplace import COPY, Update
from ...ops.primitive import Attributes, Operand
from ...types import Array
from ..ir.interpreter import Interpreter, results_of
from ..ir.live_numbers import LiveNumber, NumberLog, fixed, plain
from ..ir.program import Input, Operation, Program, Value
from .guards import Look


class Trace(StepTracer):
    """A Trace notes the operations that a step applies.

    arguments: the Tensors that the step is given, with their names.
    """

    runs_again = True

    def __init__(self, arguments: Sequence[tuple[str, Tensor]] = ()) -> None:
        self.rule: tuple[Primitive, int | None] | None = None
        self.guards: list[tuple[Look, object]] = []
        self.numbers = NumberLog()
        # The expressions, with their objects, that the live numbers begin with.
        self.reads_numbers: list[tuple[str, tuple[object, ...]]] = []
        self.operations: list[Operation] = []
        self.applied: set[Operation] = set()  # operations that an eager call applies, too
        self.owners: dict[Value, Tensor] = {}  # the Tensor that has the array of each state
        self._sources: dict[Fetch, Value] = {}  # the states that `source` has made
        self._values: dict[int, Value] = {}  # the Values of arrays from outside, by identity
        self._kept_alive: list[Array] = []  # the arrays, kept alive so that identities stay unique
        # Each constant, with the checksum that its array had at the first use.
        self._checksums: list[tuple[Value, int]] = []
        self._views: dict[Value, Operation] = {}  # the operation that made each view
        self._stand_ins: dict[Value, Array] = {}  # arrays that lie in memory as eager ones do
        self._replaced: dict[Value, Value] = {}  # what overwritten results have become
        self._stale: set[Value] = set()  # views whose memory has changed since they were made
        self._tensor_names: dict[Tensor, str] = {}  # of the user's Tensors
        self._array_names: dict[int, str] = {}  # of their arrays, by identity
        self._fresh_name = Names().fresh_name
        self._gradients: dict[Tensor, Tensor | None] = {}  # by leaf, its .grad before the step
        self._undo: list[Callable[[], object]] = []
        # Callbacks: for each Module that is called; whether an array existed before the step.
        self.note_module: Callable[[Any], None] = lambda module: None
        self.is_outside: Callable[[Array], bool] = lambda array: False
        self.arguments: list[Value] = []
        self.given = [x for _, x in arguments]
        for name, x in arguments:
            value: StandIn = Value(self._fresh_name(name), x._data, "argument", keep=False)
            self.arguments.append(value)
            x._data = value

    # --- what the engine calls -----------------------------------------------------------------

    def data(self, x: Tensor) -> Value:
        """Return the Value that stands for the array of x."""
        stored: StandIn = x._data
        value = stored if isinstance(stored, Value) else self._captured(x, stored)
        while value in self._replaced:
            value = self._replaced[value]
        return self._again(value) if value in self._stale else value

    def apply(
        self, primitive: Primitive, inputs: Sequence[Operand], attributes: Attributes
    ) -> Operand:
        """Note the primitive, and return Tensors with Values for its results."""
        given = tuple([self.lift(x, primitive.name) for x in inputs])
        values = [self._value(x) for x in given]
        if not any(type(v) is Value for v in values):
            with tracing(None):
                return primitive(*fixed(inputs), **fixed(attributes))  # all inputs are numbers
        values, attributes = _live(primitive, values, attributes)
        pairs = zip(given, values, strict=True)
        given = tuple([v if type(x) is LiveNumber else x for x, v in pairs])
        whole = self._noted(primitive, values, attributes)
        self.applied.add(self.operations[-1])
        wrt = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x._requires_grad]
        if primitive.partial:
            wrt = [i for i in wrt if primitive.rules[i] is not None]
        record = None
        if wrt and primitive.differentiable and grad_mode.get():
            record = Record(primitive, given, values, attributes, whole, wrt)
        outputs, residuals = primitive.unpack(whole)
        results = on_tape(outputs, record)
        if primitive.is_view and whole in self._views and results[0] is not None:
            share(results[0], given[0])
        return primitive.pack(results, residuals)

    def update(self, update: Update, *inputs: Operand) -> None:
        """Note an update in place, which only compiled calls will run."""
        given = [self._value(x) for x in inputs]
        given = [x if i in update.numbers else fixed(x) for i, x in enumerate(given)]
        for i in update.changes:
            target = given[i]
            if update is COPY and target.origin == "result" and target not in self._views:
                self._overwrite(target, given[1])
                return
            outside = target.origin == "constant" and self.is_outside(target.array)
            if target.origin != "state" and not outside:
                what = f"a view of {target.base!r}" if target.base else "what the step has made"
                what = "an argument of the step" if target.origin == "argument" else what
                file, line = users_line()
                raise TraceError(
                    f"compile: {update.name}, in {file}, line {line}, would change in place "
                    f"{what}, of shape {target.shape}; make a new Tensor, as y = y + x does, or "
                    "change a whole one that is there before the step"
                )
            x = inputs[i]
            if isinstance(x, Tensor):
                owner = x if x._base is None else x._base
                self._undo.append(partial(setattr, owner, "_changed", owner._changed))
            self._make_stale(target)
        self.operations.append(Operation(update, given, {}, []))

    def source(self, fetch: Fetch, name: str, owner: Tensor | None = None) -> StandIn:
        """Return the Value of a state that `fetch` looks up in each call.

        owner: the Tensor that the state belongs to; its name becomes the first part of the state's.
        """
        if fetch not in self._sources:
            array = fetch()
            known = self._values.get(id(array))
            if known is not None and known.fetch is None:
                return known
            name = name if owner is None else f"{self._value(owner).name}.{name}"
            value = self._sources[fetch] = Value(self._fresh_name(name), array, "state", fetch)
            # Two places that hold one array now may hold two later, so each has a Value of its own.
            if known is None:
                self._enter(array, value)
        return self._sources[fetch]

    def has_source(self, fetch: Fetch) -> bool:
        """Return whether the step has asked for this state before."""
        return fetch in self._sources

    def guard(self, look: Look) -> None:
        """Make the trace valid only while `look` returns what it returns now."""
        if all(look != known for known, _ in self.guards):
            self.guards.append((look, look()))

    def name_tensor(self, name: str, x: Tensor) -> None:
        """Give a name to a Tensor that the step may meet."""
        self._tensor_names.setdefault(x, name)
        self._array_names.setdefault(id(x._data), name)

    def undo(self, action: Callable[[], object]) -> None:
        """Keep an action that undoes a change; `take_back` runs it."""
        self._undo.append(action)

    def cleared(self, leaf: Tensor) -> None:
        """Keep the gradient of a leaf, which is about to be overwritten."""
        self._gradients.setdefault(leaf, leaf._grad)

    def reads_gradient(self, leaf: Tensor) -> None:
        """Make a state for the gradient of a leaf, which is about to be read or added to."""
        if leaf in self._gradients:
            return
        gradient = leaf._grad
        self._gradients[leaf] = gradient
        self.guard(lambda: leaf._grad is None)
        if gradient is not None:
            self.source(partial(attrgetter("_grad._data"), leaf), "grad", leaf)

    def name_start(self, root: Tensor, start: Tensor) -> None:
        """Name the cotangent that a backward pass begins with after its result: dy for y."""
        if isinstance(root._data, Value):
            self._array_names.setdefault(id(start._data), f"d{root._data.label}")

    def name_cotangent(self, record: Record, g: Operand, i: int, gx: Tensor) -> None:
        """Name gx, which the rules of a record have made for input i, after the input: dx for x."""
        primitive, value = record.primitive, cast(StandIn, gx._data)
        for operation in reversed(self.operations):  # those of the rules are the last ones
            if gx is g or operation.rule is None or operation.rule[0] is not primitive:
                return
            if any(value is v for v in operation.outputs):
                value.label = f"d{primitive.operands(len(record.inputs))[i]}"
                value.name = self._fresh_name(value.label)
                return

    def lift(self, x: Operand, name: str) -> Operand:
        """Return an input of the primitive `name` as a Tensor, a number or None."""
        if isinstance(x, Tensor) or x is None or type(x) in (float, int, bool):
            return x
        if type(x) is LiveNumber:
            return x.item() if x.log is self.numbers else plain(x)
        if isinstance(x, Value):  # a residual
            return _tensor(x)
        if isinstance(x, np.generic):
            return checked(np.asarray(x), name).item()
        if isinstance(x, (float, int)):
            return float(x) if isinstance(x, float) else int(x)
        return self.tensor(x, name)

    def tensor(self, x: TensorLike, name: str) -> Tensor:
        """Return a Tensor for an array, list or number, as a constant of the program."""
        x = fixed(x)
        array = x if isinstance(x, np.ndarray) else as_array(x, name)
        return _tensor(self._constant(array, name))

    def value_of(self, x: Tensor) -> Value | None:
        """Return the Value of a Tensor, or None for one that the step has not met."""
        stored = x._data
        return stored if isinstance(stored, Value) else self._values.get(id(stored))

    def has_met(self, array: Array) -> bool:
        """Return whether an operation has read this array, or other memory of the same owner."""
        return any(memory_of(array) is memory_of(other) for other in self._kept_alive)

    def existed_before(self, state: Value) -> bool:
        """Return whether a state existed before the step, as one without a Tensor always does."""
        owner = self.owners.get(state)
        return owner is None or owner in self._tensor_names

    def is_from_outside(self, x: Tensor) -> bool:
        """Return whether a Tensor is an argument, or was there before the step."""
        return not isinstance(x._data, Value) or any(x is given for given in self.given)

    def argument_like(self, x: Tensor, name: str) -> Value:
        """Return a new argument in the shape and dtype of x, for a later program."""
        array = np.broadcast_to(np.zeros((), x.dtype), x.shape)
        return Value(self._fresh_name(name), array, "argument", keep=False)

    # --- the end of the trace ------------------------------------------------------------------

    def program(self, results: Sequence[Tensor]) -> Program:
        """Return the program of the step; results: the Tensors that the step returns.

        Errors: TraceError if the step sets `.grad` of an argument, or changes a constant.
        """
        for leaf in self._gradients:
            if any(leaf is x for x in self.given) and leaf._grad is not None:
                raise TraceError(
                    "compile: backward reaches an argument of the step, whose .grad the caller "
                    "would not see; return mg.grad(loss, [argument]) instead"
                )
        for value, checksum in self._checksums:
            if _checksum(value.array) != checksum:
                raise TraceError(
                    f"compile: the step changes an array of NumPy, of shape {value.shape}, that it "
                    "has used before; use a new array, or .copy() before the change"
                )
        grads = [  # without leaves that the step has made, which no caller sees
            (leaf, None if leaf._grad is None else self._value(leaf._grad))
            for leaf in self._gradients
            if not isinstance(leaf._data, Value)
        ]
        returned = [self._value(x) for x in results]
        program = Program(self.arguments, self.operations, returned, grads)
        program.check()
        return program

    def give_elements(self, tensors: Iterable[Tensor]) -> None:
        """Compute the elements of those Tensors that the step has made and put outside itself.

        A step may put a Tensor outside itself if the Tensor is the same in each call.
        """
        left = [x for x in tensors if isinstance(x._data, Value)]
        if left:
            interpreter = Interpreter({})
            for operation in self.operations:
                if all(map(interpreter.knows, operation.inputs)) and not operation.changes:
                    interpreter.run(operation)
            for x in left:
                x._data = interpreter.array(x._data)

    def take_back(self) -> None:
        """Undo the changes that have an action, the last one first, and restore each `.grad`."""
        for action in reversed(self._undo):
            action()
        for leaf, gradient in self._gradients.items():
            leaf._grad = gradient
        self.is_outside = lambda array: False
        self.note_module = lambda module: None  # the old function refers to the captures

    # --- Values --------------------------------------------------------------------------------

    def _value(self, x: Operand) -> Operand:
        """Return the Value of a Tensor or array, and a number or None as it is."""
        if isinstance(x, Tensor):
            return self.data(x)
        if isinstance(x, np.ndarray):
            return self._constant(x, "update")
        return x

    def _captured(self, x: Tensor, array: Array) -> Value:
        """Return the Value of a Tensor from outside the step, a state that is the user's."""
        known = self._values.get(id(array))
        if known is not None:
            owner = self.owners.get(known)
            if owner is not None and owner is not x:  # the two Tensors have one array
                self.guard(lambda: (x._data is owner._data, x._requires_grad))
            return known
        name = self._tensor_names.get(x) or self._array_names.get(id(array)) or "tensor"
        value = Value(self._fresh_name(name), array, "state", partial(attrgetter("_data"), x))
        self.owners[value] = x
        return self._enter(array, value)

    def _constant(self, array: Array, name: str) -> Value:
        """Return the Value of a NumPy array that the step uses without a Tensor."""
        known = self._values.get(id(array))
        if known is not None:
            return known
        checked(array[:0] if array.ndim else array, name)
        name = self._array_names.get(id(array), "constant")
        value = Value(self._fresh_name(name), array, "constant")
        self._checksums.append((value, _checksum(array)))
        return self._enter(array, value)

    def _enter(self, array: Array, value: Value) -> Value:
        self._values[id(array)] = value
        self._kept_alive.append(array)
        return value

    def _noted(
        self, primitive: Primitive, values: Sequence[Input], attributes: Attributes
    ) -> Operand:
        """Note an operation, and return its Values packed as its forward packs results."""
        layout = primitive.is_view and all(not isinstance(v, Value) for v in values[1:])
        own = BUILTIN.get(primitive.name) is not primitive
        given = [
            Tensor(self._stand_in(v, layout, own)) if isinstance(v, Value) else plain(v)
            for v in values
        ]
        # Primitives that a forward applies are not part of the step.
        with tracing(None), np.errstate(all="ignore"):
            found = primitive(*given, **{k: plain(x) for k, x in attributes.items()})
        made: dict[int, Value] = {}  # by the identity of the array: a residual may be an output

        def value(x: Operand, label: str = primitive.name) -> Value | None:
            array = x._data if isinstance(x, Tensor) else x
            if array is not None and id(array) not in made:
                made[id(array)] = v = Value(label, array, "result", keep=False)
                v.name = self._fresh_name(label)
            return made.get(id(array))

        results, residuals = primitive.unpack(found)
        results = list(map(value, results))
        if isinstance(residuals, tuple):
            named = zip(residuals, primitive.residuals, strict=True)
            residuals = tuple([value(x, label) for x, label in named])
        else:
            residuals = value(residuals, *primitive.residuals)
        whole = primitive.pack(results, residuals)
        outputs = results_of(primitive, whole)
        outputs = [None if v in outputs[:i] else v for i, v in enumerate(outputs)]
        operation = Operation(primitive, values, attributes, outputs, self.rule)
        self.operations.append(operation)
        if layout and np.may_share_memory(found._data, given[0]._data):
            whole.base = values[0]
            self._views[whole], self._stand_ins[whole] = operation, found._data
        return whole

    def _stand_in(self, v: Value, layout: bool, own: bool = False) -> Array:
        """Return an array of v's shape and dtype: the array of a constant, or else zeros.

        layout: whether the array must have the strides that v has in an eager step; its elements
            are then arbitrary. own: whether it is for a primitive of the user's, whose forward may
            need other floats than zeros: these are ones, and unit matrices.
        """
        if v.origin == "constant":
            array: Array = v.array
            return array
        if not layout:
            array = np.zeros(v.shape, v.dtype)
            if own and v.dtype.kind == "f":
                array[...] = np.eye(v.shape[-2], v.shape[-1]) if v.ndim > 1 else 1.0
            return array
        if v not in self._stand_ins:
            self._stand_ins[v] = np.empty(v.shape, v.dtype) if v.array is None else v.array
        return self._stand_ins[v]

    # --- changes in place ----------------------------------------------------------------------

    def _overwrite(self, target: Value, source: Input) -> None:
        """Replace the result `target` by the source, broadcast and cast, from now on."""
        like = partial(np.zeros, target.shape, target.dtype)
        if isinstance(source, Value):
            np.copyto(like(), np.zeros(source.shape, source.dtype), casting="same_kind")
        else:
            source = self._constant(np.full(target.shape, source, target.dtype), "copy_")
        source = self._noted(ops.TABLE["astype"], [source], {"dtype": target.dtype})
        if source.shape != target.shape:
            spread = ops.TABLE["broadcast_to"]
            lost = len(source.shape) - len(target.shape)  # leading dimensions of size 1
            if lost > 0:
                reshape = ops.TABLE["reshape"]
                source = self._noted(reshape, [source], {"shape": source.shape[lost:]})
            source = self._noted(spread, [source], {"shape": target.shape})
            source = self._noted(ops.TABLE["astype"], [source], {"dtype": target.dtype})
        self._replaced[target] = source
        self._make_stale(target)

    def _make_stale(self, changed: Value) -> None:
        """Mark the views of a Value stale, since its memory has changed."""
        stale = {changed}
        for v, operation in self._views.items():
            if operation.inputs[0] in stale:
                stale.add(v)
        self._stale |= stale - {changed}

    def _again(self, v: Value) -> Value:
        """Note again the operation that made a stale view, and return the new view."""
        operation = self._views[v]
        base = operation.inputs[0]
        while base in self._replaced:
            base = self._replaced[base]
        base = self._again(base) if base in self._stale else base
        rule, self.rule = self.rule, operation.rule
        assert isinstance(operation.what, Primitive)
        fresh: Value = self._noted(operation.what, [base], operation.attributes)
        self._replaced[v] = fresh
        self.rule = rule
        self._stale.discard(v)
        return fresh


def _live(
    primitive: Primitive, values: Sequence[Input], attributes: Attributes
) -> tuple[list[Input], Attributes]:
    """Return inputs and attributes with live numbers only where generated code can read them.

    Loops read them as operands, in floats, since no integer dtype holds every number. Attributes of
    other primitives may decide more than elements, unless a decomposition computes with them.
    """
    own = BUILTIN.get(primitive.name) is not primitive
    scalar = None if own else primitive.scalar
    loops, raw = scalar is not None, () if scalar is None else scalar.raw
    reads = loops or (primitive.decompose is not None and not own)
    floats = all(
        v.dtype.kind == "f" for i, v in enumerate(values) if type(v) is Value and i not in raw
    )
    return (
        [v if loops and (floats or isinstance(v, float)) else fixed(v) for v in values],
        {k: x if reads and isinstance(x, float) else fixed(x) for k, x in attributes.items()},
    )


def _tensor(value: StandIn) -> Tensor:
    """Return a Tensor with a Value in place of its array."""
    return Tensor(value)


def _checksum(array: Array) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
