"""The derivation: each record as a line, then, in reverse, each rule as a line for its input.

It follows the walk step by step, with the same rules, sums and casts, but keeps everything.
"""

import ast
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ... import ops
from ...arrays import Array
from ...engine.backward import fitted, lifted, node_of, outputs_of
from ...engine.dispatch import tracing
from ...engine.tape import Record, no_grad
from ...engine.tensor import Tensor
from ...nn.parameter import Parameter
from ...ops.primitive import Primitive
from .evaluate import FUNCTIONS, function_of, value_of
from .expressions import text_of
from .names import Identifiers, Names, memory, plain
from .scopes import scopes_of
from .steps import Line, Step, Variable
from .symbolic import Writing


class Derivation:
    """All variables, steps and cotangents behind a loss.

    variables: in the order in which they are met; values: those of all names that lines have;
    functions: the primitives that only this tape has, by the names by which lines call them;
    begin: the line with which the reverse walk begins.
    """

    def __init__(
        self, loss: Tensor, start: Tensor, given: bool, records: Sequence[Record], names: Names
    ) -> None:
        self._names, self._identifiers = names, Identifiers(FUNCTIONS)
        self._writing = Writing(self._constant, self._function, self._identifiers)
        self._of: dict[Any, Variable] = {}  # by the node of a Tensor, or the memory of a constant
        self._made: dict[Any, Variable] = {}  # results, by their memory
        self.variables: list[Variable] = []
        self.values: dict[str, Any] = {}
        self.functions: dict[str, Primitive] = {}
        with no_grad(), np.errstate(all="ignore"), tracing(self._writing):
            labels = _labels(loss, records, names)
            self.steps = [self._step(record, labels) for record in records]
            self.loss = self._of[node_of(loss)]
            self.begin = self._begin(start, given)
            self._reverse(start)
        for step, scopes in zip(self.steps, scopes_of(records, names), strict=True):
            step.scopes = scopes
            step.keep()
        del self._writing, self._names, self._identifiers  # they hold the tape
        del self._of, self._made

    # --- forward -------------------------------------------------------------------------------

    def _step(self, record: Record, labels: dict[int, str | None]) -> Step:
        primitive = record.primitive
        operands = primitive.operands(len(record.inputs))
        inputs = [
            self._given(x, operand) if isinstance(x, Tensor) else None
            for x, operand in zip(record.inputs, operands, strict=True)
        ]
        number = self._identifiers.count + 1
        parts, expressions = self._writing.formula(
            primitive, record.inputs, record.attributes, number
        )
        step = Step(record, number, inputs, [], [self._part(*part, primitive) for part in parts])
        for i, (y, node) in enumerate(zip(_outputs(record), expressions, strict=True)):
            if y is None:
                step.places.append(None)
            else:
                node_at = record.number + i
                variable = self._variable(node_at, labels.get(node_at), "result", y)
                self._made[memory(y)] = variable
                step.places.append(variable)
                line = Line(variable.name, "=", node, y, plain(primitive.name), variable=variable)
                step.forward.append(line)
        return step

    def _given(self, x: Tensor, operand: str) -> Variable:
        # What has no cotangent is one constant, however often it was given.
        node = node_of(x) if x._requires_grad else memory(x._data)
        if node not in self._of:
            kind = "constant"
            if x._requires_grad:
                kind = "parameter" if isinstance(x, Parameter) else "input"
            label, made = self._names.of_leaf(x), self._made.get(memory(x._data))
            if label is None and made is not None:
                label = f"{made.name} detached"
            if label is None and kind == "constant":
                label = self._names.of_constant(x, operand)
            self._variable(node, label, kind, x._data)
        variable = self._of[node]
        self._writing.name(x, variable.name)
        return variable

    def _variable(self, node: Any, label: str | None, kind: str, array: Array) -> Variable:
        name = self._identifiers.new(label)
        # Copies, of results that are views as well: what is explained may be changed in place.
        value = array.copy() if kind != "result" or array.base is not None else array
        variable = Variable(name, label, kind, value)
        self.variables.append(variable)
        self.values[name] = value
        self._of[node] = variable
        self._writing.name(array, name)
        return variable

    def _constant(self, array: Array) -> str:
        """The name of an array that a rule or an attribute holds, and no Tensor of the tape."""
        node = memory(array)
        if node not in self._of:
            self._variable(node, self._names.of_leaf(array), "constant", array)
        return self._of[node].name

    def _function(self, primitive: Primitive) -> str:
        """The name by which lines call a primitive: a new one, for one that only this tape has."""
        if ops.BUILTIN.get(primitive.name) is primitive:
            return primitive.name
        for name, known in self.functions.items():
            if known is primitive:
                return name
        name = self._identifiers.new(primitive.name)
        self.functions[name], self.values[name] = primitive, function_of(primitive)
        return name

    def _part(self, name: str, node: ast.expr, primitive: Primitive) -> Line:
        value = self.values[name] = np.asarray(value_of(text_of(node), self.values))
        return Line(name, "=", node, value, plain(primitive.name))

    # --- reverse -------------------------------------------------------------------------------

    def _begin(self, start: Tensor, given: bool) -> Line:
        """The cotangent of the loss: 1, or what the user gives."""
        array = start._data
        node: ast.expr = ast.Call(ast.Name("ones_like"), [ast.Name(self.loss.name)], [])
        if given:
            label = self._names.of_leaf(array) or "gradient"
            node = ast.Name(self._variable(memory(array), label, "constant", array).name)
        return Line(self.loss.cotangent, "=", node, array, variable=self.loss)

    def _reverse(self, start: Tensor) -> None:
        """Every rule's line, from the last record to the first, while cotangents add up."""
        self.values[self.loss.cotangent] = start._data
        for step in reversed(self.steps):
            g = self._cotangents(step)
            if g is not None:
                self._rules(step, g)

    def _cotangents(self, step: Step) -> Any:
        """Those of a step's outputs, as its rules take them; None where there are none."""
        found = []
        for i in range(step.record.primitive.outputs):
            variable = self._of.get(step.record.number + i)
            array = None if variable is None else self.values.get(variable.cotangent)
            g = None if array is None else Tensor(array)
            if g is not None and variable is not None:
                self._writing.name(g, variable.cotangent)
            found.append(g)
        if all(g is None for g in found):
            return None
        return found[0] if len(found) == 1 else tuple(found)

    def _rules(self, step: Step, g: Any) -> None:
        record = step.record
        primitive = record.primitive
        operands = primitive.operands(len(record.inputs))
        for i, gx in cotangents(record, g, record.needs, tensors=True):
            variable = step.inputs[i]
            assert variable is not None
            before = self.values.get(variable.cotangent)
            if gx.shape != variable.value.shape:
                gx = fitted(gx, variable.value.shape, before is None)
            if gx.dtype != variable.value.dtype:
                gx = ops.astype(gx, dtype=variable.value.dtype)
            parts, node = self._writing.expression(gx, variable.cotangent, step.number)
            step.backward += [self._part(*part, primitive) for part in parts]
            value = gx._data
            # An array also where NumPy makes a number of a sum, which would be weak.
            total = value if before is None else np.asarray(before + value)
            self.values[variable.cotangent] = total
            step.backward.append(
                Line(variable.cotangent, "+=", node, value, step.primitive, operands[i], variable)
            )


def cotangents(
    record: Record, g: Any, needs: Sequence[int], tensors: bool = False
) -> Iterator[tuple[int, Any]]:
    """Yield what a record's rules make of g for the inputs at positions `needs`, before it is
    fitted to their shapes; an input for which a rule returns None is left out. tensors: whether to
    use Tensors rather than arrays."""
    primitive, operands, y = record.primitive, record.arrays, record.y
    if tensors:
        operands, y = record.inputs, outputs_of(record)
    if primitive.joint is not None:
        together = primitive.joint(g, y, *operands, needs=needs, **record.attributes)
    for i in needs:
        if primitive.joint is not None:
            gx = together[i]
        else:
            gx = primitive.rules[i](g, y, *operands, **record.attributes)
        gx = lifted(gx, primitive) if tensors else gx
        if gx is not None:
            yield i, gx


def _outputs(record: Record) -> Sequence[Array | None]:
    """The arrays that a record's primitive returned, without what it saved."""
    if record.primitive.outputs > 1:
        return record.y  # type: ignore[no-any-return]
    return (record.y[0],) if record.primitive.saves else (record.y,)


def _labels(loss: Tensor, records: Sequence[Record], names: Names) -> dict[int, str | None]:
    """The user's names of results, by number: of the loss, and of what other records took."""
    labels = {node_of(loss): names.of(loss)}
    for record in records:
        for x in record.inputs:
            if isinstance(x, Tensor) and x._record is not None:
                labels.setdefault(node_of(x), names.of(x))
    return labels
