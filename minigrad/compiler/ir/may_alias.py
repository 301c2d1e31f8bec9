"""Passes ask which Values may share memory; they must not move a read across a change of it.

Later, codegen/views.py decides which results are views in generated code. Not all of these Values
are: a view that loops cannot read becomes a copy.
"""

from collections.abc import Sequence

from .program import Operation, Value


class MayAlias:
    """MayAlias knows which Values may share memory, and whose memory updates change."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._root: dict[Value, Value] = {}
        for operation in operations:
            source = operation.inputs[0] if operation.inputs else None
            if getattr(operation.what, "is_view", False) and isinstance(source, Value):
                self._root |= dict.fromkeys(operation.makes, self.root(source))
        self._changed = {self.root(v) for op in operations for v in op.changes}

    def root(self, v: Value) -> Value:
        """Return the Value whose memory v may share; for a Value that is not a view, v itself."""
        return self._root.get(v, v)

    def changes(self, *values: Value) -> bool:
        """Return whether an update changes the memory of one of these Values."""
        return any(self.root(v) in self._changed for v in values)
