"""BatchNorm refuses wrong arguments; the error names them, and nothing has changed."""

import re

import numpy as np
import pytest
from batchnorm_cases import fused, normal, state  # noqa: F401

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.engine.tape import tape
from minigrad.errors import ArgumentError, DtypeError, ShapeError

X = normal((4, 3))
MEAN, VAR = np.zeros(3, np.float32), np.ones(3, np.float32)


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


REFUSED_BY_LAYERS = [
    (nn.BatchNorm1d, (3,), ShapeError, "BatchNorm1d: expected 2D or 3D input (got 1D input)"),
    (nn.BatchNorm1d, (2, 3, 4, 5), ShapeError, "expected 2D or 3D input (got 4D input)"),
    (nn.BatchNorm2d, (2, 3), ShapeError, "expected 4D input (got 2D input)"),
    (nn.BatchNorm2d, (2, 3, 4), ShapeError, "expected 4D input (got 3D input)"),
    (nn.BatchNorm3d, (2, 3, 4, 5), ShapeError, "expected 5D input (got 4D input)"),
    (nn.BatchNorm1d, (4, 5), ShapeError, "expected 3 channels, got 5"),
    (nn.BatchNorm2d, (4, 5, 3, 3), ShapeError, "expected 3 channels, got 5"),
    (nn.BatchNorm1d, (1, 3), ShapeError, "Expected more than 1 value per channel when training"),
    (nn.BatchNorm1d, (1, 3), ShapeError, "got input size (1, 3)"),
    (nn.BatchNorm1d, (1, 3), ShapeError, "drop_last"),
    (nn.BatchNorm3d, (1, 3, 1, 1, 1), ShapeError, "drop_last"),
]


@pytest.mark.parametrize("cls, shape, error, message", REFUSED_BY_LAYERS)
def test_a_layer_that_refuses_stays_as_it_was(cls, shape, error, message):
    bn = cls(3)
    leaf = mg.tensor(normal(shape), requires_grad=True)
    x = leaf * 2
    before, records = state(bn), tape([x])
    with pytest.raises(error, match=re.escape(message)):
        bn(x)
    assert state(bn) == before
    assert tape([x]) == records and leaf.grad is None
    x.sum().backward()  # the tape is whole
    np.testing.assert_array_equal(leaf.grad, np.full(shape, 2))


@pytest.mark.parametrize("change", [{"eps": 0.0}, {"momentum": -0.5}, {"momentum": 1.1}])
def test_a_layer_refuses_what_its_attributes_became(change):
    bn = nn.BatchNorm1d(3)
    vars(bn).update(change)
    before = state(bn)
    with pytest.raises(ArgumentError, match=next(iter(change))):
        bn(X)
    assert state(bn) == before


# fmt: off
REFUSED_BY_FUNCTION = {
    "one dimension": ({"input": X[0]}, ShapeError, "(batch, channels, ...)"),
    "integers": ({"input": X.astype(int)}, DtypeError, "int64"),
    "float16": ({"input": X.astype(np.float16)}, DtypeError, "float16"),
    "mean of other C": ({"running_mean": np.zeros(5)}, ShapeError, "running_mean has shape (5,)"),
    "var of other C": ({"running_var": np.ones(2)}, ShapeError, "3 channels: expected (3,)"),
    "weight of other C": ({"weight": np.ones(5)}, ShapeError, "weight has shape (5,)"),
    "bias in 2-D": ({"bias": np.zeros((1, 3))}, ShapeError, "bias has shape (1, 3)"),
    "one value": ({"input": X[:1]}, ShapeError, "drop_last"),
    "one pixel": ({"input": X[:1, :, None]}, ShapeError, "drop_last"),
    "eval, no buffers": ({"training": False, "running_mean": None, "running_var": None},
                         ArgumentError, "running_mean must be defined in evaluation mode"),
    "mean alone": ({"running_var": None}, ArgumentError, "running_mean and running_var both"),
    "var alone": ({"running_mean": None}, ArgumentError, "running_mean and running_var both"),
    "eps 0": ({"eps": 0.0}, ArgumentError, "eps must be a finite number above 0"),
    "eps negative": ({"eps": -1e-5}, ArgumentError, "eps must be a finite number above 0"),
    "eps NaN": ({"eps": np.nan}, ArgumentError, "eps"),
    "eps infinite": ({"eps": np.inf}, ArgumentError, "eps"),
    "eval, eps negative": ({"training": False, "eps": -1.0}, ArgumentError, "number of at least 0"),
    "eval, eps NaN": ({"training": False, "eps": np.nan}, ArgumentError, "number of at least 0"),
    "momentum negative": ({"momentum": -0.5}, ArgumentError, "momentum"),
    "momentum above 1": ({"momentum": 1.5}, ArgumentError, "momentum"),
    "momentum NaN": ({"momentum": np.nan}, ArgumentError, "momentum"),
    "momentum None": ({"momentum": None}, ArgumentError, "momentum"),
    "eval, momentum": ({"training": False, "momentum": 2}, ArgumentError, "momentum"),
    "fixed mean": ({"running_mean": read_only(MEAN)}, ArgumentError, "running_mean must be"),
    "fixed var": ({"running_var": read_only(VAR)}, ArgumentError, "running_var must be"),
    "integer mean": ({"running_mean": np.zeros(3, int)}, ArgumentError, "running_mean must be"),
    "foreign mean": ({"running_mean": np.zeros(3, ">f4")}, ArgumentError, "native byte order"),
    "long var": ({"running_var": np.zeros(3, "g")}, ArgumentError, "running_var must be"),
    "activation": ({"activation": "gelu"}, ArgumentError, "activation is 'relu' or None, got"),
    "array of activations": (
        {"activation": np.array(["relu", "a"])},
        ArgumentError,
        "activation is 'relu' or None, got array",
    ),
    # Found only once y is being computed: the statistics must still wait for it.
    "complex weight": ({"weight": np.ones(3, complex)}, DtypeError, "complex128"),
    "float16 bias": ({"bias": np.ones(3, np.float16)}, DtypeError, "float16"),
}
# fmt: on


@pytest.mark.parametrize("case", REFUSED_BY_FUNCTION)
def test_the_function_refuses_and_leaves_the_statistics(case):
    change, error, message = REFUSED_BY_FUNCTION[case]
    given = {"input": X, "running_mean": MEAN.copy(), "running_var": VAR.copy(), "training": True}
    given |= change
    arrays = {name: a for name, a in given.items() if isinstance(a, np.ndarray)}
    before = {name: a.tobytes() for name, a in arrays.items()}
    with pytest.raises(error, match=re.escape(message)):
        F.batch_norm(**given)
    assert {name: a.tobytes() for name, a in arrays.items()} == before


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_features": 0}, "num_features must be an integer of at least 1, got 0"),
        ({"num_features": 2.0}, "num_features must be an integer of at least 1, got 2.0"),
        ({"num_features": 2, "eps": True}, "eps"),
        ({"num_features": 2, "momentum": True}, "momentum"),
        ({"num_features": 2, "eps": -1e-5}, "eps"),
        ({"num_features": 2, "eps": np.nan}, "eps"),
        ({"num_features": 2, "eps": np.inf}, "eps"),
        ({"num_features": 2, "momentum": 1.5}, "momentum"),
        ({"num_features": 2, "momentum": -0.1}, "momentum"),
    ],
)
def test_constructor_refusals(options, message):
    with pytest.raises(ArgumentError, match=f"^BatchNorm1d: {message}"):
        nn.BatchNorm1d(**options)
