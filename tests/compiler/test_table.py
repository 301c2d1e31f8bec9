"""Every primitive and its derivative agree compiled and eagerly, on other data than were traced.

Generated functions run as Python here, since Numba takes long for each; test_compile.py and
test_numba.py compile theirs.
"""

import warnings
from typing import Any

import numpy as np
import pytest
from case_runs import ALL, LOOK, RANDOM, SMOOTH, close_in_dtype, split
from cases import CASES, Case

import minigrad as mg
from minigrad.compiler import compile
from minigrad.engine.tensor import Tensor

pytestmark = pytest.mark.usefixtures("as_python")


@pytest.mark.sampled(15, by="name")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "case"), ALL)
@pytest.mark.filterwarnings("ignore:compile. .* cannot be compiled")
def test_each_primitive_agrees(name: str, case: Case, dtype: Any) -> None:
    call, first, other = split(case, dtype)
    if not first or name in RANDOM | LOOK:
        pytest.skip("has no input that varies, or is random, or the case looks at one")
    compiled = compile(call)
    compiled(*first)
    for arrays in (first, other):
        expected = call(*[Tensor(a) for a in arrays])
        close_in_dtype(compiled(*arrays), expected, dtype)


@pytest.mark.sampled(15, by="name")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "case"), SMOOTH)
@pytest.mark.filterwarnings("ignore:compile. .* cannot be compiled")
def test_each_gradient_agrees(name: str, case: Case, dtype: Any) -> None:
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
                close_in_dtype(a, b, dtype)


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
