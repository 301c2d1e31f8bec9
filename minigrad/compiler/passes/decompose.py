"""Decompositions write a primitive as others, for which generated code has loops or calls.

A primitive may declare a decomposition, so later passes and codegen see fewer forms. Products, for
example, become products of two matrices, or of two stacks of equally many matrices.
"""

from collections.abc import Sequence

from ..ir.builder import Builder
from ..ir.program import Operation, Value


def decomposed(operations: Sequence[Operation], wanted: Sequence[Value]) -> list[Operation]:
    """Return the operations after replacing each one whose primitive can be decomposed."""
    kept: list[Operation] = []
    for operation in operations:
        decompose = getattr(operation.what, "decompose", None)  # updates have none
        write = Builder(operation)
        if decompose and decompose(write, *operation.inputs, **operation.attributes):
            kept += write.operations
        else:
            kept.append(operation)
    return kept
