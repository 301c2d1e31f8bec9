"""Layers of BatchNorm, fused and composed, have, compute and remember what they should."""

import itertools

import numpy as np
import pytest
from batchnorm_cases import expected, fused, normal, state, statistics  # noqa: F401

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.errors import GradError, ShapeError

LAYERS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
SHAPES = [(6, 3), (4, 3, 5), (1, 3, 2, 4), (2, 3, 2, 1, 3)]


# --- construction and the formulas --------------------------------------------------------------


@pytest.mark.parametrize("cls", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])
def test_gamma_is_ones_beta_zeros_and_both_are_made_by_the_constructor(cls):
    bn = cls(3)
    named = dict([*bn.named_parameters(), *bn.named_buffers()])
    values = {n: (t.tolist(), t.dtype.name, t.requires_grad) for n, t in named.items()}
    assert values == {
        "weight": ([1, 1, 1], "float32", True),
        "bias": ([0, 0, 0], "float32", True),
        "running_mean": ([0, 0, 0], "float32", False),
        "running_var": ([1, 1, 1], "float32", False),
        "num_batches_tracked": (0, "int64", False),
    }
    assert (bn.eps, bn.momentum, bn.affine, bn.track_running_stats) == (1e-5, 0.1, True, True)
    assert list(cls(3, affine=False).parameters()) == []
    bare = cls(3, track_running_stats=False)
    assert list(bare.named_buffers()) == [] and bare.running_var is bare.num_batches_tracked is None


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("affine", [True, False])
def test_training_then_eval(shape, dtype, affine):
    bn = LAYERS[len(shape)](3, eps=1e-3, momentum=0.25, affine=affine).to(dtype)
    gamma, beta = (np.array([2, -1, 0.5]), np.array([1, 0, -3.0])) if affine else (None, None)
    with mg.no_grad():
        for p, values in zip(bn.parameters(), (gamma, beta), strict=False):
            p.copy_(values)
    unit = np.finfo(dtype).eps
    mean, var = np.zeros(3), np.ones(3)
    for seed in range(3):
        x = 1 + 2 * normal(shape, dtype, seed)
        y = bn(x)
        assert (y.shape, y.dtype) == (x.shape, dtype)
        batch_mean, batch_var = statistics(x)
        mean, var = 0.75 * mean + 0.25 * batch_mean, 0.75 * var + 0.25 * batch_var
        exact = expected(x, gamma=gamma, beta=beta, eps=1e-3)
        np.testing.assert_allclose(y.numpy(), exact, rtol=0, atol=16 * unit)
    np.testing.assert_allclose(bn.running_mean.numpy(), mean, rtol=0, atol=4 * unit)
    np.testing.assert_allclose(bn.running_var.numpy(), var, rtol=4 * unit)
    assert bn.num_batches_tracked.item() == 3
    before = state(bn.eval())
    mean, var = bn.running_mean.numpy(), bn.running_var.numpy()
    exact = expected(x, mean, var, gamma, beta, 1e-3)
    np.testing.assert_allclose(bn(x).numpy(), exact, rtol=0, atol=16 * unit)
    assert state(bn) == before
    assert bn(x[:1]).shape == x[:1].shape  # one value per channel will do in eval mode


def test_no_grad_does_not_stop_the_statistics():
    x, bn, other = normal((4, 3)), nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    with mg.no_grad():
        assert not bn(x).requires_grad
    other(x)
    assert [t.tolist() for t in bn.buffers()] == [t.tolist() for t in other.buffers()]
    assert bn.num_batches_tracked.item() == 1


@pytest.mark.parametrize("momentum", [0.0, 1.0, None])
def test_momentum_freezes_replaces_or_averages(momentum):
    bn = nn.BatchNorm2d(2, momentum=momentum).double()
    seen = [(np.zeros(2), np.ones(2))]
    for seed in range(4):
        x = normal((3, 2, 2, 2), np.float64, seed) * (seed + 1)
        bn(x)
        seen.append(statistics(x))
        # The counter goes up first, so that the initial values weigh nothing with momentum None.
        mean, var = {
            0.0: seen[0],
            1.0: seen[-1],
            None: (np.mean([m for m, _ in seen[1:]], 0), np.mean([v for _, v in seen[1:]], 0)),
        }[momentum]
        np.testing.assert_allclose(bn.running_mean.numpy(), mean, rtol=0, atol=1e-15)
        np.testing.assert_allclose(bn.running_var.numpy(), var, rtol=1e-14)
        assert bn.num_batches_tracked.item() == seed + 1


def test_without_statistics_batches_are_normalised_by_themselves_in_eval_too():
    x = normal((5, 3), np.float64)
    bare = nn.BatchNorm1d(3, track_running_stats=False).double()
    removed = nn.BatchNorm1d(3).double()
    removed.running_mean = removed.running_var = None
    for bn, training in itertools.product((bare, removed), (True, False)):
        y = bn.train(training)(x).numpy()
        np.testing.assert_allclose(y, expected(x), rtol=0, atol=1e-14)
        with pytest.raises(ShapeError, match="more than 1 value per channel"):
            bn(x[:1])


def test_statistics_are_frozen_when_tracking_is_switched_off_later():
    x, bn = normal((5, 3)), nn.BatchNorm1d(3)
    bn(x)
    bn.track_running_stats = False
    before = state(bn)
    np.testing.assert_allclose(bn(x + 1).numpy(), expected(x), rtol=0, atol=1e-6)
    assert state(bn) == before
    y = bn.eval()(x).numpy()
    exact = expected(x, bn.running_mean.numpy(), bn.running_var.numpy())
    np.testing.assert_allclose(y, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["running_mean", "running_var", "num_batches_tracked"])
def test_an_update_counts_as_a_change_in_place(name):
    """A backward pass that has used a statistic must not go on with another value of it."""
    bn, w = nn.BatchNorm1d(3), mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    loss = (w * getattr(bn, name)).sum()
    bn(normal((4, 3)))
    with pytest.raises(GradError, match="changed in place"):
        loss.backward()


@pytest.mark.parametrize("make", [mg.tensor, np.array, lambda a: np.repeat(a, 2)[::2]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functional_updates_tensors_and_arrays_in_place(make, dtype):
    x = normal((4, 3, 2), dtype)
    mean, var = make(np.array([1, 2, 3], dtype)), make(np.array([4, 5, 6], dtype))
    F.batch_norm(x, mean, var, training=True, momentum=0.5)
    batch_mean, batch_var = statistics(x)
    unit = np.finfo(dtype).eps
    np.testing.assert_allclose(mean, (np.array([1, 2, 3]) + batch_mean) / 2, rtol=2 * unit)
    np.testing.assert_allclose(var, (np.array([4, 5, 6]) + batch_var) / 2, rtol=2 * unit)
    y = F.batch_norm(x, mean, var, eps=0.0).numpy()
    np.testing.assert_allclose(y, expected(x, mean, var, eps=0.0), rtol=0, atol=8 * unit)


def test_read_only_statistics_serve_in_eval_mode():
    x, mean, var = normal((4, 3)), np.full(3, 1, np.float32), np.full(3, 2, np.float32)
    mean.flags.writeable = var.flags.writeable = False
    y = F.batch_norm(x, mean, var).numpy()
    np.testing.assert_allclose(y, expected(x, mean, var), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0, 5)])
@pytest.mark.parametrize("training", [True, False])
def test_an_empty_batch_has_an_empty_y_and_zero_gradients(shape, training):
    bn = LAYERS[len(shape)](3, momentum=None).train(training)
    before = state(bn)
    x = mg.tensor(np.empty(shape, np.float32), requires_grad=True)
    y = bn(x)
    y.backward(np.empty(shape, np.float32))
    assert (y.shape, y.dtype, x.grad.shape) == (shape, np.float32, shape)
    assert bn.weight.grad.tolist() == bn.bias.grad.tolist() == [0, 0, 0]
    bn.zero_grad()
    assert state(bn) == before
