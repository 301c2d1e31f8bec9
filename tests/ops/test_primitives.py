"""Every primitive agrees with its cases: values, derivatives, dtypes and memory.

A primitive without a case, or a case without a primitive, fails here.
"""

import copy
import inspect
import re
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case

import minigrad as mg
from minigrad import ops
from minigrad.engine.backward import outputs_of
from minigrad.engine.tensor import Tensor

ALL = [pytest.param(n, c, id=f"{n}-{i}") for n, cs in CASES.items() for i, c in enumerate(cs)]
SMOOTH = [p for p in ALL if ops.TABLE[p.values[0]].differentiable]
CONSTANT = [p for p in ALL if not ops.TABLE[p.values[0]].differentiable]


def is_float(x: Any) -> bool:
    """Whether a case's input is one to differentiate."""
    return isinstance(x, np.ndarray) and x.dtype == np.float64


def tensors(case: Case, dtype: Any = np.float64) -> list[Any]:
    """The inputs, copied, with Tensors that require grad in place of the float64 arrays.

    Arrays of other dtypes stay arrays beside those, and become Tensors where there are none.
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
    """The case's result for these inputs; the attributes are the test's own to keep."""
    return case.call(*inputs, **copy.deepcopy(case.attributes))


def test_each_primitive_has_cases_and_each_case_a_primitive() -> None:
    """The table and the cases name the same primitives."""
    assert set(CASES) == set(ops.BUILTIN)
    assert all(CASES.values())


@pytest.mark.parametrize(("name", "case"), ALL)
def test_forward_equals_the_oracle(name: str, case: Case) -> None:
    """Value, shape and dtype are the oracle's, and inputs are left as they were."""
    inputs = tensors(case)
    y = run(case, inputs)
    expected = np.asarray(case.oracle(*case.inputs, **case.attributes))
    assert y.dtype == expected.dtype
    assert y.shape == expected.shape
    np.testing.assert_allclose(y.data, expected, rtol=1e-13, atol=1e-15)
    for x, before in zip(inputs, case.inputs, strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(before))


@pytest.mark.parametrize(("name", "case"), SMOOTH)
def test_the_case_ends_in_its_primitive(name: str, case: Case) -> None:
    """A case whose last record is another primitive would leave its own untested."""
    y = run(case, tensors(case))
    assert y.requires_grad
    assert y._record.primitive is ops.TABLE[name]


@pytest.mark.parametrize(("name", "case"), CONSTANT)
def test_no_gradient_from_what_has_no_rule(name: str, case: Case) -> None:
    """Results of primitives without a rule are constants."""
    y = run(case, tensors(case))
    assert not y.requires_grad
    assert y.is_leaf


def checked_gradients(case: Case, order: int) -> bool:
    """Finite differences of the case, cubed for the second order.

    A linear primitive's gradient is constant: cubed, there is something to differentiate.
    """

    def fn(*inputs: Any) -> Any:
        y = run(case, list(inputs))
        return y * y * y if order == 2 else y

    return mg.gradcheck(fn, tensors(case), order=order)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("name", "case"), SMOOTH)
def test_gradients_equal_finite_differences(name: str, case: Case, order: int) -> None:
    """First and second derivatives with respect to every float input."""
    if not case.differences:
        pytest.skip("finite differences do not apply")
    if case.flat:
        with pytest.warns(UserWarning, match="zero within noise"):
            assert checked_gradients(case, order)
    else:
        assert checked_gradients(case, order)


def as_cotangent(g: Any, y: Tensor) -> Any:
    """g, of y, as its record's rules take it: one for each output, with None for the others."""
    n, position = y._record.primitive.outputs, y._node - y._record.number
    return g if n == 1 else tuple(g if i == position else None for i in range(n))


def cotangents(y: Tensor, g: Any, operands: list[Any]) -> list[Any]:
    """What the rules of y's record make of g, for operands (y's own array first); None for none."""
    primitive, attributes = y._record.primitive, y._record.attributes
    if primitive.vjp:
        wrt = y._record.wrt
        return list(primitive.vjp(g, *operands, wrt=wrt, **attributes))
    found = []
    for rule, x in zip(primitive.rules, y._record.inputs, strict=True):
        wanted = rule is not None and isinstance(x, Tensor) and x.requires_grad
        found.append(rule(g, *operands, **attributes) if wanted else None)
    return found


def hidden(rule: Any, operands: list[Any]) -> list[Any]:
    """The operands, but NaN in the shape and dtype of those whose parameter has an underscore."""
    parameters = list(inspect.signature(rule).parameters.values())[1:]
    result = []
    for i, x in enumerate(operands):
        unread = parameters[min(i, len(parameters) - 1)].name.startswith("_")
        if not unread or x is None:
            result.append(x)
        elif not isinstance(x, np.ndarray):  # a number, or several outputs
            result.append(float("nan"))
        else:
            result.append(np.full_like(x, np.nan if x.dtype.kind == "f" else 1))
    return result


@pytest.mark.parametrize(("name", "case"), SMOOTH)
def test_rules_read_only_what_they_say_and_run_on_arrays(name: str, case: Case) -> None:
    """A parameter with an underscore may change before backward: a rule must not see it.

    Tensors and arrays give the same, since backward runs rules on arrays unless it is recorded.
    """
    y = run(case, tensors(case))
    primitive = y._record.primitive
    g = Tensor(np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype))
    record = y._record
    g, g_array = as_cotangent(g, y), as_cotangent(g.data, y)
    expected = cotangents(y, g, [outputs_of(record), *record.inputs])
    arrays = [record.y, *(x.data if isinstance(x, Tensor) else x for x in record.inputs)]
    for i, wanted in enumerate(expected):
        if wanted is None:
            continue
        rule = primitive.vjp or primitive.rules[i]
        told = {"wrt": record.wrt} if primitive.vjp else {}
        got = rule(g_array, *hidden(rule, arrays), **told, **record.attributes)
        got = got[i] if primitive.vjp else got
        assert isinstance(wanted, Tensor)
        assert not isinstance(got, Tensor)
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted.data)


@pytest.mark.parametrize(("name", "case"), SMOOTH)
def test_cotangents_share_no_memory_with_operands(name: str, case: Case) -> None:
    """A rule returns new memory, or g, or a view of g: a gradient must not alias an operand."""
    y = run(case, tensors(case))
    record = y._record
    operands = [record.y, *(x.data if isinstance(x, Tensor) else x for x in record.inputs)]
    for cotangent in cotangents(y, as_cotangent(np.ones(y.shape, y.dtype), y), operands):
        for x in operands:
            if isinstance(x, np.ndarray) and isinstance(cotangent, np.ndarray) and x.size:
                assert not np.may_share_memory(cotangent, x)


@pytest.mark.parametrize(("name", "case"), ALL)
def test_only_views_share_memory_with_inputs(name: str, case: Case) -> None:
    """What is not declared a view has memory of its own; inputs survive a change of it."""
    inputs = tensors(case)
    y = run(case, inputs)
    shared = [
        np.may_share_memory(y.data, np.asarray(x))
        for x in inputs
        if isinstance(x, (Tensor, np.ndarray)) and np.size(x.data)
    ]
    assert ops.TABLE[name].is_view or not any(shared)
    if any(shared):
        assert y._base is inputs[0]


@pytest.mark.parametrize(("name", "case"), SMOOTH)
def test_backward_leaves_operands_as_they_were(name: str, case: Case) -> None:
    """Backward reads inputs, output and cotangent, and writes to none of them."""
    inputs = tensors(case)
    y = run(case, inputs)
    before, g = y.data.copy(), Tensor(np.random.default_rng(2).standard_normal(y.shape))
    weights = g.data.copy()
    y.backward(g)
    np.testing.assert_array_equal(y.data, before)
    np.testing.assert_array_equal(g.data, weights)
    for x, original in zip(inputs, case.inputs, strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(original))


@pytest.mark.sampled(15, by="name")
@pytest.mark.parametrize(("name", "case"), ALL)
def test_float32_stays_float32(name: str, case: Case) -> None:
    """Forward and gradients, also beside Python numbers, with float32's accuracy."""
    inputs = tensors(case, np.float32)
    y = run(case, inputs)
    rounded = [x.data.astype(np.float64) if isinstance(x, Tensor) else x for x in inputs]
    expected = np.asarray(case.oracle(*rounded, **case.attributes))
    if expected.dtype == np.float64 and "dtype" not in case.attributes:
        assert y.dtype == np.float32
    else:
        assert y.dtype == expected.dtype
    np.testing.assert_allclose(y.data, expected, rtol=5e-6, atol=1e-6)
    if y.requires_grad:
        y.backward(np.ones(y.shape, y.dtype))
        for x in inputs:
            if isinstance(x, Tensor) and x.grad is not None:
                assert x.grad.dtype == np.float32
                assert x.grad.shape == x.shape


@pytest.mark.parametrize(("name", "case"), ALL)
def test_integers_and_booleans_never_become_float16_or_float64(name: str, case: Case) -> None:
    """Where they need to become floats they become float32, without a warning."""
    if re.search("cross_entropy|batch_norm|ties|gated|astype", name):
        pytest.skip("takes floats only, or a dtype")
    for dtype in (np.int64, np.int8, np.uint8, np.bool_):
        inputs = [
            Tensor(np.ones(x.shape, dtype)) if isinstance(x, Tensor) and x.dtype.kind == "f" else x
            for x in tensors(case)
        ]
        if dtype is np.bool_ and name in ("sub", "neg", "sign"):  # NumPy has no such thing
            continue
        with np.errstate(over="ignore"):  # -1 in uint8, for one
            y = run(case, inputs)
        assert y.dtype == np.float32 or y.dtype.kind in "biu"


def layouts(x: np.ndarray) -> list[np.ndarray]:
    """x in Fortran's order, with gaps, reversed in memory, and not to be written to."""
    if x.ndim == 0:
        return [x.copy()] * 4
    steps = (slice(None, None, 2),) * x.ndim
    wide = np.full([2 * n for n in x.shape], 7, x.dtype)
    wide[steps] = x
    fixed = x.copy()
    fixed.flags.writeable = False
    back = (slice(None, None, -1),) * x.ndim
    return [np.asfortranarray(x), wide[steps], x[back].copy()[back], fixed]


@pytest.mark.sampled(15, by="name")
@pytest.mark.parametrize(("name", "case"), ALL)
def test_any_memory_layout_gives_the_same(name: str, case: Case) -> None:
    """Forward and gradients do not depend on strides, nor on being allowed to write."""
    plain = tensors(case)
    y = run(case, plain)
    g = np.random.default_rng(3).standard_normal(y.shape).astype(y.dtype)
    if y.requires_grad:
        y.backward(g)
    for i in range(4):
        other = [
            Tensor(layouts(x.data)[i]).requires_grad_(x.requires_grad)
            if isinstance(x, Tensor)
            else x
            for x in tensors(case)
        ]
        z = run(case, other)
        np.testing.assert_allclose(z.data, y.data, rtol=1e-14, atol=1e-15)
        if y.requires_grad:
            z.backward(Tensor(layouts(g)[i]))
        for a, b in zip(plain, other, strict=True):
            if isinstance(a, Tensor) and a.grad is not None:
                np.testing.assert_allclose(b.grad.data, a.grad.data, rtol=1e-13, atol=1e-15)


def test_keep_mask_keeps_the_expected_part() -> None:
    """Zeros with probability p, the rest scaled to a mean of one, drawn anew each time."""
    mg.manual_seed(5)
    x = mg.tensor(np.ones((200, 500)))
    first, second = (ops.TABLE["keep_mask"](x, p=0.25).data for _ in range(2))
    assert set(np.unique(first)) == {0.0, 1.0 / 0.75}
    # The fraction kept has a standard deviation of 0.0014 over 100,000 draws.
    assert abs((first > 0).mean() - 0.75) < 5 * 0.0014
    assert abs(((first > 0) & (second > 0)).mean() - 0.75**2) < 5 * 0.0016
    mg.manual_seed(5)
    np.testing.assert_array_equal(ops.TABLE["keep_mask"](x, p=0.25).data, first)


def test_products_of_matrices_say_nothing_of_inf_and_nan() -> None:
    """As linear; BLAS computes with what lies past the ends of rows, and warned of that."""
    huge, inf = np.full((2, 3, 4), 3e38, np.float32), np.full(4, np.inf, np.float32)
    for x, y in ((huge, huge.swapaxes(1, 2)), (huge, huge[0, 0]), (huge * 0, inf)):
        assert not np.isfinite((Tensor(x) @ Tensor(y)).data).any()
