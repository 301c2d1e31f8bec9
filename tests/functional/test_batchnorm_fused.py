"""The fused BatchNorm agrees with the composed one: values, gradients of both orders, statistics.

The other test_batchnorm files run for both, and test what either must do by itself.
"""

from __future__ import annotations

import pickle
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.engine.tape import tape
from minigrad.errors import DtypeError, GradError
from minigrad.kernels.jit.decorators import KERNELS
from minigrad.kernels.threading import pool

Array = NDArray[Any]
jit_only = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="only the compiler makes it quick enough"
)

# --- anything drawn -----------------------------------------------------------------------------


@st.composite
def problems(draw: Any) -> dict[str, Any]:
    """Draw shapes, strides, dtypes, absent parts, and the scale and offset of the data."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=2, max_size=5)))
    if np.prod(shape) == shape[1]:
        shape = (shape[0] + 1, *shape[1:])
    return {
        "shape": shape,
        "dtype": draw(st.sampled_from([np.float32, np.float64])),
        "layout": draw(st.sampled_from(["C", "F", "gaps", "reversed", "broadcast"])),
        "parts": draw(st.tuples(st.booleans(), st.booleans(), st.booleans())),
        # eps in units of scale^2, offset of scale
        "eps": draw(st.sampled_from([1e-3, 0.1, 1.0])),
        "momentum": draw(st.sampled_from([0.0, 0.1, 1.0])),
        "offset": draw(st.sampled_from([0.0, -3.0, 30.0])),
        "scale": draw(st.sampled_from([1e-3, 1.0, 30.0])),
        "training": draw(st.booleans()),
        "relu": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**16)),
    }


def laid_out(a: Array, layout: str) -> Array:
    """Return equal elements in other memory; "broadcast" repeats the first along the last axis."""
    if layout == "F":
        return np.asfortranarray(a)
    if layout == "gaps":
        return np.repeat(a, 2, axis=0)[::2]
    if layout == "reversed":
        return a[..., ::-1].copy()[..., ::-1]
    if layout == "broadcast" and a.ndim > 2:
        return np.broadcast_to(a[..., :1], a.shape)
    return a


def results(problem: dict[str, Any], fused: bool) -> list[Array | None]:
    """Return y, gradients, second gradients, and the running statistics afterwards."""
    rng, dtype = np.random.default_rng(problem["seed"]), problem["dtype"]
    shape, (weight, bias, track) = problem["shape"], problem["parts"]
    data = problem["scale"] * (problem["offset"] + rng.standard_normal(shape))
    x = mg.Tensor(laid_out(data.astype(dtype), problem["layout"])).requires_grad_()
    gamma = mg.tensor(rng.uniform(0.5, 2, shape[1]).astype(dtype), requires_grad=True)
    beta = mg.tensor(rng.standard_normal(shape[1]).astype(dtype), requires_grad=True)
    running = [rng.standard_normal(shape[1]), rng.uniform(0.5, 2, shape[1])]
    running = [a.astype(dtype) for a in running]
    g, u = (laid_out(rng.standard_normal(shape).astype(dtype), problem["layout"]) for _ in "gu")
    before = [a.tobytes() for a in (x.data, gamma.data, beta.data, g)]
    y = F.batch_norm(
        x,
        *(running if track or not problem["training"] else (None, None)),
        gamma if weight else None,
        beta if bias else None,
        problem["training"],
        problem["momentum"],
        problem["eps"] * problem["scale"] ** 2,
        fused,
        "relu" if problem["relu"] else None,
    )
    inputs = [t for t, used in ((x, True), (gamma, weight), (beta, bias)) if used]
    first = mg.grad(y, inputs, mg.Tensor(g), create_graph=True)
    total = (first[0] * mg.Tensor(u)).sum()
    second: tuple[Any, ...] = ()
    if total.requires_grad and problem["training"]:
        second = mg.grad(total, inputs[:2] if weight else inputs[:1], allow_unused=True)
    assert [a.tobytes() for a in (x.data, gamma.data, beta.data, g)] == before
    made = [y, *first, *(t for t in second if t is not None)]
    held = [x.data, gamma.data, beta.data, g, *running]
    for i, t in enumerate(made):
        others = [*held, *(other.data for other in made[:i])]
        assert not any(np.may_share_memory(t.data, a) for a in others)
    return [*(None if t is None else t.data for t in (y, *first, *second)), *running]


LARGE_VALUES_WITH_A_SMALL_MEAN = {
    "shape": (4, 2, 4, 4), "dtype": np.float64, "layout": "reversed", "parts": (True, True, True),
    "eps": 1.0, "momentum": 1.0, "offset": 0.0, "scale": 30.0, "training": True, "relu": False,
    "seed": 4,
}  # fmt: skip


@given(problem=problems())
@example(LARGE_VALUES_WITH_A_SMALL_MEAN)
@settings(max_examples=150)
def test_fused_equals_composed(problem: dict[str, Any]) -> None:
    """They differ by the rounding of the composed form's mean, unit * |mean| / std.

    1 / std, at most 1 / sqrt(eps) in units of the scale, carries it into y, dx and second
    derivatives.
    """
    unit = np.finfo(problem["dtype"]).eps * (1 + abs(problem["offset"]))
    steep = problem["eps"] ** -0.5
    both = [results(problem, fused) for fused in (True, False)]
    n_first = 2 + sum(problem["parts"][:2])  # y, dx, and dgamma and dbeta where there are such
    for i, (mine, other) in enumerate(zip(*both, strict=True)):
        # Of g - mean(g) - ..., which may cancel, 1 / std makes dx and second derivatives.
        carried = i == 1 or n_first <= i < len(both[0]) - 2
        bound = 20 * unit * steep / (min(problem["scale"], 1.0) if carried else 1.0)
        assert (mine is None) == (other is None)
        if mine is not None and other is not None:
            assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
            # beta and x_hat may cancel, or relu leave little; the terms of the mean are values of x
            least = max(1.0, problem["scale"]) if i == len(both[0]) - 2 else 1.0
            size = max(np.abs(other).max(), least)
            np.testing.assert_allclose(mine, other, rtol=0, atol=bound * size)


@pytest.mark.parametrize("shape", [(40, 3), (4, 3, 10), (2, 3, 4, 5)])
@pytest.mark.parametrize("relu", [False, True])
def test_second_and_third_derivatives_equal_the_composed_ones(
    shape: tuple[int, ...], relu: bool
) -> None:
    """They agree to 1e-9 in float64, for every input with every other."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) for s in (shape, (3,), (3,), shape, shape)]

    def derivatives(fused: bool) -> list[Array]:
        x, gamma, beta, g, u = (mg.tensor(a, requires_grad=True) for a in arrays)
        y = F.batch_norm(
            x, None, None, gamma, beta, True, 0.1, 1e-5, fused, "relu" if relu else None
        )
        first = mg.grad(y, [x, gamma, beta], g, create_graph=True)
        total = (first[0] * u).sum() + (first[1] * gamma).sum() + (first[2] * beta).sum()
        second = mg.grad(total, [x, gamma, g], create_graph=True)
        third = mg.grad((second[0] * u).sum() + (second[2] ** 2).sum(), [x, gamma, g])
        return [t.data for t in (*first, *second, *third)]

    for mine, other in zip(*map(derivatives, (True, False)), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-9 * np.abs(other).max())


# --- what a kernel and the tape do together -----------------------------------------------------


def recorded(y: Any) -> list[str]:
    """Return the primitives on the tape."""
    return [record.primitive.name for record in tape([y])]


def test_the_tape_holds_one_record_and_the_backward_pass_another() -> None:
    x = mg.tensor(np.random.default_rng(0).standard_normal((5, 3)), requires_grad=True)
    y = F.batch_norm(x, training=True)
    assert recorded(y) == ["batch_norm"]
    (dx,) = mg.grad(y, x, mg.Tensor(y.data**2), create_graph=True)
    assert recorded(dx) == ["batch_norm_grad"]
    assert recorded(F.batch_norm(x, training=True, fused=False))[0] == "mean"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("shape", "threaded"),
    [
        ((40, 16), False),
        ((300, 8), False),
        ((300, 64), True),
        ((6, 8, 40), False),
        # Sizes from which sums are taken in longer runs, and planes in groups.
        pytest.param((3000, 90), False, marks=jit_only),
        pytest.param((3000, 90), True, marks=jit_only),
        pytest.param((4, 70, 1000), False, marks=jit_only),
    ],
)
def test_each_subset_of_gradients_equals_the_full_run_bit_for_bit(
    shape: tuple[int, ...], threaded: bool, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for one call, and for steps and threads."""
    monkeypatch.setattr(pool, "THREADED", 1 if threaded else 1 << 60)
    rng = np.random.default_rng(0)
    c = shape[1]
    x, g = (rng.standard_normal(shape, dtype=np.float32) for _ in "xg")
    gamma, beta = (rng.standard_normal(c, dtype=np.float32) for _ in "gb")
    running = np.zeros(c, np.float32), np.ones(c, np.float32)

    def gradients(wanted: tuple[bool, ...]) -> list[bytes | None]:
        leaves = [
            mg.Tensor(a).requires_grad_(n) for a, n in zip((x, gamma, beta), wanted, strict=True)
        ]
        y = F.batch_norm(leaves[0], *running, *leaves[1:], training, 0.0, activation="relu")
        y.backward(g)
        return [None if t.grad is None else t.grad.data.tobytes() for t in leaves]

    full = gradients((True, True, True))
    for subset in range(1, 7):
        wanted = tuple(bool(subset >> i & 1) for i in range(3))
        assert gradients(wanted) == [b if n else None for b, n in zip(full, wanted, strict=True)]


# --- ReLU behind BatchNorm ----------------------------------------------------------------------


def chain(*modules: nn.Module) -> nn.Sequential:
    """Return a Sequential whose BatchNorms have parameters other than the initial ones."""
    rng = np.random.default_rng(1)
    model = nn.Sequential(*modules)
    with mg.no_grad():
        for p in model.parameters():
            p.copy_(rng.standard_normal(p.shape).astype(np.float32))
    return model


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer, shape", [
    (nn.BatchNorm1d, (9, 3)), (nn.BatchNorm1d, (5, 3, 4)), (nn.BatchNorm2d, (4, 3, 2, 5)),
    (nn.BatchNorm3d, (2, 3, 2, 2, 3)),
])  # fmt: skip
def test_sequential_runs_them_in_one_kernel_with_the_same_result(
    layer: Any, shape: tuple[int, ...], training: bool
) -> None:
    x = mg.tensor(np.random.default_rng(0).standard_normal(shape), "float32", requires_grad=True)
    model = chain(layer(3), nn.ReLU(), nn.ReLU()).train(training)
    twin = chain(layer(3), nn.ReLU(), nn.ReLU()).train(training)
    y, z = model(x), x
    for module in twin:
        z = module(z)
    assert recorded(y)[-2:] == ["batch_norm", "relu"]
    assert recorded(z)[-3:] == ["batch_norm", "relu", "relu"]
    np.testing.assert_array_equal(y.data, z.data)
    for (name, a), b in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    g = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    for out, net in ((y, model), (z, twin)):
        out.backward(g)
        net.gradients = [p.grad.data for p in net.parameters()]
    for a, b in zip(model.gradients, twin.gradients, strict=True):
        np.testing.assert_array_equal(a, b)


class Doubled(nn.BatchNorm1d):
    """A Doubled is a user's own layer."""

    def forward(self, x: Any, activation: str | None = None) -> Any:
        """Return twice x."""
        return 2.0 * super().forward(x, activation)


def test_sequential_leaves_alone_what_it_does_not_know() -> None:
    """It leaves a user's own layers, composed BatchNorm, and a method replaced on an instance."""
    x = mg.tensor(np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32))
    x.requires_grad = True
    seen = []
    watched = nn.BatchNorm1d(3)
    watched.forward = lambda x: seen.append(1) or nn.BatchNorm1d.forward(watched, x)
    muted = nn.ReLU()
    muted.forward = lambda x: x * 1.0
    for model in (
        nn.Sequential(Doubled(3), nn.ReLU()),
        nn.Sequential(nn.BatchNorm1d(3, fused=False), nn.ReLU()),
        nn.Sequential(watched, nn.ReLU()),
    ):
        assert recorded(model(x))[-1] == "relu"
    assert seen == [1]
    assert recorded(nn.Sequential(nn.BatchNorm1d(3), muted)(x)) == ["batch_norm", "mul"]
    relu = nn.ReLU()
    shared = nn.Sequential(nn.BatchNorm1d(3), relu, nn.BatchNorm1d(3), relu)
    assert recorded(shared(x)) == ["batch_norm", "batch_norm"]
    assert (shared(x).data >= 0).all()


class Scaled(nn.Module):
    """A Scaled is a layer that computes a Tanh behind it."""

    def forward(self, x: Any, squash: bool = False) -> Any:
        """Return three times x, or its tanh."""
        return (3.0 * x).tanh() + 0.0 if squash else 3.0 * x

    def fusion_with(self, following: nn.Module) -> dict[str, Any]:
        """Take over a Tanh."""
        return {"squash": True} if isinstance(following, nn.Tanh) else {}


def test_a_layer_may_take_over_the_module_that_follows() -> None:
    """It may take over the next module only, and within Sequential only."""
    x = mg.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    assert recorded(nn.Sequential(Scaled(), nn.Tanh())(x)) == ["mul", "tanh", "add"]
    assert recorded(nn.Sequential(Scaled(), nn.Tanh(), nn.Tanh())(x))[-2:] == ["add", "tanh"]
    assert recorded(nn.Sequential(Scaled(), nn.ReLU())(x)) == ["mul", "relu"]
    assert recorded(nn.Sequential(nn.Tanh(), Scaled())(x)) == ["tanh", "mul"]


# --- types, layouts and copies ------------------------------------------------------------------


def test_a_pickled_model_does_the_same_in_as_many_steps() -> None:
    """The dtypes of unpickled arrays are equal to NumPy's own, not identical."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU())
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    twin = pickle.loads(pickle.dumps(model))
    y, z = model(x), twin(pickle.loads(pickle.dumps(x)))
    assert recorded(y) == recorded(z) == ["linear", "batch_norm"]
    np.testing.assert_array_equal(y.data, z.data)


def test_beta_has_no_part_in_the_other_gradients() -> None:
    """In no form does dgamma depend on it, not even through what the forward saved."""
    rng = np.random.default_rng(0)
    for fused in (True, False):
        x, gamma, beta = (mg.tensor(rng.standard_normal(s), requires_grad=True)
                          for s in ((5, 3), (3,), (3,)))  # fmt: skip
        y = F.batch_norm(x, None, None, gamma, beta, True, fused=fused, activation="relu")
        (dgamma,) = mg.grad(y.sum(), gamma, create_graph=True)
        with pytest.raises(GradError, match="outputs do not depend on input 0"):
            mg.grad(dgamma.sum(), beta)


def test_second_derivatives_in_float32_far_from_zero() -> None:
    """They are as exact at mean 1e4 as at 0, since what is subtracted first is exact."""
    rng = np.random.default_rng(0)
    data, g, u = (rng.standard_normal((50, 2)) for _ in "xgu")
    data = (data + 1e4).astype(np.float32)

    def second(dtype: Any) -> Array:
        x = mg.tensor(data.astype(dtype), requires_grad=True)
        y = F.batch_norm(x, training=True)
        (dx,) = mg.grad(y, x, mg.tensor(g.astype(dtype)), create_graph=True)
        return mg.grad((dx * mg.tensor(u.astype(dtype))).sum(), x)[0].data

    exact = second(np.float64)
    np.testing.assert_allclose(second(np.float32), exact, rtol=0, atol=3e-6 * np.abs(exact).max())


def test_statistics_in_float64_beside_float32() -> None:
    """Evaluation takes them as they are: their rounding to float32 would show at mean 1e6."""
    x = (1e6 + np.random.default_rng(0).standard_normal((40, 1))).astype(np.float32)
    mean, var = np.array([1e6 + 0.03]), np.array([1.1])
    exact = (x.astype(np.float64) - mean) / np.sqrt(var + 1e-5)
    y = F.batch_norm(x, mean, var)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.data, exact, rtol=0, atol=1e-6 * np.abs(exact).max())


def test_arrays_that_may_not_be_written_to_are_like_any() -> None:
    """They compile no kernel anew, and neither do 1 and True for 1.0."""
    rng = np.random.default_rng(0)
    x, gamma = rng.standard_normal((6, 3)), rng.standard_normal(3)

    def gradients(x: Array, gamma: Array, **options: Any) -> list[bytes]:
        leaves = [mg.Tensor(a).requires_grad_() for a in (x, gamma)]
        running = np.zeros(3), np.ones(3)
        y = F.batch_norm(leaves[0], *running, leaves[1], None, True, **options)
        y.backward(x)
        return [y.data.tobytes(), *(t.grad.data.tobytes() for t in leaves)]

    def compiled() -> int:
        return sum(len(getattr(k, "signatures", ())) for k in KERNELS.values())

    expected = gradients(x, gamma), gradients(x, gamma, momentum=1.0, eps=1.0)
    before = compiled()
    x.flags.writeable = gamma.flags.writeable = False
    assert gradients(x, gamma) == expected[0]
    assert gradients(x, gamma, momentum=1, eps=np.float32(1)) == expected[1]
    assert compiled() == before


@pytest.mark.parametrize("name", ["training", "fused"])
def test_flags_are_flags(name: str) -> None:
    """A mode given as a text would count as true."""
    with pytest.raises(DtypeError, match=f"batch_norm: {name} must be True or False, got 'eval'"):
        F.batch_norm(np.zeros((3, 2), np.float32), **{"training": True, name: "eval"})
