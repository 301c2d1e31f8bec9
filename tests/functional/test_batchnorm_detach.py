"""`batch_norm(..., detach=...)`: y as ever, and dx without the paths through what is detached.

The oracle is the complex step (exact to rounding) on formulas in which a detached statistic keeps
the value that it has at x, while x moves.
"""

import itertools
import re

import numpy as np
import pytest
from batchnorm_cases import normal

import minigrad as mg
from minigrad import functional as F
from minigrad.engine.tape import tape
from minigrad.errors import ArgumentError, DtypeError

NAMES = ("mean", "var", "mean_in_var")
SUBSETS = [names for k in range(4) for names in itertools.combinations(NAMES, k)]
EPS = 1e-3


def loss(x, at, gamma, beta, g, detach):
    """sum of g * batch_norm(x), where detached statistics are those of `at`."""
    axes = (0, *range(2, x.ndim))
    wide = (-1, *[1] * (x.ndim - 2))

    def mean(a):
        return a.mean(axes, keepdims=True)

    about = mean(at if "mean_in_var" in detach else x)
    var = mean((at - mean(at)) ** 2) if "var" in detach else mean((x - about) ** 2)
    x_hat = (x - mean(at if "mean" in detach else x)) / np.sqrt(var + EPS)
    return np.sum(g * (x_hat * gamma.reshape(wide) + beta.reshape(wide)))


def complex_step(x, *others, step=1e-30):
    """d loss / dx, element by element."""
    dx = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        shifted = x.astype(complex)
        shifted[index] += 1j * step
        dx[index] = loss(shifted, x, *others).imag / step
    return dx


def problem(shape):
    """x, gamma, beta and a random cotangent in float64; the mean is far from 0."""
    x = 3 + normal(shape, np.float64, 0)
    gamma, beta, g = (
        normal(s, np.float64, 1 + i) for i, s in enumerate([shape[1], shape[1], shape])
    )
    return x, gamma, beta, g


def derived(x, gamma, beta, g, **options):
    """y, running statistics and dx, dgamma, dbeta of the composed form."""
    leaves = [mg.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    statistics = np.zeros(x.shape[1]), np.ones(x.shape[1])
    y = F.batch_norm(
        leaves[0], *statistics, *leaves[1:], training=True, eps=EPS, fused=False, **options
    )
    y.backward(g)
    return y.numpy(), *statistics, *(leaf.grad.numpy() for leaf in leaves)


@pytest.mark.parametrize("shape", [(6, 3), (3, 2, 2, 2)])
@pytest.mark.parametrize("detach", SUBSETS, ids="+".join)
def test_dx_is_that_of_formulas_with_constants_in_their_place(shape, detach):
    given = problem(shape)
    exact = complex_step(*given, detach)
    dx = derived(*given, detach=detach)[3]
    np.testing.assert_allclose(dx, exact, rtol=0, atol=4e-15 * np.abs(exact).max())


@pytest.mark.parametrize("detach", SUBSETS, ids="+".join)
def test_all_but_dx_is_bit_for_bit_as_without(detach):
    given = problem((6, 3))
    whole, without = derived(*given), derived(*given, detach=detach)
    for i in (0, 1, 2, 4, 5):
        assert whole[i].tobytes() == without[i].tobytes()


def test_only_the_path_from_the_mean_through_the_variance_is_nothing():
    given = problem((6, 3))
    whole = derived(*given)[3]
    for detach in SUBSETS[1:]:
        error = np.abs(derived(*given, detach=detach)[3] - whole).max() / np.abs(whole).max()
        assert error < 1e-14 if detach == ("mean_in_var",) else error > 0.05, detach


@pytest.mark.parametrize("detach", SUBSETS, ids="+".join)
def test_the_tape_has_the_paths_that_are_left_and_no_other(detach):
    """Numbers cannot tell whether the mean inside the variance is live: its path adds nothing."""
    x = mg.tensor(normal((6, 3)), requires_grad=True)
    y = F.batch_norm(x, training=True, fused=False, detach=detach)
    made = {record.primitive.name: record for record in tape([y])}
    centred = {"mean": made["mul"].inputs[0]}
    if "mean_square" in made:
        centred["mean_in_var"] = made["mean_square"].inputs[0]
    live = {name for name, t in centred.items() if t._record.inputs[1].requires_grad}
    live |= {"var"} if "mean_square" in made else set()
    # A constant variance has no mean inside it to lead anywhere.
    assert live == set(NAMES) - {*detach} - ({"mean_in_var"} if "var" in detach else set())


def test_relu_compiled_and_names_in_any_collection():
    x, gamma, beta, g = problem((6, 3))
    y, _, _, dx, *_ = derived(x, gamma, beta, g, activation="relu", detach=["var", "var"])
    assert (y == 0).any()
    _, _, _, kept, *_ = derived(x, gamma, beta, g * (y > 0), detach={"var"})
    np.testing.assert_array_equal(dx, kept)

    @mg.compile
    def step(x, g):
        z = F.batch_norm(x, training=True, fused=False, detach=("mean",)) * g
        return mg.grad(z.sum(), x)[0]

    leaf = mg.tensor(x, requires_grad=True)
    for _ in range(2):
        np.testing.assert_allclose(step(leaf, g), step.__wrapped__(leaf, mg.tensor(g)), rtol=1e-12)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"detach": "var"}, DtypeError, "detach must be a tuple of names, such as ('var',), got"),
        ({"detach": None}, DtypeError, "must be a tuple of names"),
        ({"detach": True}, DtypeError, "must be a tuple of names"),
        ({"detach": ("var", "std")}, ArgumentError, "('mean', 'var', 'mean_in_var'), got 'std'"),
        ({"detach": [0]}, ArgumentError, "got 0"),
        ({"detach": ("var",), "fused": True}, ArgumentError, "detach needs fused=False"),
        ({"detach": ("var",), "training": False}, ArgumentError, "detach needs training=True"),
    ],
)
def test_refusals_leave_the_statistics(options, error, message):
    statistics = np.zeros(3, np.float32), np.ones(3, np.float32)
    before = [a.tobytes() for a in statistics]
    with pytest.raises(error, match="^batch_norm: .*" + re.escape(message)):
        F.batch_norm(normal((4, 3)), *statistics, **{"training": True, "fused": False} | options)
    assert [a.tobytes() for a in statistics] == before


@pytest.mark.parametrize("nothing", [(), [], set()])
def test_nothing_to_detach_is_fine_in_any_form_and_mode(nothing):
    F.batch_norm(normal((4, 3)), training=True, detach=nothing)
    F.batch_norm(normal((4, 3)), np.zeros(3), np.ones(3), detach=nothing)
