"""Tensors that require grad, and exact comparisons."""

import numpy as np

import minigrad as mg


def leaf(data, dtype=np.float64):
    """Return a leaf that requires grad."""
    return mg.tensor(np.array(data, dtype), requires_grad=True)


def assert_tensor(actual, expected, dtype=np.float64):
    """Check the exact values, shape and dtype."""
    assert actual.dtype == dtype
    np.testing.assert_array_equal(actual.numpy(), np.array(expected, dtype), strict=True)


def set_grad(p, values):
    """Give p a gradient of its own dtype."""
    p.grad = mg.tensor(np.broadcast_to(values, p.shape).astype(p.dtype))
