"""Sums, variances and the functions of softmax's family are accurate, and extremes are quiet.

Sums are measured against math.fsum, which is exact but for its last rounding, and variances against
fractions.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numba
import numpy as np
import pytest
from scipy import special

import minigrad as mg
from minigrad import functional as F

rng = np.random.default_rng(0)
AXES = [None, 0, 1, 2, 3, (0, 1), (0, 2, 3), (1, 3), (0, 2), (1, 2), (2, 3), (0, 1, 2), (0, 1, 3)]


def exact(x: np.ndarray, axis: Any) -> np.ndarray:
    """Return sums over axes, each rounded once."""
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis).tolist()
    rest = [i for i in range(x.ndim) if i not in axes]
    rows = x.transpose(*rest, *axes).reshape(*[x.shape[i] for i in rest], -1).astype(np.float64)
    return np.apply_along_axis(math.fsum, -1, rows)


def ordered(x: np.ndarray, layout: str) -> np.ndarray:
    """Return the same elements in another layout."""
    if layout == "strided":
        return np.repeat(x, 2, axis=-1)[..., ::2]
    return np.asarray(x, order=layout)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("layout", ["C", "F", "strided"])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", ["sum", "mean"])
def test_float32_sums_are_rounded_once(name: str, axis: Any, layout: str) -> None:
    """On data around 1e6, a float32 sum is the float32 nearest to the exact sum.

    float64's own error is some 1e-12 here, so it can only tip a tie: one unit is allowed.
    """
    x = ordered((1e6 + rng.standard_normal((40, 13, 9, 11))).astype(np.float32), layout)
    total = exact(x, axis)
    n = x.size // total.size
    expected = (total / n if name == "mean" else total).astype(np.float32)
    got = getattr(mg, name)(mg.tensor(x), axis).data
    assert got.dtype == np.float32
    np.testing.assert_array_max_ulp(got, expected, 1)
    assert np.mean(got != expected) < 0.01


@pytest.mark.parametrize(("shape", "axis"), [((2**20 + 3,), 0), ((2**19, 2), 0), ((2, 2**19), 1)])
def test_long_float32_sums(shape: tuple[int, ...], axis: int) -> None:
    """A million terms are so large that float32 accumulators are wrong in the third digit."""
    x = (rng.random(shape) + 1e4).astype(np.float32)
    np.testing.assert_array_max_ulp(mg.sum(mg.tensor(x), axis).data,
                                    exact(x, axis).astype(np.float32), 1)  # fmt: skip
    alternating = x * np.where(np.indices(shape)[axis] % 2, np.float32(-1), np.float32(1))
    expected = exact(alternating, axis)
    got = mg.sum(mg.tensor(alternating), axis).data
    assert np.all(np.abs(got - expected) <= 1e-6 * np.abs(expected) + 1e-6)


# --- float64 ------------------------------------------------------------------------------------

# Units in the last place: a block of terms along a row is added in several vectors by compiled
# code, and one term after the other where it runs as Python.
UNITS = 8.0 if numba.config.DISABLE_JIT else 3.0


def assert_within(got: Any, expected: np.ndarray, size: np.ndarray, units: float) -> None:
    """Check that results are near what was expected, in units in the last place of `size`."""
    got = got.data if isinstance(got, mg.Tensor) else got
    assert got.dtype == np.float64
    assert np.max(np.abs(got - expected) / np.spacing(size)) <= units


def far_from_zero(*shape: int) -> np.ndarray:
    """Return numbers around 1e7, which lose 24 of their 53 bits to it."""
    return 1e7 + np.random.default_rng(1).standard_normal(shape)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("layout", ["C", "F", "strided", "reversed"])
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_float64_sums_are_as_good_as_exact(axis: Any, layout: str) -> None:
    """The error is that of a few additions, however many there are."""
    x = far_from_zero(40, 13, 9, 11)
    x = x[::-1, :, ::-1] if layout == "reversed" else ordered(x, layout)
    total = exact(x, axis)
    assert_within(mg.sum(mg.tensor(x), axis), total, total, UNITS)
    mean = total / (x.size // total.size)
    assert_within(mg.mean(mg.tensor(x), axis), mean, mean, UNITS + 1.0)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 2), (0, 1)], ids=str)
def test_sums_over_broadcast_axes(axis: Any) -> None:
    """Elements that are repeated in memory are summed as if each were there."""
    given = mg.broadcast_to(mg.tensor(far_from_zero(30, 1, 5)), (30, 40, 5))
    x = given.data
    assert 0 in x.strides
    total = exact(x, axis)
    assert_within(mg.sum(given, axis), total, total, UNITS)
    mean = total / (x.size // total.size)
    assert_within(mg.mean(given, axis), mean, mean, UNITS + 1.0)
    expected = np.var(x - 1e7, axis)
    added = ((UNITS + 1.0) * np.spacing(1e7)) ** 2  # by a mean that is so much off
    np.testing.assert_allclose(mg.var(given, axis).data, expected, rtol=1e-8, atol=added)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_mean_of_1001_values_is_as_in_exact_arithmetic(compiled: bool) -> None:
    """PyTorch's cascade is 1 unit off here, and one float64 accumulator 25."""

    def means(x: Any) -> Any:
        x = x * 1.0
        return [mg.mean(x), mg.mean(x * x), mg.var(x)]

    x = far_from_zero(1001)
    values = [Fraction(float(v)) for v in x]
    squares = [Fraction(float(v)) for v in x * x]  # as they are rounded before they are summed
    mean = sum(values) / 1001
    var = sum((v - mean) ** 2 for v in values) / 1001
    function = mg.compile(means) if compiled else means
    for _ in range(2):  # traced, and compiled
        got = function(mg.tensor(x))
        for g, expected in zip(got, (mean, sum(squares) / 1001), strict=False):
            assert abs(Fraction(g.item()) - expected) <= Fraction(np.spacing(float(expected)))
        # A mean that is rounded by e shifts each centred element, and adds e^2 itself.
        assert abs(Fraction(got[2].item()) - var) <= Fraction(2e-15) * var


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(("shape", "axis"), [((10**6,), 0), ((10**6, 2), 0), ((2, 10**6), 1)])
def test_rounding_errors_of_one_sign_do_not_pile_up(
    shape: tuple[int, ...], axis: int, compiled: bool
) -> None:
    """A million times 0.1 in one accumulator is off by 1e-11; here by that of a block of terms."""

    if numba.config.DISABLE_JIT and not compiled and shape[-1] == 10**6:  # type: ignore[attr-defined]
        pytest.skip("a row is added by vectors, in several accumulators, only where it is compiled")

    def total(x: Any) -> Any:
        return mg.sum(x * 1.0, axis)

    expected = np.array(math.fsum([0.1] * 10**6))
    function = mg.compile(total) if compiled else total
    for _ in range(2):
        assert_within(function(mg.tensor(np.full(shape, 0.1))), expected, expected, 5.0)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_sums_whose_terms_cancel(compiled: bool) -> None:
    """What is left of large terms has the error of their rounding, not of large totals."""
    large = far_from_zero(20_000) * np.random.default_rng(2).choice([-1.0, 1.0], 20_000)
    x = np.concatenate([large, rng.standard_normal(1), -large[::-1]])
    x = np.stack([x, x[::-1], rng.permutation(x)])

    def totals(x: Any) -> Any:
        x = x * 1.0
        return [x.sum(1), x.T.sum(0), (x.T * 1.0).sum(0)]

    function = mg.compile(totals) if compiled else totals
    for _ in range(2):
        for got in function(mg.tensor(x)):
            error = np.max(np.abs(got.data - exact(x, 1)))
            assert error <= 2 * np.spacing(1e7) * math.sqrt(x.shape[1])


ROWS_OF_EXTREMES = [
    [math.inf, 1.0, 2.0],
    [1.0, -math.inf, 1.0],
    [math.inf, 1.0, -math.inf],
    [1.0, math.nan, math.inf],
    [1e308, 1e308, 1e308],
    [-1e308, -1e308, -1e308],
    [-0.0, 0.0, -0.0],
    [5e-324, 5e-324, -1e-310],
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_sums_of_infinities_and_nan_are_numpys(compiled: bool, dtype: Any) -> None:
    """What the additions of infinities lose is NaN, and is left out; finite terms may overflow."""
    with np.errstate(all="ignore"):
        x = np.array(ROWS_OF_EXTREMES).astype(dtype)
        x = np.concatenate([np.ones((len(x), 200), dtype), x, np.ones((len(x), 200), dtype)], 1)
        x[-2:] *= np.array(ROWS_OF_EXTREMES[-2:]).max()  # nothing beside what is tiny
        planes = np.stack([x, x], 1)
        expected = [np.sum(a, axis, np.float64).astype(dtype)
                    for a, axis in ((x, 1), (x.T, 0), (planes, (1, 2)))]  # fmt: skip
        mean = np.mean(x, 1, np.float64).astype(dtype)

    def totals(x: Any, planes: Any) -> Any:
        x, planes = x * 1.0, planes * 1.0
        return [x.sum(1), (x.T * 1.0).sum(0), planes.sum((1, 2)), x.mean(1)]

    function = mg.compile(totals) if compiled else totals
    for _ in range(2):
        got = function(mg.tensor(x), mg.tensor(planes))
        for g, e in zip(got, (*expected, mean), strict=True):
            np.testing.assert_array_equal(g.data, e)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_composed_batch_norm_far_from_zero(compiled: bool) -> None:
    """Normalised values have the error of rounding the mean: a unit of 1e7, and a little."""
    x = far_from_zero(1001, 3)
    columns = [[Fraction(float(v)) for v in column] for column in x.T]
    means = [sum(column) / 1001 for column in columns]
    centred = [[float(v - m) for v in c] for c, m in zip(columns, means, strict=True)]
    expected = np.array(centred).T / np.sqrt([exact_var(c, 0) + 1e-5 for c in x.T])

    def normalised(x: Any) -> Any:
        return F.batch_norm(x, training=True, fused=False)

    function = mg.compile(normalised) if compiled else normalised
    for _ in range(2):
        got = function(mg.tensor(x)).data
        assert np.max(np.abs(got - expected)) <= np.spacing(1e7)


def test_mean_and_var_of_nothing_are_nan() -> None:
    """PyTorch and NumPy return the same, with a warning; the sum is 0."""
    for dtype in (np.float32, np.float64):
        x = mg.tensor(np.empty((0, 3), dtype), requires_grad=True)
        for fn in (mg.mean, mg.var):
            for axis, shape in ((0, (3,)), (None, ())):
                y = fn(x, axis)
                assert y.dtype == dtype
                assert y.shape == shape
                assert np.isnan(y.data).all()
        np.testing.assert_array_equal(mg.sum(x, 0).data, np.zeros(3))
        for fn in (mg.mean, mg.var):
            fn(x).backward()
            assert x.grad.shape == (0, 3)


# NIST's univariate sets for numerical accuracy: NumAcc1 has three numbers, the others a first
# element and then two that alternate; certified standard deviations 1, 0.1, 0.1, 0.1.
NIST = {
    "NumAcc1": ([10000001.0, 10000003.0, 10000002.0], 1.0),
    "NumAcc2": ([1.2] + [1.1, 1.3] * 500, 0.1),
    "NumAcc3": ([1000000.2] + [1000000.1, 1000000.3] * 500, 0.1),
    "NumAcc4": ([10000000.2] + [10000000.1, 10000000.3] * 500, 0.1),
}


def exact_var(x: np.ndarray, correction: int) -> float:
    """Return the variance of the numbers as they are stored, in exact arithmetic."""
    values = [Fraction(float(v)) for v in x]
    mean = sum(values) / len(values)
    return float(sum((v - mean) ** 2 for v in values) / (len(values) - correction))


@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize("name", NIST)
def test_variance_of_nists_sets(name: str, correction: int) -> None:
    """It is exact up to the mean's rounding; E[x^2] - E[x]^2 would lose all digits of NumAcc4."""
    data, deviation = NIST[name]
    x = np.array(data)
    expected = exact_var(x, correction)
    if correction:
        assert math.sqrt(expected) == pytest.approx(deviation, rel=1e-8)
    got = mg.var(mg.tensor(x), correction=correction).item()
    # A mean that is off by e adds e^2 to the variance; each centred element is off by e as well.
    e = np.finfo(np.float64).eps * abs(x[0])
    assert got == pytest.approx(expected, rel=1e-14 + (e / deviation) ** 2 * 4, abs=0.0)
    std = mg.std(mg.tensor(x), correction=correction).item()
    assert std == pytest.approx(math.sqrt(expected), rel=1e-14 + (e / deviation) ** 2 * 4, abs=0.0)
    x32 = x.astype(np.float32)
    got32 = mg.var(mg.tensor(x32), correction=correction).data
    np.testing.assert_array_max_ulp(got32, np.float32(exact_var(x32, correction)), 1)


@pytest.mark.parametrize("axis", [0, 1, (0, 2)], ids=str)
def test_float32_variance_far_from_zero(axis: Any) -> None:
    """On data around 1e6 with deviation 1, it is as exact as float64 rounded once."""
    x = (1e6 + rng.standard_normal((60, 5, 7))).astype(np.float32)
    wide = x.astype(np.float64)
    expected = np.mean((wide - wide.mean(axis, keepdims=True)) ** 2, axis).astype(np.float32)
    np.testing.assert_array_max_ulp(mg.var(mg.tensor(x), axis).data, expected, 1)


LOGITS = {
    "large": [[1e4, -1e4, 0.0], [1e4, 1e4 - 1.0, 1e4 - 2.0]],
    "masked": [[-math.inf, 1.0, 2.0], [-math.inf, -math.inf, 5.0]],
    "close": [[1e-8, 0.0, -1e-8], [100.0, 100.0, 100.0]],
    # log(sum) + maximum - logit, in that order, would lose the loss wholly.
    "far": [[1e8, 1e8, 1e8], [-3e8, -3e8 + 2.0, -3e8]],
}


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_family_is_stable(name: str, dtype: Any) -> None:
    """Results are finite and exact where exp would overflow or vanish; masked classes get 0."""
    x = np.array(LOGITS[name], dtype)
    tolerance = 4 * np.finfo(dtype).eps
    p, log_p = (
        special.softmax(x.astype(np.float64), 1),
        special.log_softmax(x.astype(np.float64), 1),
    )
    for ours, expected in ((F.softmax, p), (F.log_softmax, log_p)):
        t = mg.tensor(x, requires_grad=True)
        y = ours(t, 1)
        np.testing.assert_allclose(y.data, expected, rtol=tolerance, atol=0)
        y[:, 2].sum().backward()
        jacobian = p * (np.arange(3) == 2) - p * p[:, 2:] if ours is F.softmax else (
            (np.arange(3) == 2) - p)  # fmt: skip
        np.testing.assert_allclose(t.grad.data, jacobian, rtol=8 * tolerance, atol=tolerance)
    labels = np.array([2, 2])
    t = mg.tensor(x, requires_grad=True)
    for target in (labels, np.eye(3, dtype=dtype)[labels]):
        t.grad = None
        loss = F.cross_entropy(t, target, reduction="sum")
        np.testing.assert_allclose(loss.data, -log_p[:, 2].sum(), rtol=tolerance)
        loss.backward()
        np.testing.assert_allclose(
            t.grad.data, p - np.eye(3)[labels], rtol=tolerance, atol=tolerance
        )


def test_cross_entropy_at_a_masked_class_is_infinite() -> None:
    """The probability is 0: the loss is inf, not NaN."""
    for target in (np.array([0]), np.array([[1.0, 0.0]])):
        assert F.cross_entropy(mg.tensor(np.array([[-math.inf, 1.0]])), target).item() == math.inf


EXTREMES = np.array([-1e308, -1e4, -750.0, -40.0, -1e-300, 0.0, 1e-20, 40.0, 750.0, 1e4, 1e308])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_and_softplus_at_extremes(dtype: Any) -> None:
    """No digits are lost in either tail, and there is no warning and no NaN."""
    x = np.clip(EXTREMES, -1e38, 1e38).astype(dtype) if dtype is np.float32 else EXTREMES
    tolerance = 4 * np.finfo(dtype).eps
    sigmoid = special.expit(x.astype(np.float64))
    # Below the smallest normal number float32 keeps fewer digits.
    tiny = 0.0 if dtype is np.float64 else 1e-44
    for ours, expected, derivative in (
        (mg.sigmoid, sigmoid, sigmoid * special.expit(-x.astype(np.float64))),
        (mg.softplus, np.logaddexp(0.0, x.astype(np.float64)), sigmoid),
    ):
        t = mg.tensor(x, requires_grad=True)
        y = ours(t)
        np.testing.assert_allclose(y.data, expected, rtol=tolerance, atol=tiny)
        y.sum().backward()
        np.testing.assert_allclose(t.grad.data, derivative, rtol=tolerance, atol=tolerance)


def test_gelu_keeps_its_left_tail() -> None:
    """x * Phi(x) keeps Phi(-10) = 7.6e-24, which 1 + erf would lose; its gradient has no jump."""
    x = np.array([-37.0, -10.0, -5.0, -1.0, 0.0, 1e-10, 1.0, 10.0, 1e5])
    t = mg.tensor(x, requires_grad=True)
    y = F.gelu(t)
    np.testing.assert_allclose(y.data, x * special.ndtr(x), rtol=1e-13)
    y.sum().backward()
    pdf = np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    np.testing.assert_allclose(t.grad.data, special.ndtr(x) + x * pdf, rtol=1e-13, atol=1e-16)
    tanh = F.gelu(mg.tensor(x), "tanh").data
    assert np.max(np.abs(tanh - y.data)) < 5e-4
    assert np.max(np.abs(tanh - y.data)) > 1e-5


def test_softplus_with_beta() -> None:
    """It is log(1 + exp(b x)) / b for every b, also far beyond PyTorch's threshold."""
    x = np.array([-3.0, 0.0, 0.5, 100.0])
    for beta in (0.5, 1.0, 3.0):
        got = F.softplus(mg.tensor(x), beta=beta).data
        np.testing.assert_allclose(got, np.logaddexp(0.0, beta * x) / beta, rtol=1e-14)


def test_sums_do_not_depend_on_threads() -> None:
    """The bits are the same, also while other threads compute sums."""
    x = mg.tensor(np.random.default_rng(4).standard_normal((1000, 33)).astype(np.float32))
    alone = [mg.sum(x, axis).data for axis in (None, 0, 1)]
    with ThreadPoolExecutor(2) as pool:
        jobs = [[pool.submit(mg.sum, x, axis) for axis in (None, 0, 1)] for _ in range(8)]
        for job in jobs:
            for future, expected in zip(job, alone, strict=True):
                np.testing.assert_array_equal(future.result().data, expected)
