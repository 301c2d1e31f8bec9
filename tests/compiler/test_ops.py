"""Functions of several primitives agree compiled and eagerly; some primitives are left to NumPy.

Generated functions run as Python.
"""

import numpy as np
import pytest
from function_cases import FUNCTIONS, WEIGHTS, below, floats, tensors

import minigrad as mg
from minigrad import functional as F
from minigrad.errors import OutOfRangeError, TraceError

pytestmark = pytest.mark.usefixtures("as_python")


def agree(function, makers, tolerance):
    """Check that compiled and eager calls agree on three samples; the first sample is traced."""
    compiled = mg.compile(function)
    for seed in range(3):
        expected, got = function(*tensors(makers, seed)), compiled(*tensors(makers, seed))
        for a, b in zip(expected, got, strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_allclose(b.data, a.data, rtol=tolerance, atol=tolerance)
    return compiled


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_is_eager(name):
    """NumPy runs nothing of it: that would be a warning, and so an error."""
    function, *makers = FUNCTIONS[name]
    agree(function, makers, 4e-6)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_powers_that_are_roots():
    """NumPy takes a square root, which -inf does not have, and which leaves -0.0 as it is."""
    root = mg.compile(lambda x: (x**0.5, x**2.0, x**3))
    x = np.float32([-np.inf, -0.0, 2.0, -1.0, np.inf, np.nan])
    for _ in range(2):
        for got, expected in zip(root(x), (np.sqrt(x), x * x, x * x * x), strict=True):
            np.testing.assert_array_equal(got.data, expected)
            assert (np.signbit(got.data) == np.signbit(expected))[:3].all()


@pytest.mark.parametrize(
    ("name", "function", "makers"),
    [
        # Only where no network has use for them: an index that is one boolean, products, means of
        # squares and extremes of integers, and an integer that its array's dtype cannot hold.
        ("getitem", lambda x: x[True] + x[False].sum(), [floats(2, 3)]),
        ("matmul", lambda x: x @ x, [below(4, 3, 3)]),
        ("max, min", lambda x: x.max(0) + x.min(), [below(9, 3, 4)]),
        ("equal", lambda x: x == 2**40, [below(4, 5, dtype=np.int32)]),
        ("equal", lambda x: x + 2**53 == (x + 2**53 + 1).astype("uint64"), [below(4, 5)]),
        ("mean", lambda x: x[:, :0].mean(0), [floats(3, 4)]),
    ],
)
def test_what_is_left(name, function, makers):
    """NumPy runs these, with a warning and the same results."""
    with pytest.warns(RuntimeWarning, match=f"{name} cannot be compiled") as caught:
        agree(lambda *x: (function(*x),), makers, 0.0)
    assert len(caught) == 1


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: F.cross_entropy(x, y),
        lambda x, y: F.cross_entropy(x, y, weight=WEIGHTS),
        lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1),
        lambda x, y: F.cross_entropy(x, y, reduction="none").sum(),
        lambda x, y: F.nll_loss(x, y),
        lambda x, y: F.embedding(y, x[:4]).sum(),
        lambda x, y: x[:4][y].sum(),
        lambda x, y: (F.nll_loss(x, y), x.sum())[1],
    ],
    ids=["labels", "weight", "smoothing", "none", "nll", "embedding", "getitem", "unused"],
)
def test_what_is_out_of_range_changes_nothing(loss, dtype):
    """The error is that of the eager step, and comes before the step changes anything."""
    counter = mg.tensor(np.zeros(2))

    def step(x, y):
        counter.copy_(counter + 1)
        return loss(x, y)

    compiled = mg.compile(step)
    x, y = floats(6, 4)(np.random.default_rng(0)), np.arange(6).astype(dtype) % 4
    compiled(x, y)
    y[4] = 200 if dtype == np.uint8 else 4
    with pytest.raises(OutOfRangeError) as expected:
        loss(mg.tensor(x), mg.tensor(y))
    before = counter.data.copy()
    with pytest.raises(OutOfRangeError) as found:
        compiled(x, y)
    assert str(found.value) == str(expected.value)
    np.testing.assert_array_equal(counter.data, before)
    y[4] = 3
    np.testing.assert_allclose(
        compiled(x, y).data, loss(mg.tensor(x), mg.tensor(y)).data, rtol=1e-6
    )


def test_nothing_to_count():
    """If all labels are ignored, the loss is NaN with a gradient of 0, and a number after that."""

    def losses(x, y):
        found = F.cross_entropy(x, y, WEIGHTS, 1), F.nll_loss(F.log_softmax(x), y, None, 1)
        return (*found, *mg.grad(found, [x], [np.float32(1), np.float32(1)]))

    compiled = mg.compile(losses)
    for labels in ([0, 2, 3], [1, 1, 1], [1, 2, 1]):
        x, y = floats(3, 4)(np.random.default_rng(0)), np.array(labels)
        given = mg.tensor(x, requires_grad=True), mg.tensor(y)
        for a, b in zip(losses(*given), compiled(*given), strict=True):
            np.testing.assert_allclose(b.data, a.data, rtol=2e-6, atol=1e-7)


def test_arrays_outside_are_read_in_each_call():
    """This holds for indices and labels, too; a mask is a constant, since shapes depend on it."""
    rows, labels = np.array([0, 1]), np.array([0, 1, 2])
    compiled = mg.compile(lambda x: (x[rows], F.nll_loss(x, labels), F.cross_entropy(x, labels)))
    x = floats(3, 4)(np.random.default_rng(0))
    for i in range(3):
        rows[:], labels[:] = i, (i, 0, 3)
        for a, b in zip(compiled(x), compiled.__wrapped__(mg.tensor(x)), strict=True):
            np.testing.assert_allclose(a.data, b.data, rtol=1e-6)


def test_a_mask_that_is_computed_is_refused():
    with pytest.raises(TraceError, match="looks at a value"):
        mg.compile(lambda x: x[x > 0])(np.ones(3))


def test_an_embedding_has_no_negative_index():
    """A negative index is an error, though x[index] allows it, and -1 is not an ignored one."""
    compiled = mg.compile(lambda i, w: F.embedding(i, w) + w[i])
    w = floats(5, 3)(np.random.default_rng(0))
    np.testing.assert_array_equal(compiled(np.array([1, 4]), w).data, 2 * w[[1, 4]])
    with pytest.raises(OutOfRangeError, match=r"embedding: indices .* got -1 at position \(1,\)"):
        compiled(np.array([1, -1]), w)


@pytest.mark.parametrize("shape", [(6, 3, 1), (6, 3, 1, 1), (6, 3, 2, 2)], ids=str)
def test_batch_norm_takes_the_kernels_that_eager_calls_take(shape):
    """If there is one point of space, these are the kernels of rows, with the bits of (n, c)."""
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, *shape)).astype(np.float32)
    weight = mg.tensor(rng.standard_normal(3), dtype="float32", requires_grad=True)

    def both(x, g):
        y = F.batch_norm(x, weight=weight, training=True, activation="relu")
        return y, *mg.grad(y, [x, weight], g)

    x = mg.tensor(x, requires_grad=True)
    eager, step = both(x, g), mg.compile(both)
    for _ in range(2):
        for a, b in zip(step(x, g), eager, strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    assert ("small_train" in step.source) == (shape[2:] != (2, 2))
    if shape[2:] != (2, 2):
        flat = both(mg.tensor(x.data.reshape(6, 3), requires_grad=True), g.reshape(6, 3))
        for a, b in zip(flat, eager, strict=True):
            np.testing.assert_array_equal(a.data.ravel(), b.data.ravel())
