"""Which Values of a program are the memory of others."""

from collections.abc import Sequence

from .program import Operation, Value


class Views:
    """Which Values may be the memory of another, and which memory is changed in place."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._of = {
            id(v): operation.inputs[0]
            for operation in operations
            if getattr(operation.what, "is_view", False)
            for v in operation.makes
        }
        self._changed = {id(self.root(v)) for op in operations for v in op.changes}

    def root(self, v: Value) -> Value:
        """What v is a view of, or v itself."""
        while isinstance(self._of.get(id(v)), Value):
            v = self._of[id(v)]
        return v

    def changes(self, *values: Value) -> bool:
        """Whether the memory of one of these is changed, at any time."""
        return any(id(self.root(v)) in self._changed for v in values)
