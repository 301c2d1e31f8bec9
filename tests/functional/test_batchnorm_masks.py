"""The fused BatchNorm treats poison, empty batches and mixed dtypes as the composed one does."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import minigrad as mg
from minigrad import functional as F

Array = NDArray[Any]

# derandomize: the same examples in every run.
few = settings(max_examples=60, derandomize=True)
many = settings(few, max_examples=200)
FLOATS = st.sampled_from([np.float32, np.float64])
SEED = st.integers(0, 2**16)


def run(
    x: Array, parameters: list[Array], g: Array, fused: bool, relu: bool = False
) -> dict[str, Array]:
    """Run one step in training; return y, gradients, and the running statistics afterwards."""
    leaves = [mg.Tensor(a).requires_grad_() for a in (x, *parameters[:2])]
    running = [a.copy() for a in parameters[2:]]
    activation = "relu" if relu else None
    y = F.batch_norm(leaves[0], *running, *leaves[1:], True, fused=fused, activation=activation)
    y.backward(mg.Tensor(g))
    names = ("dx", "dgamma", "dbeta")
    gradients = {name: leaf.grad.data for name, leaf in zip(names, leaves, strict=True)}
    return {"y": y.data, **gradients, "mean": running[0], "var": running[1]}


def drawn(shape: tuple[int, ...], dtype: Any, of_parameters: Any, seed: int) -> tuple[Any, ...]:
    """Return x, the channels' gamma, beta, running mean and variance, and g."""
    rng = np.random.default_rng(seed)
    parameters = [rng.uniform(0.5, 2, shape[1]).astype(of_parameters) for _ in range(4)]
    return (
        rng.standard_normal(shape).astype(dtype),
        parameters,
        rng.standard_normal(shape).astype(dtype),
    )


@st.composite
def shapes(draw: Any, least: int) -> tuple[int, ...]:
    """Draw (n, c, ...) with at least two values for each channel, or none."""
    shape = draw(st.lists(st.integers(least, 5), min_size=2, max_size=4))
    if np.prod(shape) == shape[1]:
        shape[0] += 1
    return tuple(shape)


# --- poison -------------------------------------------------------------------------------------


@st.composite
def poisons(draw: Any) -> dict[str, Any]:
    """Draw a shape, and values to put into elements of some of its channels."""
    shape = draw(shapes(1))
    size = int(np.prod(shape))
    values = st.sampled_from([np.nan, np.inf, -np.inf])
    places = st.dictionaries(st.integers(0, size - 1), values, min_size=1, max_size=4)
    return {"shape": shape, "places": draw(places), "dtype": draw(FLOATS), "seed": draw(SEED)}


@given(poison=poisons(), relu=st.booleans())
@example(  # two infinities of one sign, the first value among them
    poison={"shape": (4, 2), "places": {0: np.inf, 2: np.inf}, "dtype": np.float32, "seed": 0},
    relu=False,
)
@many
def test_poison_in_x(poison: dict[str, Any], relu: bool) -> None:
    """NaNs are in the same places, and healthy channels stay finite.

    Running statistics agree in what is finite: the mean of an infinity may be one, or NaN.
    """
    shape = poison["shape"]
    x, parameters, g = drawn(shape, poison["dtype"], poison["dtype"], poison["seed"])
    x.flat[list(poison["places"])] = list(poison["places"].values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it passes silently
        fused, composed = (run(x, parameters, g, form, relu) for form in (True, False))
    healthy = np.isfinite(x).all(axis=(0, *range(2, x.ndim)))
    for name, mine in fused.items():
        other = composed[name]
        if name not in ("mean", "var"):
            np.testing.assert_array_equal(np.isnan(mine), np.isnan(other), name)
        np.testing.assert_array_equal(np.isfinite(mine), np.isfinite(other), name)
        by_channel = mine if mine.ndim == 1 else np.moveaxis(mine, 1, 0)
        assert np.isfinite(by_channel[healthy]).all(), name


@given(poison=poisons(), relu=st.booleans())
@many
def test_a_healthy_channel_is_as_without_poison_elsewhere(
    poison: dict[str, Any], relu: bool
) -> None:
    """Every bit of it is the same."""
    shape = poison["shape"]
    x, parameters, g = drawn(shape, poison["dtype"], poison["dtype"], poison["seed"])
    clean = run(x, parameters, g, True, relu)
    x.flat[list(poison["places"])] = list(poison["places"].values())
    healthy = np.isfinite(x).all(axis=(0, *range(2, x.ndim)))
    for name, mine in run(x, parameters, g, True, relu).items():
        axis = 0 if mine.ndim == 1 else 1
        one, other = (np.compress(healthy, a, axis) for a in (mine, clean[name]))
        assert one.tobytes() == other.tobytes(), name


# --- nothing, and dtypes that differ ------------------------------------------------------------


@given(shape=shapes(0), seed=SEED, dtype=FLOATS, of_parameters=FLOATS, relu=st.booleans())
@example((0, 3), 0, np.float64, np.float32, False)
@example((4, 0), 0, np.float32, np.float32, False)
@example((2, 3, 0), 0, np.float32, np.float64, True)
@example((0, 3, 2, 2), 0, np.float64, np.float64, True)
@example((2, 3), 63130, np.float64, np.float64, False)
@many
def test_empty_batches_and_mixed_dtypes(
    shape: tuple[int, ...], seed: int, dtype: Any, of_parameters: Any, relu: bool
) -> None:
    """Results have the dtype of x; gradients and statistics that of what they belong to."""
    x, parameters, g = drawn(shape, dtype, of_parameters, seed)
    fused, composed = (run(x, parameters, g, form, relu) for form in (True, False))
    unit = max(np.finfo(dtype).eps, np.finfo(of_parameters).eps)
    for name, mine in fused.items():
        other = composed[name]
        expected = dtype if name in ("y", "dx") else of_parameters
        assert mine.dtype == other.dtype == expected, name
        assert mine.shape == other.shape == (shape if name in ("y", "dx") else shape[1:2]), name
        size = max(np.abs(other).max(initial=0.0), 1.0)
        # x_hat has up to 1 / sqrt(var + eps) times the rounding of x. dx has this factor once more,
        # and its terms may cancel.
        atol = 20 * unit * size * steepness(x) ** (2 if name == "dx" else 1)
        np.testing.assert_allclose(mine, other, rtol=0, atol=atol, err_msg=name)
    if not x.size:
        for name, before in zip(("mean", "var"), parameters[2:], strict=True):
            assert fused[name].tobytes() == composed[name].tobytes() == before.tobytes()
        assert not fused["dgamma"].any() and not fused["dbeta"].any()


def steepness(x: Array) -> float:
    """Return the largest 1 / sqrt(var + eps), at least 1."""
    if not x.size:
        return 1.0
    variances = x.astype(np.float64).var(axis=(0, *range(2, x.ndim)))
    return max(1.0, float(1 / np.sqrt(variances.min() + 1e-5)))
