"""Tensors are made from data, and have the right attributes and shapes."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.errors import ArgumentError, DtypeError, GradError, ShapeError

FLOATS = [np.float32, np.float64]


# --- making one ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (1, np.float32),
        (1.5, np.float32),
        (True, bool),
        ([1, 2], np.float32),
        ([[0.1, 1.0], [2.0, 3.0]], np.float32),
        ((1, 2.5), np.float32),
        ([], np.float32),
        ([True, False], bool),
        ([True, 2], np.float32),
        ([np.float64(1.5)], np.float32),
        (range(3), np.float32),
        (np.array([1.5]), np.float64),
        (np.array([1.5], "f"), np.float32),
        (np.array([1, 2]), np.int64),
        (np.array([1, 2], np.uint8), np.uint8),
        (np.array([True]), bool),
        (np.array(2.5), np.float64),
        (np.float64(2.5), np.float64),
        (np.int32(2), np.int32),
        (np.array([1.5], ">f8"), np.float64),
        (mg.tensor(np.array([1.5])), np.float64),
        ([mg.tensor(1.0), mg.tensor(2.0)], np.float32),
    ],
)
def test_dtype_follows_what_is_given(given, dtype):
    x = mg.tensor(given)
    assert x.dtype == dtype and x.dtype.isnative
    np.testing.assert_array_equal(x.numpy(), np.array(given, dtype), strict=True)
    assert not x.requires_grad and x.grad is None and x.is_leaf


def test_dtype_may_be_chosen():
    given = 0.1  # which float32 does not hold exactly
    assert mg.tensor(given, dtype=np.float64).item() == 0.1
    assert mg.tensor([given], dtype="float64").tolist() == [0.1]
    assert mg.tensor([1, 0], dtype=np.int64).dtype == np.int64
    assert mg.tensor([1, 0], dtype=bool).tolist() == [True, False]
    assert mg.tensor(np.ones(2, np.float16), dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize(
    ("given", "dtype", "error", "message"),
    [
        (np.ones(2, np.float16), None, DtypeError, "float16 .* convert to float32 or float64"),
        (np.float16(1), None, DtypeError, "float16 .* convert to float32"),
        ([1.0], np.float16, DtypeError, "float16 .* convert to float32"),
        (np.ones(2, np.longdouble), None, DtypeError, "convert to float32"),
        (np.ones(2, complex), None, DtypeError, "complex128 .* convert to float32"),
        ([1j], None, DtypeError, "complex128 .* convert to float32"),
        ([1j], np.float32, DtypeError, "complex128"),
        ([1.0], complex, DtypeError, "complex128"),
        (np.array([None, 1]), None, DtypeError, "object .* convert to float32"),
        (None, None, DtypeError, "object"),
        ({"a": 1}, None, DtypeError, "object"),
        ("text", None, DtypeError, "convert to float32"),
        (["1", "2"], None, DtypeError, "convert to float32"),
        (["1", "2"], np.float32, DtypeError, "convert to float32"),
        (np.array(["2020-01-01"], "datetime64[D]"), None, DtypeError, "convert to float32"),
        ([2**70], None, DtypeError, "object"),
        ([[1.0], [1.0, 2.0]], None, ShapeError, "rows of different lengths"),
        ([[1.0], [1.0, 2.0]], np.float32, ShapeError, "rows of different lengths"),
    ],
)
def test_what_cannot_be_one_is_refused_with_a_remedy(given, dtype, error, message):
    with pytest.raises(error, match=f"^tensor: .*{message}"):
        mg.tensor(given, dtype)


def test_data_is_copied():
    array = np.arange(3.0)
    first = mg.tensor(array)
    second = mg.tensor(first)
    array[:] = 9
    first.data[:] = 7
    assert second.tolist() == [0, 1, 2]
    assert not np.shares_memory(mg.tensor(array, dtype=np.float64).numpy(), array)
    parameter = nn.Parameter(array)
    assert not np.shares_memory(parameter.numpy(), array) and parameter.requires_grad


def test_only_floats_can_require_grad():
    assert mg.tensor([1.0], requires_grad=True).requires_grad
    for given in (np.array([1]), [True], np.array([1], np.uint8)):
        with pytest.raises(DtypeError, match="only floats have gradients"):
            mg.tensor(given, requires_grad=True)
        with pytest.raises(DtypeError, match="only floats have gradients"):
            mg.tensor(given).requires_grad_()


# --- attributes ---------------------------------------------------------------------------------


def test_attributes():
    x = mg.tensor(np.zeros((2, 3, 4)))
    assert (x.shape, x.ndim, x.size, x.dtype) == ((2, 3, 4), 3, 24, np.dtype(np.float64))
    assert x.data is x.numpy() and type(x.data) is np.ndarray
    assert (mg.tensor(1.0).shape, mg.tensor([]).size) == ((), 0)
    for name in ("shape", "ndim", "size", "dtype", "is_leaf", "T", "unknown"):
        with pytest.raises(AttributeError):
            setattr(x, name, 1)


def test_data_can_be_replaced_by_its_like():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    new = np.array([3.0, 4.0], "f")
    x.data = new
    assert x.numpy() is new and x.requires_grad
    for wrong in (np.ones(3, "f"), np.ones(2), np.ones((1, 2), "f"), np.array(1, "f")):
        with pytest.raises(ShapeError, match=r"expected shape \(2,\) of float32, got"):
            x.data = wrong
    with pytest.raises(DtypeError, match="float16"):
        x.data = np.ones(2, np.float16)
    assert x.numpy() is new


def test_grad_can_be_set_to_its_like_or_none():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    x.grad = g = mg.tensor([3.0, 4.0])
    assert x.grad is g
    for wrong in (np.ones(2, "f"), 1.0, [1.0, 2.0]):
        with pytest.raises(DtypeError, match="expected a Tensor or None, got"):
            x.grad = wrong
    for wrong in (mg.tensor([1.0]), mg.tensor(1.0), mg.tensor(np.ones(2))):
        with pytest.raises(ShapeError, match=r"expected shape \(2,\) of float32, got"):
            x.grad = wrong
    assert x.grad is g
    x.grad = None
    assert x.grad is None


def test_requires_grad_can_be_set_on_leaves_only():
    x = mg.tensor([1.0])
    assert x.requires_grad_() is x and x.requires_grad
    result = x * 2.0
    for value in (True, False):
        with pytest.raises(GradError, match=r"only leaves.*\.detach\(\)"):
            result.requires_grad = value
    x.requires_grad = False
    assert not x.requires_grad and result.requires_grad


def test_detach_shares_and_clone_copies():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    constant, copied = x.detach(), x.clone()
    assert constant.numpy() is x.numpy() and not constant.requires_grad
    assert not np.shares_memory(copied.numpy(), x.numpy()) and copied.requires_grad
    (copied * 3.0).sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_conversions():
    x = mg.tensor(np.array([1.7, -2.0]), requires_grad=True)
    assert (x.float().dtype, x.float().double().dtype) == (np.float32, np.float64)
    assert x.astype(np.int64).tolist() == [1, -2]
    with pytest.raises(DtypeError, match="astype: float16"):
        x.astype(np.float16)
    for name, convert in (("astype", x.astype), ("tensor", lambda dtype: mg.tensor(1.0, dtype))):
        with pytest.raises(DtypeError, match=f"^{name}: expected a dtype .*, got 'cpu'"):
            convert("cpu")


# --- shapes -------------------------------------------------------------------------------------


def test_shapes_may_be_given_as_integers_or_as_one_tuple():
    x = mg.tensor(np.arange(6.0).reshape(1, 2, 3))
    for y in (x.reshape(3, 2), x.reshape((3, 2)), x.reshape([3, -1]), mg.reshape(x, (-1, 2))):
        assert y.tolist() == [[0, 1], [2, 3], [4, 5]]
    for y in (x.permute(2, 0, 1), x.permute((2, 0, -2)), mg.permute_dims(x, (2, 0, 1))):
        np.testing.assert_array_equal(y.numpy(), x.numpy().transpose(2, 0, 1))
    assert x.transpose(0, 2).shape == (3, 2, 1) and x[0].T.shape == (3, 2)
    assert x.flatten().shape == (6,) and x.flatten(1).shape == (1, 6)
    assert x.squeeze().shape == x.squeeze(0).shape == (2, 3)
    assert x.unsqueeze(-1).shape == (1, 2, 3, 1)
    assert mg.tensor(1.0).flatten().shape == mg.tensor(1.0).reshape(1).shape == (1,)
    assert mg.tensor([1.0]).reshape(()).shape == ()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x.T, ShapeError, "T: expected 2 dimensions, got 3"),
        (lambda x: x.reshape(4, 2), ShapeError, r"6 elements .* do not fit into \(4, 2\)"),
        (lambda x: x.reshape(-1, -1), ShapeError, "do not fit"),
        (lambda x: x.reshape(-1, 0), ShapeError, "do not fit"),
        (lambda x: x.reshape(-2, -3), ShapeError, "do not fit"),
        (lambda x: x.reshape(6.0), DtypeError, "a shape is made of ints"),
        (lambda x: x.permute(0, 1), ArgumentError, "each of the 3 dimensions once"),
        (lambda x: x.permute(0, 1, 1), ArgumentError, "each of the 3 dimensions once"),
        (lambda x: x.permute(0, 1, 3), ArgumentError, "axis 3 is out of range"),
        (lambda x: x.transpose(0, 3), ArgumentError, "transpose: axis 3 is out of range"),
        (lambda x: x.flatten(2, 1), ArgumentError, "start_dim 2 comes after end_dim 1"),
        (lambda x: x.squeeze(1), ShapeError, "dimension 1 .* is not 1"),
        (lambda x: x.unsqueeze(5), ArgumentError, "unsqueeze: axis 5 is out of range"),
        (lambda x: x.broadcast_to((2, 2)), ShapeError, "does not broadcast to"),
        (lambda x: x.sum(3), ArgumentError, "sum: axis 3 is out of range"),
        (lambda x: x.sum((0, 0)), ArgumentError, "twice"),
        (lambda x: x.sum("a"), DtypeError, "sum: axis must be an int, a tuple of ints or None"),
        (lambda x: x.argmax((0, 1)), DtypeError, r"argmax: axis must be one int .*\(0, 1\)"),
        (lambda x: x.argmin((0, 1)), DtypeError, r"argmin: axis must be one int .*\(0, 1\)"),
        (lambda x: x.argmin(True), DtypeError, "argmin: axis must be one int or None"),
        (lambda x: F.softmax(x, (0, 1)), DtypeError, r"softmax: axis must be one int, .*, 1\)"),
        (lambda x: mg.reshape(x, 6.0), DtypeError, "reshape: a shape is made of ints, got 6.0"),
        (lambda x: mg.stack([x, x[0]]), ShapeError, r"^stack: .*\(1, 2, 3\), \(2, 3\).*be equal"),
        (lambda x: mg.stack([x], 5), ArgumentError, "^stack: axis 5 is out of range"),
        (lambda x: mg.stack([]), ArgumentError, "^stack: expected at least one tensor"),
        (lambda x: x[np.float32([0])], DtypeError, r"getitem: .*float32 .*astype\('int64'\)"),
    ],
)
def test_wrong_shapes_and_axes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(mg.tensor(np.zeros((1, 2, 3))))


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float32])
def test_logical_operators_take_booleans_only(kind):
    """On integers they would be bitwise, as in NumPy and PyTorch."""
    x, truth = mg.tensor(np.array([6, 0], kind)), mg.tensor([True, False])
    for symbol, call in {
        "~": lambda: ~x,
        "&": lambda: x & truth,
        "\\|": lambda: truth | x,
        "& ": lambda: truth & 2,
        "\\| ": lambda: [1, 0] | truth,
    }.items():
        with pytest.raises(DtypeError, match=f"^{symbol.strip()}: expected booleans, got .*x != 0"):
            call()
    assert (~truth & [True, True] | (x == 0)).tolist() == [False, True]
    assert mg.logical_not(x).tolist() == [False, True]


def test_integers_stay_what_they_are_where_no_float_is_needed():
    big = mg.tensor(np.array([16777217, -3]))
    clipped = mg.clip(big, 0)
    assert clipped.dtype == np.int64 and clipped.tolist() == [16777217, 0]
    x = mg.tensor([1.0])
    assert mg.concat([x, mg.tensor(np.array([2]))]).dtype == np.float32
    assert mg.clip(x, np.float64(0.5), np.float32(2.0)).dtype == np.float32


def test_none_among_operands_makes_no_array_of_objects():
    with pytest.raises(DtypeError, match="where: not defined for bool and float32 and NoneType"):
        mg.where(mg.tensor([True, False]), mg.tensor([1.0, 2.0]), None)
