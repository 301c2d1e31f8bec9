"""A derivation has a line for each output of a record, and one for each input of its rule.

The backward part is written while an ordinary backward pass runs: the engine applies the rules,
undoes broadcasting, casts and adds, and the derivation observes the contributions.
"""

import ast
from collections.abc import Sequence

import numpy as np

from ...engine.backward import Node, backward_pass, node_of
from ...engine.tape import Record, no_grad
from ...engine.tensor import Tensor
from ...engine.tracer import tracing
from ...nn.parameter import Parameter
from ...ops import BUILTIN
from ...ops.primitive import Operand, Primitive
from ...types import Array
from .evaluate import FUNCTIONS, Values, function_of, value_of
from .expressions import text_of
from .identifiers import Identifiers, one_line
from .scopes import scopes_of
from .steps import Line, Step, Variable
from .symbolic import SymbolicTracer
from .user_names import MemoryKey, UserNames, memory


class Derivation:
    """All variables, steps and cotangents behind a loss.

    variables: in the order in which they are met; values: the array of each name in the lines;
    functions: the primitives that minigrad does not declare, by their names in the lines;
    begin: the first line of the backward pass.
    """

    def __init__(
        self, loss: Tensor, start: Tensor, given: bool, records: Sequence[Record], names: UserNames
    ) -> None:
        """Derive the gradients of `loss`, whose tape is `records`, from its cotangent `start`.

        given: whether the user has passed that cotangent.
        """
        self._names, self._identifiers = names, Identifiers(FUNCTIONS)
        self._symbolic = SymbolicTracer(self._constant, self._function, self._identifiers)
        # By the node of a Tensor, or the memory of a constant.
        self._of: dict[Node | MemoryKey, Variable] = {}
        self._results: dict[MemoryKey, Variable] = {}  # by their memory
        self.variables: list[Variable] = []
        self.values: Values = {}
        self.functions: dict[str, Primitive] = {}
        with no_grad(), np.errstate(all="ignore"), tracing(self._symbolic):
            labels = _labels(loss, records, names)
            self.steps = [self._step(record, labels) for record in records]
            self.loss = self._of[node_of(loss)]
            self.begin = self._begin(start, given)
            self._reverse(loss, start)
        for step, scopes in zip(self.steps, scopes_of(records, names), strict=True):
            step.scopes = scopes
            step.detach()
        del self._symbolic, self._names, self._identifiers  # they hold the tape
        del self._of, self._results, self._step_of

    # --- forward -------------------------------------------------------------------------------

    def _step(self, record: Record, labels: dict[Node, str | None]) -> Step:
        """Return the step of a record, with the lines of its forward."""
        primitive = record.primitive
        operands = primitive.operands(len(record.inputs))
        inputs = [
            self._input(x, operand) if isinstance(x, Tensor) else None
            for x, operand in zip(record.inputs, operands, strict=True)
        ]
        number = self._identifiers.count + 1
        parts, expressions = self._symbolic.formula(
            primitive, record.inputs, record.attributes, number
        )
        step = Step(record, number, inputs, [], [self._part(*part, primitive) for part in parts])
        outputs, _ = primitive.unpack(record.y)
        for i, (y, expression) in enumerate(zip(outputs, expressions, strict=True)):
            if y is None:
                step.results.append(None)
                continue
            node = record.number + i
            variable = self._variable(node, labels.get(node), "result", y)
            self._results[memory(y)] = variable
            step.results.append(variable)
            step.forward.append(
                Line(variable.name, "=", expression, y, step.primitive, variable=variable)
            )
        return step

    def _input(self, x: Tensor, operand: str) -> Variable:
        """Return the variable of a record's input: a known one, or else a new one."""
        # A constant is one variable, however many Tensors share its memory.
        node = node_of(x) if x._requires_grad else memory(x._data)
        if node not in self._of:
            kind = "constant"
            if x._requires_grad:
                kind = "parameter" if isinstance(x, Parameter) else "input"
            label, result = self._names.of_leaf(x), self._results.get(memory(x._data))
            if label is None and result is not None:
                label = f"{result.name} detached"
            if label is None and kind == "constant":
                label = self._names.of_constant(x, operand)
            self._variable(node, label, kind, x._data)
        variable = self._of[node]
        self._symbolic.name(x, variable.name)
        return variable

    def _variable(
        self, node: Node | MemoryKey, label: str | None, kind: str, array: Array
    ) -> Variable:
        """Return a new variable, with an identifier made of its label."""
        name = self._identifiers.new(label)
        # Copies, also of results that are views, since their memory may be changed in place.
        value = array.copy() if kind != "result" or array.base is not None else array
        variable = Variable(name, label, kind, value)
        self.variables.append(variable)
        self.values[name] = value
        self._of[node] = variable
        self._symbolic.name(array, name)
        return variable

    def _constant(self, array: Array) -> str:
        """Return the name of an array that a rule or an attribute holds: a new constant."""
        node = memory(array)
        if node not in self._of:
            self._variable(node, self._names.of_leaf(array), "constant", array)
        return self._of[node].name

    def _function(self, primitive: Primitive) -> str:
        """Return the name of a primitive in the lines, which is its own if minigrad declares it."""
        if BUILTIN.get(primitive.name) is primitive:
            return primitive.name
        for name, known in self.functions.items():
            if known is primitive:
                return name
        name = self._identifiers.new(primitive.name)
        self.functions[name], self.values[name] = primitive, function_of(primitive)
        return name

    def _part(self, name: str, expression: ast.expr, primitive: Primitive) -> Line:
        """Return the line of a part of an expression, and compute its value."""
        value = self.values[name] = np.asarray(value_of(text_of(expression), self.values))
        return Line(name, "=", expression, value, one_line(primitive.name))

    # --- backward ------------------------------------------------------------------------------

    def _begin(self, start: Tensor, given: bool) -> Line:
        """Return the line of the loss's own cotangent: 1, or the one that the user gives."""
        array = start._data
        expression: ast.expr = ast.Call(ast.Name("ones_like"), [ast.Name(self.loss.name)], [])
        if given:
            label = self._names.of_leaf(array) or "gradient"
            expression = ast.Name(self._variable(memory(array), label, "constant", array).name)
        return Line(self.loss.cotangent, "=", expression, array, variable=self.loss)

    def _reverse(self, loss: Tensor, start: Tensor) -> None:
        """Run the backward pass, observe each contribution, and keep the totals."""
        self._step_of = {step.record.number: step for step in self.steps}
        records = [step.record for step in self.steps]
        gradients = backward_pass([(loss, start)], records, True, False, observe=self._observe)
        for step in self.steps:
            for i in step.record.wrt:
                total, variable = gradients.get(node_of(step.record.inputs[i])), step.inputs[i]
                if total is not None and variable is not None:
                    self.values[variable.cotangent] = total._data

    def _observe(self, record: Record, g: Operand, i: int, gx: Tensor) -> None:
        """Write down the contribution gx that a rule computes from g for input i of its record."""
        step = self._step_of[record.number]
        variable = step.inputs[i]
        assert variable is not None
        for output, part in zip(step.results, g if isinstance(g, tuple) else (g,), strict=True):
            if output is not None and part is not None:
                self._symbolic.name(part, output.cotangent)
                self.values[output.cotangent] = part._data
        parts, expression = self._symbolic.expression(gx, variable.cotangent, step.number)
        step.backward += [self._part(*part, record.primitive) for part in parts]
        operand = record.primitive.operands(len(record.inputs))[i]
        step.backward.append(
            Line(variable.cotangent, "+=", expression, gx._data, step.primitive, operand, variable)
        )


def _labels(loss: Tensor, records: Sequence[Record], names: UserNames) -> dict[Node, str | None]:
    """Return the user's names of the loss and of the records' inputs that are results, by node."""
    labels = {node_of(loss): names.of(loss)}
    for record in records:
        for x in record.inputs:
            if isinstance(x, Tensor) and x._record is not None:
                labels.setdefault(node_of(x), names.of(x))
    return labels
