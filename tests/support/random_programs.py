"""Random programs of two arrays, in which each step uses earlier results, and a check of one."""

import warnings

import numpy as np
from hypothesis import strategies as st

import minigrad as mg
from minigrad import functional as F

UNARY = [
    lambda a: a.exp() * 0.1,
    lambda a: a.tanh(),
    lambda a: a.relu(),
    lambda a: a.sigmoid(),
    lambda a: -a,
    lambda a: a * a,
    lambda a: a.abs(),
    lambda a: F.softplus(a),
    lambda a: F.softmax(a, -1) if a.ndim else a,
    lambda a: a.clip(-0.5, None),
    lambda a: mg.where(a > 0.1, a, a * 0.3),
    lambda a: a - a.mean(),
    lambda a: a.sum(0, keepdims=True) if a.ndim else a,
    lambda a: a.mean(-1) if a.ndim else a,
    lambda a: a.max(0) if a.ndim else a,
    lambda a: a.var(0) if a.ndim and a.shape[0] > 1 else a,
    lambda a: a.reshape(-1),
    lambda a: a.T @ a * 0.1 if a.ndim == 2 else a,
    lambda a: a[0] if a.ndim else a,
    lambda a: a.detach() * a,
    lambda a: a.unsqueeze(0),
    lambda a: a.flatten(),
]


BINARY = [
    lambda a, b: a + b,
    lambda a, b: a - b * 0.5,
    lambda a, b: a * b,
    lambda a, b: a / (b * b + 1.0),
    mg.maximum,
    mg.minimum,
    lambda a, b: mg.where(a > b, a, 2.0 * b),
]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just(1), st.integers(0, len(UNARY) - 1), st.integers(0, 9), st.just(0)),
        st.tuples(
            st.just(2), st.integers(0, len(BINARY) - 1), st.integers(0, 9), st.integers(0, 9)
        ),
    ),
    min_size=1,
    max_size=10,
)


SHAPES = [(3, 4), (4,), (1, 4), (3, 1), (), (2, 3, 4)]


def program(steps, inputs):
    """Apply the steps to results so far; if shapes do not fit, apply them to the first alone."""
    found = list(inputs)
    for arity, which, i, j in steps:
        a, b = found[i % len(found)], found[j % len(found)]
        try:
            np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            b = a
        found.append(UNARY[which](a) if arity == 1 else BINARY[which](a, b))
    return found[-1]


def zeros_for_none(gradients, inputs):
    """Return the gradients, with zeros in place of None."""
    pairs = zip(gradients, inputs, strict=True)
    return [mg.tensor(0.0 * x.data) if g is None else g for g, x in pairs]


def compiled_is_eager(steps, shapes, seed):
    """Check that a program's results and gradients agree compiled and eagerly, in float64."""

    def both(*inputs):
        y = program(steps, inputs)
        grads = mg.grad((y * y).sum(), inputs, allow_unused=True)
        return y, [g for g in grads if g is not None]

    def arrays(seed):
        rng = np.random.default_rng(seed)
        return [
            mg.tensor(rng.standard_normal(s).astype(np.float64)).requires_grad_() for s in shapes
        ]

    compiled = mg.compile(both)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            compiled(*arrays(100))
    except mg.errors.GradError:  # the result may depend on neither
        return
    for other in (seed, seed + 10):
        y, grads = compiled(*arrays(other))
        expected, expected_grads = both(*arrays(other))
        np.testing.assert_allclose(y.data, expected.data, rtol=1e-10, atol=1e-12)
        for a, b in zip(grads, expected_grads, strict=True):
            close(a, b)


def differentiable_is_eager(steps, shapes, seed):
    """Check that the derivatives of a compiled program, to second order, are the eager ones."""

    def derivatives(f, seed):
        rng = np.random.default_rng(seed)
        inputs = [mg.tensor(rng.standard_normal(s), requires_grad=True) for s in shapes]
        y = f(*inputs)
        if not y.requires_grad:
            return [y]
        loss = (y * y).sum()
        first = mg.grad(loss, inputs, retain_graph=True, allow_unused=True)
        recorded = mg.grad(loss, inputs, create_graph=True, allow_unused=True)
        total = sum((g * g).sum() for g in recorded if g is not None)
        second = [None] * len(inputs)
        if isinstance(total, mg.Tensor) and total.requires_grad:
            second = mg.grad(total, inputs, allow_unused=True)
        found = [zeros_for_none(grads, inputs) for grads in (first, recorded, second)]
        return [y, *(g for grads in found for g in grads)]

    def eager(*inputs):
        return program(steps, inputs)

    compiled = mg.compile(eager)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for other in (100, seed, seed + 10):
            for a, b in zip(derivatives(compiled, other), derivatives(eager, other), strict=True):
                close(a, b)


def close(a, b):
    """Check that two gradients agree; where terms cancel, up to rounding of the terms."""
    scale = 1e-3 + np.abs(b.data).max(initial=0.0)
    np.testing.assert_allclose(a.data / scale, b.data / scale, rtol=1e-10, atol=1e-10)
