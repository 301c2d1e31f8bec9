"""A Differentiable is an executable whose results are on the tape, with a compiled backward.

Each of its calls is one record. The rule of the record runs the backward program, or, where this is
not possible, runs the function again by the eager rules: if the rule is itself recorded, or if a
rule inside cannot be traced.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...engine.tape import Record, bindings, grad_mode
from ...engine.tensor import TENSORS, Tensor
from ...engine.tracer import refuse_in_trace
from ...errors import GradError
from ...ops import random
from ...ops.primitive import MAX_OUTPUTS, Operand, Primitive
from ...types import Array
from ..ir.program import Program, Value
from ..passes.partition import partitioned
from ..tracing.captures import Captures
from ..tracing.derivative import Derivative
from ..tracing.pytree import Unflatten
from ..tracing.straight_line import StraightLine
from ..tracing.trace import Trace
from .buffers import Lent, Memory, Workspace
from .executable import MISS, Executable
from .replay import Replay


class Call:
    """A Call is what a record keeps of a call of a Differentiable, for its backward pass.

    saved: what the forward program has saved; arguments: the arrays that the call got; inputs: the
    inputs of the record; outputs: the results on the tape; drawn: the state of the random generator
    before the call, if it has drawn numbers; number: the number of the record.
    """

    __slots__ = ("arguments", "drawn", "inputs", "number", "outputs", "owner", "saved")

    def __init__(
        self,
        owner: "Differentiable",
        saved: Lent,
        arguments: Sequence[Array],
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Array],
        drawn: random.State | None,
    ) -> None:
        self.owner, self.saved, self.arguments = owner, saved, arguments
        self.inputs, self.outputs, self.drawn = inputs, outputs, drawn
        self.number = 0


class CallPrimitive(Primitive):
    """The primitive of a record whose outputs are some of the outputs of a call.

    names: the names of the inputs; read: whether the backward program reads each of them.
    first, total: the position of the record's first output, and the number of outputs, among those
        of the call, which has several records if it has more outputs than a record can have.
    """

    def __init__(
        self, name: str, names: Sequence[str], read: Sequence[bool], first: int, total: int
    ) -> None:
        count = min(MAX_OUTPUTS, total - first)
        before, after = (None,) * first, (None,) * (total - first - count)

        def vjp(g: Operand, call: Call, *_inputs: Operand, wrt: Sequence[int]) -> Operand:
            return call.owner.pull(call, (*before, *(g if count > 1 else (g,)), *after))

        super().__init__(name, _refused, vjp, outputs=count)
        self._names, self._read, self._chosen = names, read, slice(first, first + count)

    def reads(self, i: int, wrt: Sequence[int]) -> bool:
        return self._read[i]

    def reads_result(self, y: Operand, wrt: Sequence[int]) -> bool:
        return False  # results are copies of what is saved

    def operands(self, n: int) -> list[str]:
        return [*self._names]

    def unpack(self, result: Operand) -> tuple[Sequence[Operand], Operand]:
        return result.outputs[self._chosen], result

    def pack(self, outputs: Sequence[Operand], residuals: Operand) -> Operand:
        return residuals


def _refused(*arrays: Operand) -> Operand:
    raise NotImplementedError("the forward of a compiled call runs in its CompiledFunction alone")


class Differentiable(Executable):
    """A Differentiable is an Executable of a function with a Derivative.

    given: the positions of the arrays among all arguments of the user.
    """

    def __init__(
        self,
        trace: Trace,
        captures: Captures,
        program: Program,
        unflatten: Unflatten,
        title: str,
        workspace: Workspace,
        derivative: Derivative,
        given: Sequence[int],
    ) -> None:
        self._replay = Replay(derivative, program)
        self._backward: Program | None = None
        self.pullback: Pullback | None = None
        if derivative.gradients is not None:
            program, self._backward = partitioned(program, derivative)
        super().__init__(trace, captures, program, unflatten, title, workspace)
        self.memory.shown.update(map(self.emitted.views.root, self.program.results))
        self.replayable = self._replay.lost is None
        self._title, self._workspace, self._derivative = title, workspace, derivative
        self._fill_inputs(trace, given)

    def _fill_inputs(self, trace: Trace, given: Sequence[int]) -> None:
        """Choose the inputs of records: those with gradients, then others that are read again."""
        backward = self._backward
        operations = () if backward is None else backward.operations
        read = {v for op in operations for v in op.reads}
        read.update(() if backward is None else backward.results)
        again = {*self._replay.arguments, *self._replay.states}
        owners, position = self._derivative.owners, {v: i for i, v in enumerate(trace.arguments)}
        boundary = [(x, trace.value_of(x)) for x in self._derivative.inputs]
        known = {v for _, v in boundary}
        others = [v for v in (*read, *again) if v in owners or v in position]
        others = [v for v in dict.fromkeys(others) if v not in known]
        values = [*(v for _, v in boundary), *others]
        tensors = [*(x for x, _ in boundary), *(owners.get(v) for v in others)]
        # The positions of arguments among the inputs, and among all arguments of the user.
        self._places = [(i, given[position[v]]) for i, v in enumerate(values) if v in position]
        self._inputs = [None if v in position else x for x, v in zip(tensors, values, strict=True)]
        gradients = self._derivative.gradients or boundary
        self._wrt = [i for i, x in enumerate(gradients) if x is not None]
        arguments = () if backward is None else backward.arguments
        self._given = [position[v] for v in arguments if v in position]
        names = [v.name if v is not None else "input" for v in values]
        reads = [backward is None or v in read for v in values]
        total = len(self._derivative.outputs)
        self._records = [
            (
                CallPrimitive(self._title, names, reads, i, total),
                self._derivative.outputs[i : i + MAX_OUTPUTS],
            )
            for i in range(0, total, MAX_OUTPUTS)
        ]

    def run(self, arguments: list[Array]) -> Any:
        """Run one call without a record."""
        self._save()
        return super().run(arguments)

    def _write_call(self, code: StraightLine, arrays: Sequence[str], otherwise: str) -> None:
        name, lent = code.name, self.program.lent
        code.add(f"saved = {name(self._workspace.unused)}({name(lent)})")
        _write_loan(code, self.memory, lent, "saved")
        drawn = "None"
        if self._replay.draws:
            drawn = "drawn"
            code.add(f"drawn = {name(random.get_state)}()")
        made = self._write_run(code, arrays, otherwise)
        results = code.fresh(len(made))
        code.unpack(f"[{', '.join(made)}]", results)
        inputs = [name(x) for x in self._inputs]
        for i, k in self._places:
            (inputs[i],) = code.fresh(1)
            code.add(f"{inputs[i]} = given[{k}]")
            code.add(f"if not isinstance({inputs[i]}, {name(Tensor)}): {inputs[i]} = None")
        code.add(f"inputs = [{', '.join(inputs)}]")
        arguments = f"[{', '.join(arrays)}]"
        outputs = ", ".join(f"{results[k]}._data" for k in self._derivative.outputs)
        call = f"{name(self)}, saved, {arguments}, inputs, [{outputs}], {drawn}"
        code.add(f"call = {name(Call)}({call})")
        for primitive, chosen in self._records:
            given = f"{name(primitive)}, inputs, inputs, {{}}, call, {name(self._wrt)}"
            code.add(f"record = {name(Record)}({given})")
            code.add("call.number = number = record.number")
            for i, k in enumerate(chosen):
                y = results[k]
                code.add(f"{y}._record, {y}._node, {y}._requires_grad = record, number + {i}, True")
        self._write_result(code, results)

    def _save(self) -> Lent:
        """Let the next call save results in unused arrays, and return these."""
        saved = self._workspace.unused(self.program.lent)
        self.memory.lend(self.program.lent, saved)
        return saved

    def pull(self, call: Call, parts: Sequence[Operand]) -> list[Operand]:
        """Return the gradients of the record's inputs; parts: the cotangents of all outputs."""
        running = self._workspace.running
        busy = running._is_owned()  # type: ignore[attr-defined]
        if not busy and TENSORS.isdisjoint(map(type, parts)):
            with running:
                found = self.pull_compiled(call, parts)
            if found is not None:
                return found
        return self.pull_again(call, parts)

    def pull_compiled(self, call: Call, parts: Sequence[Operand]) -> list[Operand] | None:
        """Run the backward program, and return its gradients, or None if it cannot run."""
        if self.pullback is None:
            if self._backward is None:
                return None
            given = self._backward, self._given, self._derivative
            self.pullback = Pullback(*given, self._title, self._workspace)
        return self.pullback.pull(call, parts)

    def pull_again(self, call: Call, parts: Sequence[Operand]) -> list[Operand]:
        """Run the function again, and differentiate it by the eager rules."""
        recorded = not TENSORS.isdisjoint(map(type, parts))
        refuse_in_trace(
            "backward of a compiled call",
            "reaches a result that was made before the step; make it in the step",
        )
        for x in call.inputs:
            if x is not None and _was_changed(x, call.number):
                raise GradError(
                    f"backward: an input of '{self._title}', shape {x.shape}, was changed in place "
                    "after it was used; compute the result again, or change it after backward"
                )
        found = self._replay.gradients(
            call.inputs[: len(self._derivative.inputs)],
            call.arguments,
            call.drawn,
            parts,
            create_graph=recorded and bool(grad_mode.get()),
        )
        if recorded:
            return [*found]
        return [None if x is None else x._data for x in found]


class Pullback(Executable):
    """A Pullback is the executable of a backward program.

    given: the positions of those arguments of the forward that the program reads.
    """

    def __init__(
        self,
        program: Program,
        given: Sequence[int],
        derivative: Derivative,
        title: str,
        workspace: Workspace,
    ) -> None:
        title = f"{title}_backward"
        super().__init__(derivative, Captures({}), program, list, title, workspace)
        gradients = derivative.gradients or ()
        reached = [i for i, v in enumerate(gradients) if v is not None]
        self._cotangents = program.arguments[: len(derivative.outputs)]
        self._saved = [v for v in program.lent if v.origin == "saved"]
        self._made = program.lent[len(self._saved) :]
        # By input: the position of its gradient in `_made`, or of another result.
        at = {v: k for k, v in enumerate(self._made)}
        pairs = list(zip(reached, program.results, strict=True))
        self._count = len(gradients)
        self._fresh = [(i, at.pop(v)) for i, v in pairs if v in at]
        fresh = {i for i, _ in self._fresh}
        self._others = [(i, k) for k, (i, _) in enumerate(pairs) if i not in fresh]
        self._workspace, self._kind = workspace, workspace.kind(self._made)
        self._given = given
        self._returned = [program.results[k] for _, k in self._others]
        bindings[0] = object()  # the first call looks up all states, which may have changed by now

    def pull(self, call: Call, parts: Sequence[Operand]) -> list[Operand] | None:
        """Return the gradients, or None if the arrays of states do not fit any more.

        parts: the cotangents, or None for zeros.
        """
        found = self._pull(call, parts)
        if found is MISS:
            if not self.guards_hold():
                return None
            self._write_pull()
            found = self._pull(call, parts)
        return None if found is MISS else found

    def _rewrite(self) -> None:
        super()._rewrite()
        self._pull: Callable[[Call, Sequence[Operand]], Any] = _miss

    def _write_pull(self) -> None:
        """Write a function that does the work of `pull`, or returns MISS."""
        code = StraightLine("call", "parts")
        name, miss = code.name, code.name(MISS)
        code.add("try:")
        self._live.write(code, miss)
        code.add("pass", 2)
        code.add("except Exception:")
        code.add(f"return {miss}", 2)
        _write_loan(code, self.memory, self._saved, "call.saved")
        code.add(f"lent = {name(self._workspace.gradients)}({self._kind}, {name(self._made)})")
        _write_loan(code, self.memory, self._made, "lent")
        arrays = code.fresh(len(self.program.arguments))
        cotangents = arrays[: len(self._cotangents)]
        code.unpack("parts", cotangents)
        for g, v in zip(cotangents, self._cotangents, strict=True):
            fits = f"type({g}) is {name(np.ndarray)} and {g}.flags.carray"
            code.add(f"if not ({fits}): {g} = {name(_dense)}({g}, {name(v)})")
        given = arrays[len(cotangents) :]
        code.unpack(f"[{', '.join([f'call.arguments[{i}]' for i in self._given])}]", given)
        results = self._write_run(code, arrays, miss)
        found = ["None"] * self._count
        for (i, _), result in zip(self._others, results, strict=True):
            found[i] = f"{result}._data"
        fresh = code.fresh(len(self._made))
        code.unpack("lent.arrays", fresh)
        for i, k in self._fresh:
            found[i] = fresh[k]
        code.add(f"return [{', '.join(found)}]")
        self._pull = code.function()

    def _same_leaves(self) -> bool:
        """Return True, since the pass drops the gradient of a leaf that was frozen by now."""
        return True


def _write_loan(code: StraightLine, memory: Memory, values: list[Value], lent: str) -> None:
    """Write lines that use the arrays of a Lent, an expression, unless they are in use already."""
    name = code.name
    code.add(f"if {name(memory.lent)}.get({id(values)}) != {lent}.number:")
    code.add(f"{name(memory)}.lend({name(values)}, {lent})", 2)


def _dense(g: Operand, v: Value) -> Array:
    """Return a cotangent as a writable array in C order, as code expects; None means zeros."""
    if g is None:
        return np.zeros(v.shape, v.dtype)
    return np.array(g, v.dtype, order="C")


def _miss(call: Call, parts: Sequence[Operand]) -> object:
    return MISS


def _was_changed(x: Tensor, number: int) -> bool:
    owner = x if x._base is None else x._base
    return owner._changed > number
