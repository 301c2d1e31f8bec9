"""BatchNorm at the edges, both forms: poison, magnitudes, memory layouts, changes in between."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from batchnorm_cases import expected, fused, normal, run  # noqa: F401

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.errors import ArgumentError, DtypeError, GradError

# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.sampled(5)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5)])
def test_a_poisoned_channel_stays_alone(bad, shape):
    g, gamma, beta = normal(shape, seed=1), normal(3, seed=2), normal(3, seed=3)
    clean, poisoned = normal(shape), normal(shape)
    poisoned[1, 1] = bad
    results = []
    for x in (clean, poisoned):
        mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
        found = run(x, gamma, beta, g, running_mean=mean, running_var=var)
        results.append([*found, mean, var])
    y, dx, dgamma, dbeta, mean, var = results[1]
    for values in (y[:, 1], dx[:, 1], dgamma[1], var[1]):
        assert np.isnan(values).all()
    np.testing.assert_array_equal(mean[1], np.float32(bad))
    for i, (before, after) in enumerate(zip(*results, strict=True)):
        others = (slice(None), [0, 2]) if i < 2 else [0, 2]
        np.testing.assert_array_equal(before[others], after[others])
    np.testing.assert_array_equal(dbeta, results[0][3])  # the sum of g alone


@pytest.mark.parametrize("value", [0.0, 0.1, -3e7, 1e30])
def test_a_constant_channel_gives_beta(value):
    """In float32 exactly, as the mean of equal values is exact; in float64 it is rounded."""
    g, gamma, beta = normal((7, 2), seed=1), normal(2, seed=2), normal(2, seed=3)
    x = np.full((7, 2), value, np.float32)
    mean, var = np.zeros(2, np.float32), np.ones(2, np.float32)
    y, dx, *_ = run(x, gamma, beta, g, running_mean=mean, running_var=var, momentum=1.0)
    np.testing.assert_array_equal(y, np.broadcast_to(beta, y.shape))
    assert (mean.tolist(), var.tolist()) == (x[0].tolist(), [0, 0])
    exact = gamma / np.sqrt(1e-5) * (g - g.mean(0, dtype=np.float64))
    np.testing.assert_allclose(dx, exact, rtol=0, atol=1e-6 * np.abs(exact).max())
    if abs(value) <= 1:
        wide = F.batch_norm(np.full((7, 2), value), bias=beta.astype(float), training=True)
        np.testing.assert_allclose(wide.numpy(), np.tile(beta, (7, 1)), rtol=0, atol=1e-13)


def test_huge_values_in_float32_stay_finite():
    """Their variance is beyond float32, so the textbook form takes 1 / std for 0: y is beta."""
    x = np.float32(1e30) * np.array([[1], [-1], [0.5], [1]], np.float32)
    y, *gradients = run(x, np.ones(1, np.float32), np.full(1, 2, np.float32), normal((4, 1)))
    for values in (y, *gradients):
        assert np.isfinite(values).all()
    wide = F.batch_norm(x.astype(np.float64), training=True).numpy()
    centred = x.astype(np.float64) - x.mean(dtype=np.float64)
    exact = centred / np.sqrt(np.mean(centred**2))
    np.testing.assert_allclose(wide, exact, rtol=1e-14)


@pytest.mark.parametrize("ratio", [0, 1, 1e2, 1e3, 1e4, 1e5, 1e6])
@pytest.mark.parametrize("shape", [(256, 4), (8, 4, 6, 6)])
def test_a_mean_far_above_the_deviation_costs_what_its_rounding_implies(ratio, shape):
    """A mean off by d, at most unit * |mean|, moves y by d / std and adds d^2 to the variance."""
    unit = 2.0**-24
    x = (ratio + normal(shape, np.float64)).astype(np.float32)
    axes = (0, *range(2, x.ndim))
    exact = x.astype(np.float64)
    exact = exact - exact.mean(axes, keepdims=True)
    exact = exact - exact.mean(axes, keepdims=True)  # what the first mean lost
    std = np.sqrt((exact**2).mean(axes, keepdims=True))
    shift = unit * np.abs(x).max() / std.min()
    exact /= np.sqrt(std**2 + 1e-5)
    y = F.batch_norm(x, training=True).numpy()
    largest = np.abs(exact).max()
    assert np.abs(y - exact).max() <= shift + largest * (shift**2 / 2 + 6 * unit)


@pytest.mark.parametrize("base", [1, 10**6, 10**7])
def test_variance_of_nist_numacc_to_the_last_digits(base):
    """NumAcc2 to 4, against exact arithmetic on the numbers as stored; one pass gets 0 digits."""
    x = np.array([base + 0.2, *[base + 0.1, base + 0.3] * 500])
    exact = [Fraction(v) for v in x.tolist()]
    mean = sum(exact) / len(exact)
    var = float(sum((v - mean) ** 2 for v in exact) / (len(exact) - 1))
    running_mean, running_var = np.zeros(1), np.ones(1)
    F.batch_norm(x[:, None], running_mean, running_var, training=True, momentum=1.0)
    # Sums of 1001 terms of one sign, in blocks of 512, four rows at a time: at most 132 roundings.
    rounding = 132 * 2.0**-53
    np.testing.assert_allclose(running_mean, float(mean), rtol=rounding)
    off = float(abs(Fraction(running_mean.item()) - mean))
    np.testing.assert_allclose(running_var, var, rtol=rounding, atol=1.001 * off**2)


# --- memory layouts -----------------------------------------------------------------------------


def spaced(a):
    """Every other element of a larger array, along every axis."""
    big = np.full([2 * n + 1 for n in a.shape], np.nan, a.dtype)
    view = big[tuple([slice(1, None, 2)] * a.ndim)]
    view[...] = a
    return view


def assert_same(found, same, x, g, statistics=()):
    """Equal to two ulps of the largest element or, for sums over the batch, of what they add."""
    x_hat = expected(x, *statistics)
    axes = (0, *range(2, x.ndim))
    sizes = [*map(np.abs, same)]  # y, dx, dgamma, dbeta and whatever comes after
    sizes[2:4] = np.abs(g * x_hat).sum(axes), np.abs(g).sum(axes)
    for a, b, size in zip(found, same, sizes, strict=True):
        atol = 2 * np.finfo(b.dtype).eps * size.max()
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "spaced": spaced,
    "swapped": lambda a: np.ascontiguousarray(a.swapaxes(0, 1)).swapaxes(0, 1),
}


@pytest.mark.sampled(7)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (2, 3, 4, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("training", [True, False])
def test_any_memory_layout_gives_what_a_contiguous_one_gives(layout, shape, dtype, training):
    x, g = normal(shape, dtype), normal(shape, dtype, 1)
    gamma, beta, mean = normal(3, dtype, 2), normal(3, dtype, 3), normal(3, dtype, 4)
    var = np.abs(normal(3, dtype, 5)) + 1
    strange = [LAYOUTS[layout](a) for a in (x, g)]
    assert not any(a.flags.c_contiguous for a in strange)
    vectors = [spaced(p) for p in (gamma, beta, mean, var)]
    statistics = () if training else (mean, var)
    results = []
    for (a, b), (w, c, m, v) in [((x, g), (gamma, beta, mean, var)), (strange, vectors)]:
        found = run(a, w, c, b, running_mean=m, running_var=v, training=training)
        results.append([*found, m, v])
    assert_same(results[1], results[0], x, g, statistics)


def test_broadcast_x_and_cotangent():
    """Views with strides of 0, read-only, as arrays and as the result of an operation."""
    rows, g = normal((6, 3, 1)), normal((6, 3, 1), seed=1)
    gamma, beta = normal(3, seed=2), normal(3, seed=3)
    views = [np.broadcast_to(a, (6, 3, 4)) for a in (rows, g)]
    same = run(views[0].copy(), gamma, beta, views[1].copy())
    other = run(views[0], gamma, beta, mg.Tensor(views[1]))
    assert_same(other, same, *views)
    leaf = mg.tensor(rows, requires_grad=True)
    F.batch_norm(mg.broadcast_to(leaf, (6, 3, 4)), training=True, weight=gamma).backward(views[1])
    exact = same[1].sum(2, keepdims=True)
    np.testing.assert_allclose(leaf.grad, exact, rtol=0, atol=1e-6 * np.abs(exact).max())


def test_inputs_are_left_alone_and_gradients_share_no_memory():
    x, gamma, beta, g = (normal(s, seed=i) for i, s in enumerate([(4, 3), 3, 3, (4, 3)]))
    before = [a.copy() for a in (x, gamma, beta, g)]
    results = run(x, gamma, beta, g)
    for a, b in zip((x, gamma, beta, g), before, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in itertools.combinations((x, gamma, beta, g, *results), 2):
        assert not np.shares_memory(a, b)


# --- which inputs need gradients, and what changes before backward ------------------------------


@pytest.mark.sampled(5)
@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 2, 2)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "wanted", [n for n in itertools.product([True, False], repeat=3) if any(n)]
)
def test_every_subset_of_gradients_equals_the_full_run_bit_for_bit(shape, training, wanted):
    x, g, gamma, beta = normal(shape), normal(shape, seed=1), normal(3, seed=2), normal(3, seed=3)
    options = {"running_mean": normal(3, seed=4), "running_var": normal(3, seed=5) ** 2}
    copies = {name: a.copy() for name, a in options.items()}
    full = run(x, gamma, beta, g, training=training, **copies)
    some = run(x, gamma, beta, g, wanted, training=training, **options)
    assert full[0].tobytes() == some[0].tobytes()
    for needed, a, b in zip(wanted, full[1:], some[1:], strict=True):
        assert b.tobytes() == a.tobytes() if needed else b is None


def disturb_nothing(bn):
    pass


def disturb_values(bn):
    bn.running_mean.copy_(7.0)
    bn.running_var.data[...] = 9.0  # behind the engine's back
    bn.num_batches_tracked.copy_(np.array(5))


def disturb_by_a_batch(bn):
    bn.train()(normal((6, 3), seed=9))


@pytest.mark.parametrize("training", [True, False])
def test_statistics_changed_before_backward_leave_the_gradient_as_it_is(training):
    g, found = normal((6, 3), seed=1), []
    for disturb in (disturb_nothing, disturb_values, disturb_by_a_batch):
        bn = nn.BatchNorm1d(3)
        bn(normal((6, 3), seed=2))
        x = mg.tensor(normal((6, 3)), requires_grad=True)
        y = bn.train(training)(x)
        disturb(bn)
        y.backward(g)
        found.append([t.grad.numpy().tobytes() for t in (x, bn.weight, bn.bias)])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("changed", ["x", "view of x", "weight"])
def test_an_input_changed_before_backward_is_an_error(changed):
    bn = nn.BatchNorm1d(3)
    x = mg.tensor(normal((6, 3)), requires_grad=True)
    y = bn(x)
    with mg.no_grad():
        {"x": x, "view of x": x[1:3], "weight": bn.weight}[changed].copy_(0.5)
    with pytest.raises(GradError, match="changed in place"):
        y.backward(normal((6, 3), seed=1))
    assert x.grad is bn.weight.grad is bn.bias.grad is None


@pytest.mark.parametrize("training, needs_x", [(True, False), (False, False), (False, True)])
def test_a_changed_x_is_never_used_unnoticed(training, needs_x):
    """Where no rule reads x, its change may pass; the gradient is then that of the old x."""
    g, found = normal((6, 3), seed=1), []
    for change in (False, True):
        bn = nn.BatchNorm1d(3).train(training)
        x = mg.tensor(normal((6, 3)), requires_grad=needs_x)
        y = bn(x)
        if change:
            with mg.no_grad():
                x.copy_(0.5)
        try:
            y.backward(g)
        except GradError:
            assert change
            return
        leaves = [x, bn.weight, bn.bias] if needs_x else [bn.weight, bn.bias]
        found.append([t.grad.numpy().tobytes() for t in leaves])
    assert found[0] == found[1]


@pytest.mark.parametrize("training", [True, False])
def test_mixed_dtypes_compute_and_answer_in_that_of_the_input(training):
    """float64 parameters do not widen a float32 input; float32 statistics do not blunt float64."""
    x = np.random.default_rng(5).standard_normal((8, 3))
    mean, var, weight, bias = (np.random.default_rng(i).uniform(0.5, 2, 3) for i in range(4))
    narrow = [p.astype(np.float32) for p in (mean, var, weight, bias)]
    y = F.batch_norm(x.astype(np.float32), mean, var, weight, bias, training)
    assert y.dtype == np.float32
    y = F.batch_norm(x, *[p.copy() for p in narrow], training)
    wide = F.batch_norm(x, *[p.astype(np.float64) for p in narrow], training)
    np.testing.assert_allclose(y.data, wide.data, rtol=1e-13, atol=1e-13)


def test_what_is_no_array_is_refused_by_name():
    with pytest.raises(DtypeError, match="running_mean must be a Tensor or an array, got list"):
        F.batch_norm(np.ones((2, 2)), [0.0, 0.0], [1.0, 1.0])
    for eps in ("a", None):
        with pytest.raises(ArgumentError, match="eps"):
            F.batch_norm(np.ones((2, 2)), np.zeros(2), np.ones(2), eps=eps)
        with pytest.raises(ArgumentError, match="eps"):
            nn.BatchNorm1d(2, eps=eps)
