"""Each layer agrees with its formula; layers and their functions refuse wrong arguments."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.errors import ArgumentError, DtypeError, OutOfRangeError, ShapeError


def test_linear_is_drawn_within_its_bounds_from_the_seed():
    mg.manual_seed(3)
    first, second = nn.Linear(25, 400), nn.Linear(25, 400)
    mg.manual_seed(3)
    again = nn.Linear(25, 400)
    for p, q, other in zip(*(m.parameters() for m in (first, again, second)), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
        assert not np.array_equal(p.numpy(), other.numpy())
        assert p.dtype == np.float32 and p.is_leaf and p.requires_grad
        assert 0.19 < np.abs(p.numpy()).max() <= 0.2  # 1 / sqrt(25)
    w = first.weight.numpy()
    assert w.shape == (400, 25) and first.bias.shape == (400,)
    assert abs(w.mean()) < 5 * 0.2 / math.sqrt(3 * w.size)
    assert w.std() == pytest.approx(0.2 / math.sqrt(3), rel=0.03)
    bare = nn.Linear(2, 3, bias=False)
    assert bare.bias is None and [n for n, _ in bare.named_parameters()] == ["weight"]
    x = np.ones((4, 5, 2), "f")
    np.testing.assert_allclose(bare(x).numpy(), x @ bare.weight.numpy().T, rtol=1e-6)


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True, None])
def test_a_seed_is_a_non_negative_integer(seed):
    with pytest.raises(ArgumentError, match="seed must be an integer of at least 0"):
        mg.manual_seed(seed)


BAD_LAYERS = {
    "in_features": lambda n: nn.Linear(n, 1),
    "out_features": lambda n: nn.Linear(1, n),
    "num_embeddings": lambda n: nn.Embedding(n, 1),
    "embedding_dim": lambda n: nn.Embedding(1, n),
    "normalized_shape": lambda n: nn.LayerNorm((2, n)),
    "num_features": nn.BatchNorm1d,
}


@pytest.mark.parametrize("name", BAD_LAYERS)
@pytest.mark.parametrize("size", [0, -1, 1.0, True, None, "3"])
def test_sizes_must_be_positive_integers(name, size):
    with pytest.raises(ArgumentError, match=f"{name} must be (an int|at least 1)"):
        BAD_LAYERS[name](size)


def bare_embedding(n, width, padding_idx):
    return F.embedding([0], np.ones((n, width)), padding_idx)


def test_embedding_picks_rows_and_leaves_the_padding_row_alone():
    mg.manual_seed(0)
    for padding in (1, -3):
        layer = nn.Embedding(4, 3, padding_idx=padding)
        w = layer.weight.numpy()
        assert not w[1].any() and w[[0, 2, 3]].all()
        x = np.array([[0, 1, 3], [3, 3, 1]])
        y = layer(x)
        np.testing.assert_array_equal(y.numpy(), w[x])
        y.sum().backward()
        np.testing.assert_array_equal(layer.weight.grad.numpy()[:, 0], [1, 0, 0, 3])
    drawn = nn.Embedding(1000, 20).weight.numpy()
    assert abs(drawn.mean()) < 0.03 and drawn.std() == pytest.approx(1, rel=0.03)
    for bad, error, message in [
        ([[0, 4]], OutOfRangeError, r"indices must lie in 0\.\.3, got 4 at position \(0, 1\)"),
        ([-1], OutOfRangeError, r"got -1 at position \(0,\)"),
        ([1.0], DtypeError, r"indices must be integers, got float64; .*astype\('int64'\)"),
        ([[0], [1, 2]], ShapeError, "rows of different lengths"),
    ]:
        with pytest.raises(error, match=f"^embedding: .*{message}"):
            layer(bad)
    for padding in (4, -5, 1.0, True, "1"):
        for name, make in (("Embedding", nn.Embedding), ("embedding", bare_embedding)):
            with pytest.raises(ArgumentError, match=f"^{name}: padding_idx .* from -4 to 3, got"):
                make(4, 3, padding_idx=padding)
    assert nn.Embedding(4, 3, padding_idx=np.int64(1))(np.array([1])).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(("shape", "over"), [((4, 6), 6), ((2, 3, 4), (3, 4)), ((2, 3, 4), [4])])
def test_layer_norm_follows_its_formula(shape, over):
    random = np.random.default_rng(1)
    layer, x = nn.LayerNorm(over, eps=1e-3).double(), random.normal(2, 3, shape)
    axes = tuple(range(-len(layer.normalized_shape), 0))
    centred = x - x.mean(axes, keepdims=True)
    x_hat = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-3)
    np.testing.assert_allclose(layer(x).numpy(), x_hat, rtol=1e-12)
    gamma, beta = (random.normal(size=layer.weight.shape) for _ in range(2))
    layer.load_state_dict({"weight": gamma, "bias": beta})
    np.testing.assert_allclose(layer(x).numpy(), x_hat * gamma + beta, rtol=1e-11)
    assert nn.LayerNorm(3, bias=False).bias is None
    assert not list(nn.LayerNorm(3, elementwise_affine=False).parameters())
    with pytest.raises(ShapeError, match=r"input \(2, 5\) does not end with"):
        layer(np.ones((2, 5)))


def test_dropout_scales_what_it_keeps_and_follows_the_seed():
    x = mg.tensor(np.ones(40_000, "f"), requires_grad=True)
    layer = nn.Dropout(0.2)
    mg.manual_seed(1)
    y = layer(x)
    assert set(y.tolist()) == {0.0, 1.25}
    assert abs((y.numpy() == 0).mean() - 0.2) < 5 * math.sqrt(0.2 * 0.8 / x.size)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())  # the same elements
    assert not np.array_equal(layer(x).numpy(), y.numpy())
    mg.manual_seed(1)
    np.testing.assert_array_equal(layer(x).numpy(), y.numpy())
    assert layer.eval()(x).numpy() is x.numpy()
    assert nn.Dropout(0.0)(x).numpy() is x.numpy()
    assert not nn.Dropout(1.0)(x).numpy().any() and nn.Dropout().p == 0.5


X = np.ones((2, 3), "f")
NUMBERS = {
    "dropout: p": lambda v: F.dropout(X, v),
    "Dropout: p": nn.Dropout,
    "layer_norm: eps": lambda v: F.layer_norm(X, 3, eps=v),
    "LayerNorm: eps": lambda v: nn.LayerNorm(3, eps=v),
    "batch_norm: eps": lambda v: F.batch_norm(X, training=True, eps=v),
    "BatchNorm1d: eps": lambda v: nn.BatchNorm1d(3, eps=v),
    "batch_norm: momentum": lambda v: F.batch_norm(X, training=True, momentum=v),
    "softplus: beta": lambda v: F.softplus(X, v),
    "Softplus: beta": nn.Softplus,
    "leaky_relu: negative_slope": lambda v: F.leaky_relu(X, v),
    "LeakyReLU: negative_slope": nn.LeakyReLU,
    "CrossEntropyLoss: label_smoothing": lambda v: nn.CrossEntropyLoss(label_smoothing=v),
    "var: correction": lambda v: mg.var(X, correction=v),
}
ANY_SIGN = ("leaky_relu: negative_slope", "LeakyReLU: negative_slope", "var: correction")


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_one_of_its_domain(name):
    """A Tensor is refused, too, since its gradient would be lost without a warning."""
    trained = mg.tensor(0.5, requires_grad=True)
    wrong = [None, "0.5", True, np.True_, 1j, math.nan, math.inf, 10**400, [0.5], trained]
    for value in wrong if name in ANY_SIGN else [*wrong, -0.1]:
        with pytest.raises(ArgumentError, match=f"^{name} must be a .*number.*, got"):
            NUMBERS[name](value)
    for value in (np.float64(0.5), np.float32(0.5), 1):  # NumPy's numbers do not widen float32
        y = NUMBERS[name](value)
        assert isinstance(y, nn.Module) or y.dtype == np.float32


def test_weights_may_be_lists_but_not_none():
    assert F.linear(X, [[1.0, 2.0, 3.0]], [4.0]).tolist() == [[10.0], [10.0]]
    assert F.layer_norm(X, 3, [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]).tolist() == [[4, 5, 6]] * 2
    for call, message in [
        (lambda: F.linear(X, None), "linear: weight: object None is not supported"),
        (lambda: F.linear(X, np.eye(3), "b"), "linear: bias: <U1 'b' is not supported"),
        (lambda: F.layer_norm(X, 3, "w"), "layer_norm: weight: <U1 'w' is not supported"),
        (lambda: F.layer_norm(X, 3, None, 1j), "layer_norm: bias: complex128 1j is not"),
        (lambda: F.layer_norm(X, 3.0), "layer_norm: a shape is made of ints, got 3.0"),
        (lambda: F.embedding([0], None), "embedding: weight: object None is not supported"),
    ]:
        with pytest.raises(DtypeError, match=f"^{message}"):
            call()
    for call in (lambda: F.linear(X, 2.0), lambda: F.linear(X, np.eye(3), 2.0)):
        with pytest.raises(ShapeError, match=r"linear: .* does not fit"):
            call()
    with pytest.raises(ShapeError, match=r"weight has shape \(2,\), expected \(3,\)"):
        F.layer_norm(X, 3, [1.0, 2.0])


def test_flatten_and_identity():
    x = mg.tensor(np.zeros((2, 3, 4, 5)))
    assert nn.Flatten()(x).shape == (2, 60) and nn.Flatten(0, 2)(x).shape == (24, 5)
    assert nn.Flatten(start_dim=2)(x).shape == (2, 3, 20) and nn.Identity()(x) is x
