"""Shapes, strides, broadcasting and indices, drawn at random, agree with NumPy and with adjoints.

Dimensions of 0 and 1 and arrays of no dimensions are drawn as often as others; inputs come
transposed, sliced and reversed.
"""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad import ops
from minigrad.engine.tensor import Tensor

# derandomize: the same examples in every run.
few = settings(max_examples=80, derandomize=True)
many = settings(few, max_examples=250)

SHAPE = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
FULL = hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4)
SEED = st.integers(0, 2**16)


@st.composite
def arrays(draw: Any, shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """Draw normal numbers of a shape, with strides of any kind."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 2, -1, -2])) for _ in shape]
    rng = np.random.default_rng(draw(SEED))
    stored = rng.standard_normal([shape[i] * abs(steps[i]) for i in order]).astype(dtype)
    laid = stored.transpose(np.argsort(order))[tuple(slice(None, None, s) for s in steps)]
    return np.asarray(laid)  # without dimensions, a slice is a scalar


@st.composite
def pairs(draw: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Draw two arrays that broadcast, and the shape that they broadcast to."""
    both = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=4, max_dims=4))
    a, b = (draw(arrays(s)) for s in both.input_shapes)
    return a, b, both.result_shape


@st.composite
def reductions(draw: Any, shapes: Any = SHAPE) -> tuple[np.ndarray, Any, bool]:
    """Draw an array, axes in any spelling, and keepdims."""
    x = draw(arrays(draw(shapes)))
    axis: Any = draw(st.none() | st.lists(st.integers(-x.ndim, x.ndim - 1), unique_by=abs)
                     if x.ndim else st.none())  # fmt: skip
    if isinstance(axis, list):
        axis = tuple({i % x.ndim: i for i in axis}.values())
    return x, axis, draw(st.booleans())


def leaf(x: np.ndarray) -> Tensor:
    """Return a Tensor on this very memory, strides and all."""
    return Tensor(x).requires_grad_()


def summed_down(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Add each element of g to the element that it was broadcast from, by plain loops."""
    out = np.zeros(shape)
    for index in np.ndindex(g.shape):
        source = index[g.ndim - len(shape) :]
        out[tuple(0 if n == 1 else i for i, n in zip(source, shape, strict=True))] += g[index]
    return out


BINARY = {
    "add": (ops.add, np.add, lambda a, b: (1.0, 1.0)),
    "sub": (ops.sub, np.subtract, lambda a, b: (1.0, -1.0)),
    "mul": (ops.mul, np.multiply, lambda a, b: (b, a)),
    "div": (ops.div, np.divide, lambda a, b: (1.0 / b, -a / b**2)),
    "maximum": (
        mg.maximum,
        np.maximum,
        lambda a, b: ((a > b) + (a == b) / 2, (b > a) + (a == b) / 2),
    ),
}


@pytest.mark.parametrize("name", BINARY)
@given(pairs(), SEED)
@few
def test_broadcasting_sums_gradients_back(name: str, pair: Any, seed: int) -> None:
    """Forward is NumPy's; each gradient is the explicit sum over what was stretched."""
    a, b, shape = pair
    ours, numpys, partials = BINARY[name]
    x, z = leaf(a), leaf(b)
    y = ours(x, z)
    assert y.shape == shape
    np.testing.assert_array_equal(y.data, numpys(a, b))
    g = np.random.default_rng(seed).standard_normal(shape)
    y.backward(g)
    for t, partial in zip((x, z), partials(a, b), strict=True):
        assert t.grad.shape == t.shape
        expected = summed_down(np.broadcast_to(g * partial, shape), t.shape)
        scale = summed_down(np.abs(np.broadcast_to(g * partial, shape)), t.shape)
        assert np.all(np.abs(t.grad.data - expected) <= 1e-14 * scale)


@given(st.data())
@few
def test_broadcast_to_is_a_view_with_its_adjoint(data: Any) -> None:
    """The result is a view of NumPy's shape, with the adjoint <g, B x> = <B' g, x>."""
    a, _, shape = data.draw(pairs())
    x, g = leaf(a), data.draw(arrays(shape))
    y = mg.broadcast_to(x, shape)
    np.testing.assert_array_equal(y.data, np.broadcast_to(a, shape))
    assert not y.data.flags.writeable or y.data.size == 0 or y.shape == x.shape
    y.backward(g)
    np.testing.assert_allclose(x.grad.data, summed_down(g, a.shape), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", ["exp", "relu", "sigmoid", "neg"])
@given(st.data())
@few
def test_elementwise_functions_ignore_strides(name: str, data: Any) -> None:
    """Strides change neither the forward nor the gradient of functions of one array."""
    a = data.draw(arrays(data.draw(SHAPE), data.draw(st.sampled_from([np.float32, np.float64]))))
    numpys, derivative = {
        "exp": (np.exp, np.exp),
        "relu": (lambda v: v * (v > 0), lambda v: 1.0 * (v > 0)),
        "sigmoid": (lambda v: 1 / (1 + np.exp(-v)), lambda v: np.exp(-v) / (1 + np.exp(-v)) ** 2),
        "neg": (np.negative, lambda v: -np.ones_like(v)),
    }[name]
    x = leaf(a)
    y = ops.TABLE[name](x)
    assert y.dtype == a.dtype
    tolerance = 8 * np.finfo(a.dtype).eps
    np.testing.assert_allclose(y.data, numpys(a), rtol=tolerance)
    y.backward(data.draw(arrays(a.shape, a.dtype)) * 0 + 1)
    np.testing.assert_allclose(x.grad.data, derivative(a), rtol=4 * tolerance)


@pytest.mark.parametrize("name", ["sum", "mean", "var"])
@given(reductions(), SEED)
@few
def test_sums_over_any_axes_are_numpys(name: str, drawn: Any, seed: int) -> None:
    """Sums, means and variances over any axes agree with NumPy and with written derivatives."""
    a, axis, keepdims = drawn
    n = a.size / max(a.sum(axis, keepdims=True).size, 1) if a.size else 0
    if name != "sum" and not n:
        return  # NaN over nothing, in test_accuracy.py
    x = leaf(a)
    y = getattr(mg, name)(x, axis, keepdims=keepdims)
    expected = getattr(np, name)(a, axis=axis, keepdims=keepdims)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y.data, expected, rtol=1e-12, atol=1e-14)
    g = np.random.default_rng(seed).standard_normal(y.shape)
    y.backward(g)
    wide = g if keepdims or axis is None else np.expand_dims(g, axis)
    factor = 1.0 if name == "sum" else 1.0 / n
    if name == "var":
        factor = 2.0 * (a - a.mean(axis, keepdims=True)) / n
    expected = np.broadcast_to(wide, a.shape) * factor
    np.testing.assert_allclose(x.grad.data, expected, rtol=1e-12, atol=1e-14)


@given(reductions(FULL), SEED)
@few
def test_extremes_pass_gradients_to_where_they_are_attained(drawn: Any, seed: int) -> None:
    """max and min pass g to where they are attained; normal draws have no ties."""
    a, axis, keepdims = drawn
    for sign, ours in ((1, mg.max), (-1, mg.min)):
        x = leaf(a)
        y = ours(x, axis, keepdims)
        top = sign * np.max(sign * a, axis, keepdims=True)
        assert y.shape == a.sum(axis, keepdims=keepdims).shape
        np.testing.assert_array_equal(y.data.ravel(), top.ravel())
        g = np.random.default_rng(seed).standard_normal(y.shape)
        y.backward(g)
        np.testing.assert_array_equal(x.grad.data, (a == top) * g.reshape(top.shape))


@st.composite
def indexed(draw: Any) -> tuple[np.ndarray, Any]:
    """Draw an array of at least one dimension, and an index of any kind into it."""
    x = draw(arrays(draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))))
    basic = hnp.basic_indices(x.shape, allow_newaxis=True, allow_ellipsis=True)
    whole = hnp.integer_array_indices(x.shape)
    first = hnp.arrays(np.int64, hnp.array_shapes(max_dims=2, min_side=0, max_side=5),
                       elements=st.integers(-x.shape[0], x.shape[0] - 1))  # fmt: skip
    mask = hnp.arrays(np.bool_, x.shape[: draw(st.integers(1, x.ndim))])
    last = st.lists(st.integers(0, x.shape[-1] - 1), max_size=5).map(
        lambda i: (Ellipsis, np.array(i, np.int64))
    )
    return x, draw(basic | whole | first | mask | last)


@given(indexed(), SEED)
@many
def test_indexing_and_its_adjoint(drawn: Any, seed: int) -> None:
    """x[i] is NumPy's, and <g, x[i]> = <scatter(g), x> however often an element repeats."""
    a, index = drawn
    x = leaf(a)
    y = x[index]
    assert y.shape == np.shape(a[index])
    np.testing.assert_array_equal(y.data, a[index])
    g = np.random.default_rng(seed).standard_normal(y.shape)
    y.backward(g)
    expected = np.zeros(a.shape)
    np.add.at(expected, index, g)
    np.testing.assert_allclose(x.grad.data, expected, rtol=1e-14, atol=1e-15)
    left, right = np.sum(g * a[index]), np.sum(x.grad.data * a)
    assert math.isclose(left, right, rel_tol=1e-12, abs_tol=1e-12)


@st.composite
def factors(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Draw operands of a matrix product, vectors included, by np.matmul's gufunc signature."""
    drawn = draw(hnp.mutually_broadcastable_shapes(
        signature="(m?,n),(n,p?)->(m?,p?)", min_side=0, max_side=3, max_dims=2))  # fmt: skip
    a, b = drawn.input_shapes
    return draw(arrays(a)), draw(arrays(b))


@given(factors(), SEED)
@many
def test_matmul_is_numpys_with_its_adjoint(drawn: Any, seed: int) -> None:
    """Shapes and values are those of np.matmul; gradients satisfy their adjoint identity."""
    a, b = drawn
    x, z = leaf(a), leaf(b)
    y = x @ z
    expected = np.matmul(a, b)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y.data, expected, rtol=1e-13, atol=1e-13)
    rng = np.random.default_rng(seed)
    g, da, db = (rng.standard_normal(s) for s in (y.shape, a.shape, b.shape))
    y.backward(g)
    assert x.grad.shape == a.shape
    assert z.grad.shape == b.shape
    assert math.isclose(
        np.sum(g * (da @ b)), np.sum(x.grad.data * da), rel_tol=1e-10, abs_tol=1e-11
    )
    assert math.isclose(
        np.sum(g * (a @ db)), np.sum(z.grad.data * db), rel_tol=1e-10, abs_tol=1e-11
    )


@given(st.data())
@few
def test_round_trips_give_the_array_again(data: Any) -> None:
    """Moving elements there and back gives the array again, and g again as its gradient."""
    a = data.draw(arrays(data.draw(SHAPE)))
    axes = data.draw(st.permutations(range(a.ndim)))
    k = data.draw(st.integers(-a.ndim - 1, a.ndim))
    trips = [
        lambda x: mg.permute_dims(mg.permute_dims(x, axes), np.argsort(axes).tolist()),
        lambda x: mg.squeeze(mg.unsqueeze(x, k), k),
        lambda x: mg.reshape(mg.flatten(x), a.shape),
        lambda x: mg.stack([x, x * 2.0], k)[(slice(None),) * (k % (a.ndim + 1)) + (0,)],
        lambda x: mg.reshape(mg.reshape(x, (*a.shape, 1)), a.shape),
    ]
    if a.ndim:
        axis, cut = data.draw(st.integers(-a.ndim, a.ndim - 1)), data.draw(st.integers(0, 4))
        before = (slice(None),) * (axis % a.ndim)
        trips.append(lambda x: mg.concat([x[(*before, slice(cut))], x[(*before, slice(cut, None))]],
                                         axis))  # fmt: skip
    g = data.draw(arrays(a.shape))
    for trip in trips:
        x = leaf(a)
        y = trip(x)
        assert y.shape == a.shape
        np.testing.assert_array_equal(y.data, a)
        y.backward(g)
        np.testing.assert_array_equal(x.grad.data, g)
