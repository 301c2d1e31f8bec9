"""Random programs agree compiled and eagerly, on other data than they were traced with.

The source of one step equals its stored copy, which is read before it is replaced.
"""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import functional as F

from .test_compile import batches, make
from .test_table import as_python  # noqa: F401  runs generated functions as Python

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


@settings(max_examples=150)
@given(STEPS, st.tuples(*[st.sampled_from(SHAPES)] * 2), st.integers(0, 3))
def test_random_programs(steps, shapes, seed):
    """Results and gradients agree, in float64."""

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
            scale = 1e-3 + np.abs(b.data).max(initial=0.0)  # where terms cancel, of the terms
            np.testing.assert_allclose(a.data / scale, b.data / scale, rtol=1e-10, atol=1e-10)


GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "composed"])
def test_the_source_of_a_step(fused):
    """The source equals its copy in golden/, which MINIGRAD_WRITE_GOLDEN=1 writes anew."""
    *_, step = make(fused, sizes=(64, 32, 10))
    compiled = mg.compile(step)
    compiled(*batches(1, 16, 64, 10)[0])
    path = GOLDEN / f"step_{'fused' if fused else 'composed'}.txt"
    if os.environ.get("MINIGRAD_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(compiled.source, encoding="utf-8")
    assert compiled.source == path.read_text(encoding="utf-8")
