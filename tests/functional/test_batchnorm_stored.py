"""BatchNorm agrees with PyTorch's stored results, and with PyTorch itself where it is installed."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from batchnorm_cases import fused  # noqa: F401

import minigrad as mg
from minigrad import functional as F
from minigrad import nn

STORED = Path(__file__).with_name("stored")
CASES = json.loads((STORED / "batchnorm.json").read_text(encoding="utf-8"))["cases"]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is only needed for these comparisons")


def assert_close(actual, exact, rtol=1e-13):
    """Check equality within rtol of the largest element: errors are those of sums."""
    if exact is None:
        assert actual is None
    else:
        np.testing.assert_equal(np.shape(actual), np.shape(exact))
        size = np.max(np.abs(exact), initial=0)
        np.testing.assert_allclose(actual, exact, rtol=0, atol=rtol * size)


# --- stored results -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_results_are_as_stored(case):
    """They are those of training batches in turn, then of eval, with gradients and statistics."""
    stored = CASES[case]
    channels = np.shape(stored["batches"][0]["x"])[1]
    bn = getattr(nn, stored["layer"])(channels, **stored["options"]).double()
    if bn.affine:
        with mg.no_grad():
            bn.weight.copy_(np.array(stored["gamma"]))
            bn.bias.copy_(np.array(stored["beta"]))
    for batch in stored["batches"]:
        x = mg.tensor(np.array(batch["x"]), requires_grad=True)
        bn.zero_grad()
        y = bn.train(batch["training"])(x)
        y.backward(np.array(batch["g"]))
        assert_close(y, batch["y"])
        assert_close(x.grad, batch["dx"])
        if bn.affine:
            assert_close(bn.weight.grad, batch["dgamma"])
            assert_close(bn.bias.grad, batch["dbeta"])
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            assert_close(getattr(bn, name), batch[name])


def test_the_stored_results_are_what_the_script_makes(torch):
    made = runpy.run_path(str(STORED / "make_batchnorm.py"))["make"]()["cases"]
    assert list(made) == list(CASES)
    for name, case in made.items():
        stored = CASES[name]
        for key in ("layer", "options", "gamma", "beta"):
            assert case[key] == stored[key]
        for batch, before in zip(case["batches"], stored["batches"], strict=True):
            assert batch.keys() == before.keys()
            for key in ("training", "x", "g"):
                assert batch[key] == before[key]
            for key in batch.keys() - {"training", "x", "g"}:
                assert_close(batch[key], before[key], 1e-12)


# --- PyTorch itself -----------------------------------------------------------------------------


def sample(shape, seed, dtype=np.float64, offset=0.0):
    """Return x, gamma, beta, a cotangent g and a cotangent of dx."""
    rng = np.random.default_rng(seed)
    x = offset + rng.standard_normal(shape)
    gamma, beta = rng.uniform(0.5, 2.0, shape[1]), rng.standard_normal(shape[1])
    given = (x, gamma, beta, rng.standard_normal(shape), rng.standard_normal(shape))
    return [a.astype(dtype) for a in given]


def both(torch, given, dtype, **options):
    """Return y, dx, dgamma, dbeta, running mean and variance, of minigrad and of PyTorch."""
    x, gamma, beta, g, _ = given
    results = []
    for engine, functional in ((mg, F), (torch, torch.nn.functional)):
        leaves = [engine.tensor(a.astype(dtype), requires_grad=True) for a in (x, gamma, beta)]
        mean, var = (engine.tensor(f(len(gamma), dtype=dtype)) for f in (np.zeros, np.ones))
        y = functional.batch_norm(leaves[0], mean, var, *leaves[1:], **options)
        y.backward(engine.tensor(g.astype(dtype)))
        found = (y.detach(), *(t.grad for t in leaves), mean, var)
        results.append([t.numpy() for t in found])
    return results


@pytest.mark.parametrize(
    "shape", [(3, 1), (7, 3), (64, 5), (3, 4, 6), (2, 3, 5, 4), (2, 2, 3, 2, 2)]
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_float64_agrees_with_pytorch(torch, shape, training, eps):
    for seed in range(5):
        given = sample(shape, seed, offset=seed)
        ours, theirs = both(torch, given, np.float64, training=training, eps=eps, momentum=0.3)
        for actual, exact in zip(ours, theirs, strict=True):
            assert_close(actual, exact, 1e-11)


@pytest.mark.parametrize("shape", [(7, 3), (2, 3, 5, 4)])
@pytest.mark.parametrize("training", [True, False])
def test_second_derivatives_agree_with_pytorch(torch, shape, training):
    """The derivatives are those of sum(v * dx) with respect to x, gamma and the cotangent g."""
    x, gamma, beta, g, v = sample(shape, 1)
    statistics = np.full(3, 0.5), np.full(3, 2.0)
    found = []
    for engine, functional, grad in (
        (mg, F, mg.grad),
        (torch, torch.nn.functional, torch.autograd.grad),
    ):
        a, w, b, c = (engine.tensor(t, requires_grad=True) for t in (x, gamma, beta, g))
        mean, var = (engine.tensor(s) for s in statistics)
        y = functional.batch_norm(a, mean, var, w, b, training)
        (dx,) = grad([y], [a], [c], create_graph=True)
        wanted = [a, w, c] if training else [w, c]  # in eval mode dx does not depend on x
        found.append([t.detach().numpy() for t in grad([dx], wanted, [engine.tensor(v)])])
    for actual, exact in zip(*found, strict=True):
        assert_close(actual, exact, 1e-11)


@pytest.mark.parametrize("offset", [0, 1, 10, 1000])
@pytest.mark.parametrize("shape", [(16, 8), (256, 8), (8, 8, 7, 7)])
def test_float32_is_as_exact_as_pytorch(torch, shape, offset):
    """Errors against PyTorch's float64, as root mean squares, are those of PyTorch's float32.

    Subtracting, scaling twice and shifting round four times for each element. PyTorch folds them
    into x * a + b, which rounds twice: a factor of sqrt(2), and more where its sums are exact by
    luck. Beyond that, minigrad may not lose anything that PyTorch does not.
    """
    ours, theirs = [], []
    for seed in range(10):
        given = sample(shape, seed, np.float32, offset)
        reference = both(torch, given, np.float64, training=True)[1]
        for errors, found in zip(
            (ours, theirs), both(torch, given, np.float32, training=True), strict=True
        ):
            errors.append([np.mean((f - r) ** 2) for f, r in zip(found, reference, strict=True)])
    for name, a, b in zip(
        ("y", "dx", "dgamma", "dbeta", "running_mean", "running_var"),
        np.sqrt(np.mean(ours, 0)),
        np.sqrt(np.mean(theirs, 0)),
        strict=True,
    ):
        assert a <= 1.5 * b, f"{name}: {a:.3g}, PyTorch {b:.3g}"
