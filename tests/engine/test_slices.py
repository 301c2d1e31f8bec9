"""The gradients of slices gather in one array, instead of an array of zeros for each."""

import numpy as np
import pytest
from leaves import assert_tensor, leaf

import minigrad as mg
from minigrad.ops.primitive import TABLE

MASK = np.array([True, False, True, True])


INDICES = [
    1,
    -1,
    slice(1, 3),
    slice(None, None, -2),
    (slice(None), 2),
    (..., None, 0),
    (2, 3),
    (),
    MASK,
    (MASK, 1),
    np.array([3, 0, 3]),
    np.array([[1, -1], [1, 0]]),
    (np.array([0, 0, 2]), np.array([1, 1, 4])),
    (slice(1, None), np.array([2, 2])),
]


@pytest.fixture
def scattered(monkeypatch):
    """Return the list of shapes of the arrays of zeros that scatter makes."""
    shapes, forward = [], TABLE["scatter"].forward

    def counted(g, *arrays, index, shape):
        shapes.append(shape)
        return forward(g, *arrays, index=index, shape=shape)

    monkeypatch.setattr(TABLE["scatter"], "forward", counted)
    return shapes


def sum_of_slices(x):
    """Return a sum over each index twice, with weights, between other uses of x."""
    total = (x * 2.0).sum()
    for k, index in enumerate(INDICES * 2, 1):
        total = total + (x[index] * float(k)).sum()
        if k % 10 == 0:
            total = total + (x.T @ x).sum()
    return total


@pytest.mark.parametrize("order", ["C", "F"])
def test_slices_gather_in_one_array(scattered, order):
    """The gradient is that of a recorded backward pass, where each slice is an array of zeros."""
    values = np.asarray(np.arange(20.0).reshape(4, 5), order=order)
    x, recorded = leaf(values), leaf(values)
    sum_of_slices(recorded).backward(create_graph=True)
    assert len(scattered) == 2 * len(INDICES)
    scattered.clear()
    sum_of_slices(x).backward()
    assert scattered == [(4, 5)]
    np.testing.assert_array_equal(x.grad.data, recorded.grad.data)


def test_slices_of_results_gather_too(scattered):
    """This holds if the result itself is a target, and if the tape is kept."""
    x = leaf(np.arange(6.0))
    y = x * x
    total = y[0] + y[1] * y[2] + y[3:].sum() + y[0]
    for _ in range(2):
        dx, dy = mg.grad(total, [x, y], retain_graph=True)
        assert_tensor(dy, [2, 4, 1, 1, 1, 1])
        assert_tensor(dx, [0, 8, 4, 6, 8, 10])
    assert scattered == [(6,), (6,)]


@pytest.mark.parametrize("use", [lambda y: y, lambda y: y.reshape(4), lambda y: y.T + 0.0])
def test_slices_are_not_added_to_an_array_that_others_hold(use):
    """The cotangent of a sum is lent to both terms; it may be the user's own, or a view of it."""
    x, other, g = leaf(np.zeros((2, 2))), leaf(np.zeros((2, 2))), np.ones((2, 2))
    y = x + other
    slices = [y[0], y[1], y[0, 0], y[0]]
    z = use(y)  # later, and so its cotangent comes to y before those of the slices
    given = g.reshape(z.shape)
    mg.grad([z, *slices], x, [given, *[np.ones(s.shape) for s in slices]], retain_graph=True)
    np.testing.assert_array_equal(g, 1)
    shared = (x + other) * 1.0
    whole = (shared * g).sum() + sum(x[i].sum() for i in (0, 1, 0)) + other[0, 0] + other[0, 1]
    whole.backward()
    np.testing.assert_array_equal(g, 1)
    assert_tensor(x.grad, [[3, 3], [2, 2]])
    assert_tensor(other.grad, [[2, 2], [1, 1]])
