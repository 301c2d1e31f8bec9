"""Tensors work with Python's protocols and with NumPy; the public names are complete."""

import inspect
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional, nn, optim
from minigrad.errors import DtypeError, OutOfRangeError, ShapeError

FLOATS = [np.float32, np.float64]


# --- Python's protocols -------------------------------------------------------------------------


def test_one_element_is_a_number():
    assert mg.tensor([[2.5]]).item() == 2.5 and type(mg.tensor(1.0).item()) is float
    assert type(mg.tensor(np.array(3)).item()) is int and mg.tensor(True).item() is True
    assert float(mg.tensor([2.5])) == 2.5 and int(mg.tensor(-2.5)) == -2
    assert bool(mg.tensor(0.5)) and not mg.tensor([0.0]) and mg.tensor(True)
    assert [10, 20, 30][mg.tensor(np.array(1))] == 20
    assert mg.tensor([[1.0, 2.0]]).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("function", [bool, float, int, lambda x: x.item()])
@pytest.mark.parametrize("shape", [(2,), (0,), (1, 2)])
def test_more_or_fewer_elements_are_not(function, shape):
    with pytest.raises(ShapeError, match=r"shape \("):
        function(mg.tensor(np.zeros(shape)))


def test_len_iteration_and_index():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert len(x) == 2 and [row.tolist() for row in x] == [[1, 2], [3, 4]]
    first, _ = x
    first.sum().backward()
    assert x.grad.tolist() == [[1, 1], [0, 0]]
    for function in (len, iter):
        with pytest.raises(DtypeError, match="without dimensions"):
            function(mg.tensor(1.0))
    with pytest.raises(DtypeError, match="only an integer can be one, got float32"):
        [10, 20][mg.tensor(1.0)]
    with pytest.raises(OutOfRangeError):
        x[2]
    with pytest.raises(TypeError):
        x[0] = 1.0


def test_repr_shows_values_dtype_and_whether_grad_is_required():
    assert repr(mg.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    assert repr(mg.tensor(np.array(2))) == "tensor(2, dtype=int64)"
    x = mg.tensor(np.eye(2), requires_grad=True)
    text = "tensor([[1., 0.],\n        [0., 1.]], dtype=float64, requires_grad=True)"
    assert repr(x) == str(x) == text
    assert repr(nn.Parameter([1.0])) == "parameter([1.], requires_grad=True)"
    assert len(repr(mg.tensor(np.zeros((1000, 1000))))) < 1000


def test_comparisons_are_elementwise_and_hash_is_identity():
    x, y = mg.tensor([1.0, 2.0, 3.0], requires_grad=True), mg.tensor([3.0, 2.0, 1.0])
    pairs = [(x == y, "010"), (x != y, "101"), (x < y, "100"), (x <= y, "110"), (x > 2, "001")]
    pairs += [(x >= 2, "011"), (x < 2, "100"), (~(x > 2), "110"), ((x > 1) & (x < 3), "010")]
    pairs += [(np.array([1.0, 0.0, 3.0]) == x, "101")]
    for result, expected in pairs:
        assert result.dtype == bool and not result.requires_grad
        assert "".join(str(int(b)) for b in result.tolist()) == expected
    twin = mg.tensor(x)
    assert len({x, twin, x}) == 2 and hash(x) == hash(x)
    assert {x: 1}[x] == 1


# --- NumPy and numbers --------------------------------------------------------------------------

OPERATORS = ["+", "-", "*", "/", "**"]


def apply(operator, a, b):
    return eval(f"a {operator} b", {"a": a, "b": b})


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_take_arrays_and_numbers_on_either_side(operator):
    array, values = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    x = mg.tensor(values, requires_grad=True)
    for a, b in [(array, x), (x, array), (x, x)]:
        y = apply(operator, a, b)
        assert type(y) is mg.Tensor and y.requires_grad
        expected = apply(operator, np.asarray(a), np.asarray(b))
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-15)
    for number in (2, 2.0, np.float64(2), np.float32(2), np.int64(2), np.array([2.0])[0]):
        for y, expected in [
            (apply(operator, number, x), apply(operator, 2.0, values)),
            (apply(operator, x, number), apply(operator, values, 2.0)),
        ]:
            assert type(y) is mg.Tensor
            np.testing.assert_allclose(y.numpy(), expected, rtol=1e-15)


WEAK = [2, 2.5, True, np.float64(2.5), np.float32(2.5), np.int64(2), np.bool_(True), 40]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(), (2,)])
def test_scalars_are_weak(operator, dtype, shape):
    x = mg.tensor(np.full(shape, 1.5, dtype))
    for number in WEAK:
        assert apply(operator, x, number).dtype == dtype, number
        assert apply(operator, number, x).dtype == dtype, number


def test_integers_stay_integers_until_a_float_is_needed():
    i, f = mg.tensor(np.array([1, 2])), mg.tensor([0.5, 0.5])
    assert (i + 1).dtype == (i * i).dtype == i.sum().dtype == np.int64
    assert (i / 2).dtype == (i + 0.5).dtype == i.exp().dtype == i.mean().dtype == np.float32
    assert (i * f).dtype == np.float32 and (i * f).tolist() == [0.5, 1.0]
    assert (i * mg.tensor(np.ones(2))).dtype == np.float64


def test_numpy_reads_tensors():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    assert np.asarray(x) is x.numpy() and np.asarray(x, np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(x), x.numpy())
    with pytest.raises(TypeError, match="ufunc"):
        np.exp(x)  # it would lose the gradient without a word
    with pytest.raises(DtypeError, match="float16"):
        x + np.ones(2, np.float16)
    with pytest.raises(DtypeError, match="add: not defined for float32 and NoneType"):
        x + None
    with pytest.raises(ShapeError, match=r"add: shapes \(2,\) and \(3,\) do not broadcast"):
        x + np.ones(3)


# --- the public face ----------------------------------------------------------------------------

FUNCTIONS = """tensor Tensor grad no_grad enable_grad is_grad_enabled manual_seed gradcheck
primitive nn optim functional data errors abs exp log sqrt tanh sigmoid relu softplus maximum
minimum where clip sum mean max min var std argmax argmin reshape permute_dims transpose squeeze
unsqueeze broadcast_to concat stack flatten matmul equal not_equal less less_equal greater
greater_equal"""
METHODS = """data numpy item tolist grad requires_grad requires_grad_ is_leaf shape ndim size dtype
detach clone backward copy_ astype float double abs exp log sqrt tanh sigmoid relu clip sum mean var
std max min argmax argmin squeeze unsqueeze flatten transpose broadcast_to reshape permute T"""
LAYERS = """Module Parameter Sequential Linear BatchNorm1d BatchNorm2d BatchNorm3d ReLU LeakyReLU
GELU Sigmoid Tanh Softplus Softmax LogSoftmax LayerNorm Embedding Dropout Flatten Identity MSELoss
CrossEntropyLoss NLLLoss BCEWithLogitsLoss"""
COMPOSED = """linear relu leaky_relu gelu sigmoid tanh softplus softmax log_softmax cross_entropy
nll_loss mse_loss binary_cross_entropy_with_logits dropout layer_norm embedding batch_norm"""


@pytest.mark.parametrize(
    ("owner", "names"),
    [(mg, FUNCTIONS), (mg.Tensor, METHODS), (nn, LAYERS), (functional, COMPOSED), (optim, "SGD")],
    ids=["minigrad", "Tensor", "nn", "functional", "optim"],
)
def test_the_public_face_is_there(owner, names):
    assert [n for n in names.split() if not hasattr(owner, n)] == []
    if hasattr(owner, "__all__"):
        assert set(names.split()) <= set(owner.__all__)
        assert [n for n in owner.__all__ if not hasattr(owner, n)] == []


def test_every_error_is_of_one_family_and_of_a_builtin_kind():
    for name, error in inspect.getmembers(mg.errors, inspect.isclass):
        assert issubclass(error, mg.errors.MinigradError)
        assert len(error.__mro__) > 4 or name == "MinigradError"
        assert str(pickle.loads(pickle.dumps(error("why")))) == "why"
