"""`ladder.what_if` gives the same y, and dx without the paths through what is detached.

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
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.explainer.ladder import STATISTICS, what_if

SUBSETS = [names for k in range(4) for names in itertools.combinations(STATISTICS, k)]
EPS = 1e-3


def loss(x, at, gamma, beta, g, detach):
    """Return the sum of g * batch_norm(x), where detached statistics are those of `at`."""
    axes = (0, *range(2, x.ndim))
    wide = (-1, *[1] * (x.ndim - 2))

    def mean(a):
        return a.mean(axes, keepdims=True)

    about = mean(at if "mean_in_var" in detach else x)
    var = mean((at - mean(at)) ** 2) if "var" in detach else mean((x - about) ** 2)
    x_hat = (x - mean(at if "mean" in detach else x)) / np.sqrt(var + EPS)
    return np.sum(g * (x_hat * gamma.reshape(wide) + beta.reshape(wide)))


def complex_step(x, *others, step=1e-30):
    """Return d loss / dx, element by element."""
    dx = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        shifted = x.astype(complex)
        shifted[index] += 1j * step
        dx[index] = loss(shifted, x, *others).imag / step
    return dx


def problem(shape):
    """Return x, gamma, beta and a random cotangent in float64; the mean is far from 0."""
    x = 3 + normal(shape, np.float64, 0)
    gamma, beta, g = (
        normal(s, np.float64, 1 + i) for i, s in enumerate([shape[1], shape[1], shape])
    )
    return x, gamma, beta, g


def derived(x, gamma, beta, g, form=what_if, **options):
    """Return y, dx, dgamma and dbeta of a form of BatchNorm."""
    leaves = [mg.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    y = form(*leaves, eps=EPS, **options)
    y.backward(g)
    return y.numpy(), *(leaf.grad.numpy() for leaf in leaves)


def composed(x, gamma, beta, eps):
    """Apply the public function's form that the tape derives."""
    return F.batch_norm(x, weight=gamma, bias=beta, training=True, eps=eps, fused=False)


@pytest.mark.parametrize("shape", [(6, 3), (3, 2, 2, 2)])
@pytest.mark.parametrize("detach", SUBSETS, ids="+".join)
def test_dx_is_that_of_formulas_with_constants_in_their_place(shape, detach):
    given = problem(shape)
    exact = complex_step(*given, detach)
    dx = derived(*given, detach=detach)[1]
    np.testing.assert_allclose(dx, exact, rtol=0, atol=4e-15 * np.abs(exact).max())


@pytest.mark.parametrize("shape", [(6, 3), (3, 2, 2, 2)])
@pytest.mark.parametrize("detach", SUBSETS, ids="+".join)
def test_all_but_dx_is_bit_for_bit_that_of_the_composed_form(shape, detach):
    given = problem(shape)
    (y, dx, *others), without = derived(*given, form=composed), derived(*given, detach=detach)
    assert (without[1].tobytes() == dx.tobytes()) == (not detach)
    for whole, part in zip([y, *others], [without[0], *without[2:]], strict=True):
        assert whole.tobytes() == part.tobytes()


def test_only_the_path_from_the_mean_through_the_variance_is_nothing():
    given = problem((6, 3))
    whole = derived(*given)[1]
    for detach in SUBSETS[1:]:
        error = np.abs(derived(*given, detach=detach)[1] - whole).max() / np.abs(whole).max()
        assert error < 1e-14 if detach == ("mean_in_var",) else error > 0.05, detach


@pytest.mark.parametrize("detach", SUBSETS, ids="+".join)
def test_the_tape_has_the_paths_that_are_left_and_no_other(detach):
    """Numbers cannot show whether the mean inside the variance is live: its path adds nothing."""
    x = mg.tensor(normal((6, 3)), requires_grad=True)
    y = what_if(x, detach=detach)
    made = {record.primitive.name: record for record in tape([y])}
    centred = {"mean": made["mul"].inputs[0]}
    if "mean_square" in made:
        centred["mean_in_var"] = made["mean_square"].inputs[0]
    live = {name for name, t in centred.items() if tape([t])[-1].inputs[1].requires_grad}
    live |= {"var"} if "mean_square" in made else set()
    # A constant variance has no mean inside it to lead anywhere.
    assert live == set(STATISTICS) - {*detach} - ({"mean_in_var"} if "var" in detach else set())


def test_names_come_in_any_collection():
    given = problem((6, 3))
    first, second = (derived(*given, detach=detach) for detach in (["var", "var"], {"var"}))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_compiles():
    x, _, _, g = problem((6, 3))

    @mg.compile
    def step(x, g):
        return mg.grad((what_if(x, detach=("mean",)) * g).sum(), x)[0]

    leaf = mg.tensor(x, requires_grad=True)
    for _ in range(2):
        np.testing.assert_allclose(step(leaf, g), step.__wrapped__(leaf, mg.tensor(g)), rtol=1e-12)


@pytest.mark.parametrize(
    "detach, error, message",
    [
        ("var", DtypeError, "detach must be a tuple of names, such as ('var',), got 'var'"),
        (None, DtypeError, "must be a tuple of names"),
        (True, DtypeError, "must be a tuple of names"),
        (("var", "std"), ArgumentError, "('mean', 'var', 'mean_in_var'), got 'std'"),
        ([0], ArgumentError, "got 0"),
    ],
)
def test_what_cannot_be_detached_is_refused(detach, error, message):
    with pytest.raises(error, match="^what_if: .*" + re.escape(message)):
        what_if(normal((4, 3)), detach=detach)


@pytest.mark.parametrize(
    ("x", "given", "expected"),
    [
        (np.ones((4, 2)), {"eps": -1.0}, "eps must be a finite number above 0"),
        (np.ones((1, 2)), {}, "more than 1 value per channel"),
        (np.ones((4, 2)), {"gamma": np.ones(3)}, "weight has shape"),
        (np.array(1.0), {}, r"expected \(batch, channels"),
    ],
)
def test_input_that_batch_norm_refuses(x, given, expected):
    with pytest.raises((ArgumentError, ShapeError), match=expected):
        what_if(x, **given)
