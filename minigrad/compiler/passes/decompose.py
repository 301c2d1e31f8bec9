"""Decompositions write primitives as others that generated code has loops or calls for.

Each primitive declares its own, so that the passes and generated code behind see one form of it:
products, for instance, are of two matrices, or of two stacks of equally many matrices.
"""

from collections.abc import Sequence

from ..ir.builder import Builder
from ..ir.program import Operation, Value


def decomposed(operations: Sequence[Operation], wanted: Sequence[Value]) -> list[Operation]:
    """Return the operations, with each that can be decomposed replaced by others."""
    kept: list[Operation] = []
    for operation in operations:
        decompose = getattr(operation.what, "decompose", None)  # updates have none
        write = Builder(operation)
        if decompose and decompose(write, *operation.inputs, **operation.attributes):
            kept += write.operations
        else:
            kept.append(operation)
    return kept
