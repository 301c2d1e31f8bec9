"""Dispatch runs the forward of a primitive on arrays, and records the call for the backward pass.

Every call of a primitive comes here, including the calls in rules.
"""

from collections.abc import Sequence

import numpy as np

from ..arrays import FLOAT32, FLOAT64, as_array, checked
from ..errors import ArgumentError, DtypeError, MinigradError, ShapeError
from ..ops.primitive import Attributes, Operand, Primitive, set_dispatcher
from ..types import Array
from .tape import Record, grad_mode
from .tensor import TENSORS, Tensor, share
from .tracer import tracer

ndarray = np.ndarray

# Inputs of these types are passed on unchanged. Python's numbers are weak: in NumPy they do not
# change the dtype of an array.
_WEAK = frozenset({float, int, bool, type(None)})


def dispatch(primitive: Primitive, inputs: tuple[Operand, ...], attributes: Attributes) -> Operand:
    """Run the primitive's forward, and record it if a gradient can flow and recording is on.

    If this thread or task has a tracer, the tracer does this instead. The result is a Tensor if an
    input is one, else an array, which is not recorded. A forward that raises is not recorded.
    Errors: those of the forward; NumPy's own errors become ShapeError, DtypeError or ArgumentError.
    """
    trace = tracer.get()
    if trace is not None:
        return trace.apply(primitive, inputs, attributes)
    mode = grad_mode.get()
    # A backward pass that is not recorded computes with arrays, but a signal handler that runs
    # during the pass may compute with Tensors.
    if mode is None and TENSORS.isdisjoint(map(type, inputs)):
        return primitive.forward(*inputs, **attributes)
    arrays: list[Operand] = []
    wrt: list[int] = []
    lifted = foreign = False
    for x in inputs:
        if isinstance(x, Tensor):
            lifted = True
            if x._requires_grad:
                wrt.append(len(arrays))
            arrays.append(x._data)
        else:
            arrays.append(x)
            if type(x) not in _WEAK:
                foreign = True
    if foreign and lifted:
        inputs = tuple([_constant(x, primitive.name) for x in inputs])
        arrays = [x._data if isinstance(x, Tensor) else x for x in inputs]
    try:
        y = primitive.forward(*arrays, **attributes)
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, MinigradError):
            raise
        raise refusal(primitive.name, arrays, error) from error
    if not lifted:
        return y
    if primitive.single and (type(y) is not ndarray or y.dtype is not FLOAT32):
        y = _settled(primitive, y, arrays, attributes)
    record = None
    if primitive.partial:
        wrt = [i for i in wrt if primitive.rules[i] is not None]
    if wrt and primitive.differentiable and mode:
        record = Record(primitive, inputs, arrays, attributes, y, wrt)
    if primitive.outputs > 1:
        return on_tape(y, record)
    residuals = None
    if primitive.has_residuals:
        y, residuals = y
    result = Tensor(y)
    if record is not None:
        result._record = record
        result._node = record.number
        result._requires_grad = True
    # `y.base` would not prove a view: if reshape has to copy, its result has a base, too.
    if primitive.is_view and isinstance(inputs[0], Tensor) and np.may_share_memory(y, arrays[0]):
        share(result, inputs[0])
    return (result, residuals) if primitive.has_residuals else result


set_dispatcher(dispatch)


def on_tape(arrays: Sequence[Array | None], record: Record | None) -> tuple[Tensor | None, ...]:
    """Return the outputs of a primitive as Tensors that refer to the record, if there is one."""
    results = tuple([None if a is None else Tensor(a) for a in arrays])
    if record is not None:
        for i, x in enumerate(results):
            if x is not None:
                x._record = record
                x._node = record.number + i
                x._requires_grad = True
    return results


def _constant(x: Operand, name: str) -> Operand:
    """Return an input in the form that a record holds: a Tensor, None or a Python number.

    NumPy's scalars become Python numbers, so that all numbers are weak.
    """
    if isinstance(x, Tensor) or type(x) in _WEAK:
        return x
    if isinstance(x, np.generic):
        return checked(np.asarray(x), name).item()
    if isinstance(x, (float, int)):
        return float(x) if isinstance(x, float) else int(x)
    return Tensor(as_array(x, name))


def _settled(
    primitive: Primitive, y: Operand, arrays: Sequence[Operand], attributes: Attributes
) -> Array:
    """Return the forward's result as an ndarray of the right dtype.

    If integers, Python numbers and float32 alone have given another float dtype, the forward runs
    again on float32.
    """
    array: Array = np.asarray(y)
    if array.dtype.kind == "O":  # NumPy returns objects if an operand is None
        raise refusal(primitive.name, arrays, TypeError("NumPy would make Python objects of them"))
    if not primitive.promotes or array.dtype.kind != "f" or array.dtype == FLOAT32:
        return array
    given = [a for a in arrays if isinstance(a, np.ndarray)]
    if any(a.dtype == FLOAT64 for a in given):
        return array
    floats = [a.astype(FLOAT32) if isinstance(a, np.ndarray) else a for a in arrays]
    return np.asarray(primitive.forward(*floats, **attributes)).astype(FLOAT32, copy=False)


def refusal(name: str, arrays: Sequence[Operand], error: Exception) -> MinigradError:
    """Return an error of minigrad for NumPy's error; it names the operation and its operands."""
    shapes = [np.shape(a) for a in arrays if a is not None]
    listed = " and ".join(str(s) for s in shapes)
    if isinstance(error, OverflowError):
        dtypes = " and ".join(str(getattr(a, "dtype", type(a).__name__)) for a in arrays)
        return ArgumentError(
            f"{name}: a number does not fit the dtypes, {dtypes}: {error}; use a smaller "
            "one, or .astype first"
        )
    if isinstance(error, TypeError):
        dtypes = " and ".join(str(getattr(a, "dtype", type(a).__name__)) for a in arrays)
        return DtypeError(f"{name}: not defined for {dtypes}: {error}")
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return ShapeError(
            f"{name}: shapes {listed} do not broadcast; dimensions, aligned at the last, "
            "must be equal or 1 (reshape or unsqueeze one?)"
        )
    if len({s for s in shapes if s}) < 2:
        return ArgumentError(f"{name}: {error}")
    return ShapeError(f"{name}: shapes {listed} do not fit: {error}")
