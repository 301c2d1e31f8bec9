"""Every primitive and its derivative agree compiled and eagerly, on other data than were traced.

Generated functions run as Python here, since Numba takes long for each; test_compile.py and
test_numba.py compile theirs.
"""

import copy
import warnings
from typing import Any

import numpy as np
import programs
import pytest
from cases import CASES, Case

import minigrad as mg
from minigrad import ops
from minigrad.compiler import compile
from minigrad.engine.tensor import Tensor
from minigrad.kernels import codegen_runtime

ALL = [pytest.param(n, c, id=f"{n}-{i}") for n, cs in CASES.items() for i, c in enumerate(cs)]
SMOOTH = [p for p in ALL if ops.TABLE[p.values[0]].differentiable]
RANDOM = {name for name, primitive in ops.TABLE.items() if primitive.random}
# Their cases compute a constant from the values of an input.
LOOK = {"batch_norm_grad", "label_cross_entropy_grad"}


GENERATED = programs.interpreted(vars(codegen_runtime), vars(codegen_runtime))


@pytest.fixture(autouse=True)
def as_python():
    """Run generated functions, and the kernels that they call, as Python."""
    with programs.as_python(GENERATED):
        yield


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == np.float64


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


def close(got: Any, expected: Any, dtype: Any) -> None:
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    unit = np.finfo(dtype).eps
    # Sums, whose order differs, and functions of the math library, which NumPy has its own of.
    np.testing.assert_allclose(got.data, expected.data, rtol=64 * unit, atol=32 * unit)


@pytest.mark.sampled(15, by="name")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "case"), ALL)
@pytest.mark.filterwarnings("ignore:compile. .* cannot be compiled")
def test_forward(name: str, case: Case, dtype: Any) -> None:
    call, first, other = split(case, dtype)
    if not first or name in RANDOM | LOOK:
        pytest.skip("has no input that varies, or is random, or the case looks at one")
    compiled = compile(call)
    compiled(*first)
    for arrays in (first, other):
        expected = call(*[Tensor(a) for a in arrays])
        close(compiled(*arrays), expected, dtype)


@pytest.mark.sampled(15, by="name")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "case"), SMOOTH)
@pytest.mark.filterwarnings("ignore:compile. .* cannot be compiled")
def test_gradient(name: str, case: Case, dtype: Any) -> None:
    """Gradients of a random functional agree, with respect to each input."""
    if name in LOOK:
        pytest.skip("the case looks at an input's value")
    call, first, other = split(case, dtype)

    def gradients(*inputs: Any) -> Any:
        y = call(*inputs)
        weights = random_like(y)
        return mg.grad((y * weights).sum(), inputs, allow_unused=True)

    def random_like(y: Any) -> Any:
        return np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)

    def leaves(arrays: Any) -> Any:
        return [Tensor(a.copy()).requires_grad_() for a in arrays]

    compiled = compile(gradients)
    compiled(*leaves(first))
    for arrays in (first, other):
        for a, b in zip(compiled(*leaves(arrays)), gradients(*leaves(arrays)), strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                close(a, b, dtype)


@pytest.mark.exhaustive
def test_what_is_left_to_numpy_is_known() -> None:
    """A new primitive needs an expression or a call, or else an entry here."""
    left = set()
    for name, cases in CASES.items():
        for case in cases if name not in LOOK else []:
            call, first, _ = split(case, np.float32)
            if not first:
                continue
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                compiled = compile(call)
                compiled(*first)
            said = [str(w.message) for w in caught if "cannot be compiled" in str(w.message)]
            left |= {word for s in said for word in s.split(":")[1].split(" cannot")[0].split(", ")}
            assert len(said) <= 1, name
    assert sorted({x.strip() for x in left}) == sorted(LEFT)


# By reason: what the cases meet, and what test_what_is_left of test_ops.py does besides.
LEFT = {
    "getitem",  # at an index that is one boolean, which adds a dimension of 1 or 0: nobody needs it
}
