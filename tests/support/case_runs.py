"""Ways to run the cases of primitives: as Tensors, split into arrays, and compared by dtype."""

import copy
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case

import minigrad as mg
from minigrad import ops
from minigrad.engine.tensor import Tensor

ALL = [pytest.param(n, c, id=f"{n}-{i}") for n, cs in CASES.items() for i, c in enumerate(cs)]
SMOOTH = [p for p in ALL if ops.TABLE[p.values[0]].differentiable]
CONSTANT = [p for p in ALL if not ops.TABLE[p.values[0]].differentiable]
RANDOM = {name for name, primitive in ops.TABLE.items() if primitive.random}
# Their cases compute a constant from the values of an input.
LOOK = {"batch_norm_grad", "label_cross_entropy_grad"}


def is_float(x: Any) -> bool:
    """Return whether a case's input is differentiated."""
    return isinstance(x, np.ndarray) and x.dtype == np.float64


def tensors(case: Case, dtype: Any = np.float64) -> list[Any]:
    """Return copies of the inputs, with Tensors that require grad in place of float64 arrays.

    Arrays of other dtypes stay arrays beside those, and become Tensors if there are none.
    """
    wrap = copy.deepcopy if any(map(is_float, case.inputs)) else mg.tensor
    return [
        Tensor(x.astype(dtype)).requires_grad_()
        if is_float(x)
        else wrap(x)
        if isinstance(x, np.ndarray)
        else x
        for x in case.inputs
    ]


def run(case: Case, inputs: list[Any]) -> Tensor:
    """Return the case's result for these inputs, with copies of its attributes."""
    return case.call(*inputs, **copy.deepcopy(case.attributes))


def split(case: Case, dtype: Any) -> tuple[Any, list[Any], list[Any]]:
    """Return a function of the arrays to differentiate, these arrays, and others like them."""
    at = [i for i, x in enumerate(case.inputs) if is_float(x)]
    first = [case.inputs[i].astype(dtype) for i in at]
    # The same numbers in another order lie as far away from kinks and poles.
    other = [a.ravel()[::-1].reshape(a.shape).copy() for a in first]

    def call(*arrays: Any) -> Any:
        inputs = [copy.deepcopy(x) for x in case.inputs]
        for i, x in zip(at, arrays, strict=True):
            inputs[i] = x
        return case.call(*inputs, **copy.deepcopy(case.attributes))

    return call, first, other


def close_in_dtype(got: Any, expected: Any, dtype: Any) -> None:
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    unit = np.finfo(dtype).eps
    # Sums, whose order differs, and functions of the math library, which NumPy has its own of.
    np.testing.assert_allclose(got.data, expected.data, rtol=64 * unit, atol=32 * unit)
