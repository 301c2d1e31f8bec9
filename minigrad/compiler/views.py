"""Which Values of a program are the memory of others."""

from collections.abc import Sequence

from .program import Operation, Value


class Views:
    """Which Values may be the memory of another, and which memory is changed in place."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._root: dict[Value, Value] = {}
        for operation in operations:
            source = operation.inputs[0] if operation.inputs else None
            if getattr(operation.what, "is_view", False) and isinstance(source, Value):
                self._root |= dict.fromkeys(operation.makes, self.root(source))
        self._changed = {self.root(v) for op in operations for v in op.changes}

    def root(self, v: Value) -> Value:
        """What v is a view of, or v itself."""
        return self._root.get(v, v)

    def changes(self, *values: Value) -> bool:
        """Whether the memory of one of these is changed, at any time."""
        return any(self.root(v) in self._changed for v in values)
