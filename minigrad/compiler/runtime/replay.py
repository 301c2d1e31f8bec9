"""A replay runs a traced function again, eagerly, so that the eager rules differentiate it."""

from collections.abc import Sequence

from ... import ops
from ...engine.backward import grad, node_of
from ...engine.tape import Record, enable_grad
from ...engine.tensor import Tensor
from ...engine.tracer import tracing
from ...errors import GradError
from ...ops import random
from ...ops.inplace import Update
from ...ops.primitive import Operand
from ...types import Array
from ..ir.interpreter import Interpreter, results_of
from ..ir.may_alias import MayAlias
from ..ir.program import Operation, Program, Value
from ..tracing.derivative import Derivative


class Replay:
    """A Replay has the operations that make the outputs of a Derivative again, without updates.

    states: the states that these operations read.
    """

    def __init__(self, derivative: Derivative, program: Program) -> None:
        self._derivative, self._arguments = derivative, program.arguments
        record_of: dict[Value, Record] = {}
        for record in derivative.records:
            outputs, _ = record.primitive.unpack(record.y)
            record_of |= {v: record for v in outputs if v is not None}
        self._steps: list[tuple[Operation, Record | None]] = []
        live: set[Value] = set()
        for operation in reversed(program.operations):
            if isinstance(operation.what, Update):
                continue
            found = [record_of[v] for v in operation.makes if v in record_of]
            # All random numbers are drawn, since each draw advances the generator.
            if found or operation.what.random or not live.isdisjoint(operation.makes):
                self._steps.append((operation, found[0] if found else None))
                live.update(operation.reads)
        self._steps.reverse()
        self.arguments = [v for v in program.arguments if v in live]
        self.states = [v for v in live if v.origin == "state"]
        aliases = MayAlias(program.operations)
        # A Value that the function changes or that has no version, so that it may be another now.
        lost = [v for v in live if aliases.changes(v)]
        lost += [v for v in self.states if v not in derivative.owners]
        self.lost = lost[0] if lost else None
        self.draws = any(getattr(op.what, "random", False) for op in program.operations)

    @enable_grad
    def gradients(
        self,
        inputs: Sequence[Tensor | None],
        arguments: Sequence[Array],
        drawn: random.State | None,
        cotangents: Sequence[Operand],
        create_graph: bool,
    ) -> list[Tensor | None]:
        """Return the gradient of each input of the Derivative, or None where there is none.

        inputs: the Tensors in their places; arguments: the arrays that the call got; drawn: the
        state of the random generator before the call.

        Errors: GradError if the function changes in place what it reads.
        """
        if self.lost is not None:
            raise GradError(
                f"backward: the compiled function changes {self.lost.name} in place, and reads "
                "it, so it cannot run again for derivatives of higher order; call the function "
                "without mg.compile"
            )
        arrays = {v: v.fetch() for v in self.states if v.fetch is not None}
        interpreter = Interpreter(arrays | dict(zip(self._arguments, arguments, strict=True)))
        given = [None if x is None else ops.reshape(x, shape=x.shape) for x in inputs]
        before = random.get_state()
        try:
            if drawn is not None:
                random.set_state(drawn)
            nodes = self._run(interpreter, given)
        finally:
            random.set_state(before)
        outputs = [nodes[node_of(x)] for x in self._derivative.results]
        pairs = [
            (y, g)
            for y, g in zip(outputs, cotangents, strict=True)
            if g is not None and y._requires_grad
        ]
        wanted = [x for x in given if x is not None and x._requires_grad]
        if not pairs or not wanted:
            return [None] * len(given)
        found = grad(
            [y for y, _ in pairs],
            wanted,
            [g for _, g in pairs],
            create_graph=create_graph,
            allow_unused=True,
        )
        gradient = dict(zip(wanted, found, strict=True))
        return [None if x is None else gradient.get(x) for x in given]

    def _run(
        self, interpreter: Interpreter, given: Sequence[Tensor | None]
    ) -> dict[int | Tensor, Tensor]:
        """Run all operations; return the new Tensors, by the node of those in the trace."""
        nodes = {
            node_of(old): new
            for old, new in zip(self._derivative.inputs, given, strict=True)
            if new is not None
        }
        for operation, record in self._steps:
            if record is None:
                with tracing(None):
                    interpreter.run(operation)
                continue
            operands: list[Operand] = []
            for x, v in zip(record.inputs, record.arrays, strict=True):
                known = nodes.get(node_of(x)) if isinstance(x, Tensor) else None
                is_array = known is None and isinstance(v, Value)
                known = Tensor(interpreter.array(v)) if is_array else known
                operands.append(v if known is None else known)
            result = record.primitive(*operands, **record.attributes)
            outputs, _ = record.primitive.unpack(result)
            nodes |= {record.number + i: y for i, y in enumerate(outputs) if y is not None}
            found = results_of(record.primitive, result)
            interpreter.note(operation, [x._data if isinstance(x, Tensor) else x for x in found])
        return nodes
