"""A Derivative is the backward pass of a traced function whose results are to be on the tape."""

from collections.abc import Sequence

from ...engine.backward import backward_pass, check_tape, node_of
from ...engine.tape import Record, grad_mode, tape
from ...engine.tensor import Tensor
from ...engine.tracer import StandIn
from ...errors import GradError
from ..ir.program import Operation, Value
from .trace import Trace


class Derivative:
    """A Derivative has the operations of a backward pass, which is traced after the function.

    outputs: the positions of the results that are on the tape; results: these results.
    records: the records that have made them, in order.
    inputs: the Tensors from outside that gradients flow to.
    cotangents: an argument of the backward pass for each output.
    gradients: the gradient of each input, or None; the list is None if an error has stopped the
        pass, such as that of a rule that cannot be traced.
    """

    def __init__(
        self, trace: Trace, results: Sequence[Tensor], outputs: list[int], records: list[Record]
    ) -> None:
        self.outputs, self.results = outputs, [results[i] for i in outputs]
        self.records, self.owners = records, trace.owners
        self.numbers, self.reads_numbers = trace.numbers, trace.reads_numbers
        self.applied: set[Operation] = set()
        read = [record.inputs[i] for record in records for i in record.wrt]
        self.inputs = [x for x in dict.fromkeys((*read, *self.results)) if trace.is_from_outside(x)]
        self.cotangents = [trace.argument_like(x, "cotangent") for x in self.results]
        given: list[StandIn] = self.cotangents
        starts = list(zip(self.results, map(Tensor, given), strict=True))
        self.gradients: list[Value | None] | None = None
        first = len(trace.operations)
        try:
            found = backward_pass(starts, records, True, False)
            reached = [found.get(node_of(x)) for x in self.inputs]
            self.gradients = [None if g is None else trace.data(g) for g in reached]
        except Exception:  # the rules are the user's, too; a call of backward raises it again
            pass
        self.operations: list[Operation] = trace.operations[first:]
        del trace.operations[first:]


def derivative_of(trace: Trace, results: Sequence[Tensor], start: int) -> Derivative | None:
    """Return the Derivative of the results, or None if no gradient flows from any of them.

    start: the time before the function ran. A result is left out if the function itself has run a
    backward pass for it, or has changed what its derivative reads.
    """
    if not grad_mode.get():
        return None
    outputs: list[int] = []
    records: dict[int, Record] = {}
    for i, x in enumerate(results):
        made = _records(x, start) if x._requires_grad else None
        if made is not None:
            outputs.append(i)
            records |= {record.number: record for record in made}
    if not outputs:
        return None
    found = Derivative(trace, results, outputs, [records[number] for number in sorted(records)])
    return found if found.inputs else None


def _records(x: Tensor, start: int) -> list[Record] | None:
    """Return the records of the function that have made x, or None if they cannot be used."""
    records = [record for record in tape([x]) if record.number > start]
    try:
        check_tape(records)
    except GradError:  # freed, or changed in place
        return None
    return records
