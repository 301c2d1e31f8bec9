"""In generated code, some results are views of other arrays; Views decides which.

ir/may_alias.py tells passes which Values may share memory, before this is decided.
"""

from ... import ops
from ...ops.index_steps import is_one_step
from ..ir.program import Operation, Program, Value
from .calls import runs_in_numpy
from .fusion import iteration_shape
from .indexing import VIEWS


class Views:
    """Views knows the results that are views; `of` has the operation that makes each view."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._wanted = set(program.wanted)
        self._readers: dict[Value, list[Operation]] = {}
        for operation in program.operations:
            for v in operation.reads:
                self._readers.setdefault(v, []).append(operation)
        self.of: dict[Value, Operation] = {}
        self._root: dict[Value, Value] = {}
        for operation in program.operations:
            if self._is_view(operation):
                self.of[operation.makes[0]] = operation
                self._root[operation.makes[0]] = self.root(operation.inputs[0])

    def root(self, v: Value) -> Value:
        """Return the Value whose memory v has; for a Value that is not a view, v itself."""
        return self._root.get(v, v)

    def whole(self, v: Value) -> bool:
        """Return whether v is a whole array, whose address is in the table `places`."""
        while v in self.of and self.of[v].what is ops.TABLE["reshape"]:
            v = self.of[v].inputs[0]
        return v not in self.of and v.origin != "argument"

    def _is_view(self, op: Operation) -> bool:
        if op.name not in VIEWS or not op.makes or op.makes[0] in self._program.lent:
            return False
        (source, *arrays), (target,), index = op.inputs, op.makes, op.attributes.get("index")
        if arrays or not target.shape or (index is not None and not is_one_step(index, arrays)):
            return False  # an index with arrays makes a copy, and a single element is no array
        row = index is not None and len(index) == 1 and type(index[0]) is int
        readers = self._readers.get(target, [])
        if any(self.root(v) is self.root(source) for r in readers for v in r.changes):
            return False  # loops would read elements that they have overwritten
        if op.what is ops.TABLE["reshape"] or row:
            return self.root(source).origin != "argument" or self._inside(target)
        is_transpose = op.attributes.get("axes") == (1, 0)
        # Loops can read arrays in any order, and products can read a transpose.
        readable = all(
            iteration_shape(r) is not None or (is_transpose and _is_product(r)) for r in readers
        )
        return readable and self._inside(target)

    def _inside(self, v: Value) -> bool:
        """Return whether only generated code reads v."""
        readers = self._readers.get(v, [])
        return v not in self._wanted and not any(map(runs_in_numpy, readers))


def _is_product(operation: Operation) -> bool:
    return operation.what is ops.matmul and len(operation.makes[0].shape) == 2
