"""Losses refuse wrong arguments, and the error names the loss."""

import math
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad.errors import ArgumentError, DtypeError, OutOfRangeError, ShapeError

X = mg.tensor(np.random.default_rng(2).standard_normal((5, 4)) * 3.0)
GOOD = np.array([0, 1, 2, 3, 0])
ce, nll, mse, bce = F.cross_entropy, F.nll_loss, F.mse_loss, F.binary_cross_entropy_with_logits
REFUSED = [
    (lambda f: f(X, np.array([0, 1, 4, 3, 0])), [ce, nll], OutOfRangeError, r"0\.\.3, got 4 .*2"),
    (lambda f: f(X, np.array([0, -1, 2, 3, 0])), [ce, nll], OutOfRangeError, r"got -1 .*1 .*from"),
    (lambda f: f(X, GOOD * 1.0), [ce, nll], DtypeError, r"integers of shape \(5,\), got float64"),
    (lambda f: f(X, GOOD[:4]), [ce, nll], ShapeError, r"\(4,\), input \(5, 4\) wants \(5,\)"),
    (lambda f: f(X, GOOD[:, None]), [ce, nll], ShapeError, r"\(5, 1\), input .* wants .*; resh"),
    (lambda f: f(X, GOOD > 0), [ce, nll], DtypeError, "integers .*, got bool"),
    (lambda f: f(mg.tensor(2.0), GOOD), [ce, nll], ShapeError, r"\(N, C, ...\), got \(\)"),
    (lambda f: f(mg.tensor(np.eye(5, dtype=int)), GOOD), [ce, nll], DtypeError,
     "expected floats .*int64.*astype"),
    (lambda f: f(X, GOOD, [1, 2, 3, 4j]), [ce, nll], DtypeError, "weight: complex128 is not supp"),
    (lambda f: f(X, GOOD, list("1234")), [ce, nll], DtypeError, "weight: <U1 is not supported"),
    (lambda f: f(X, GOOD, [[1], [2, 3]]), [ce, nll], ShapeError, "weight: rows of different"),
    (lambda f: f(X, [[0], [1, 2]]), [nll], ShapeError, "rows of different lengths"),
    (lambda f: f(X, GOOD, np.ones(3)), [ce, nll], ShapeError, r"weight .*\(3,\), expected \(4,\)"),
    (lambda f: f(X, GOOD, reduction="avg"), [ce, nll], ArgumentError, "'mean', 'sum' or .*avg"),
    (lambda f: f(X, X, reduction="avg"), [mse, bce], ArgumentError, "'mean', 'sum' or .*avg"),
    (lambda f: f(X, X[:, :1]), [mse, bce], ShapeError, r"input \(5, 4\) and target \(5, 1\)"),
    (lambda f: f(X, GOOD, label_smoothing=1.5), [ce], ArgumentError, "between 0 and 1, got 1.5"),
    (lambda f: f(X, GOOD, label_smoothing=math.nan), [ce], ArgumentError, "label_smoothing .*nan"),
    (lambda f: f(X, np.ones((5, 3))), [ce], DtypeError, r"got float64 of shape \(5, 3\)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "function", "error", "message"),
    [(call, f, error, message) for call, fs, error, message in REFUSED for f in fs],
)
def test_bad_input_is_refused(call: Any, function: Any, error: Any, message: str) -> None:
    """The error names the function, what came and what was expected."""
    with pytest.raises(error, match=f"^{function.__name__}: .*{message}"):
        call(function)


@pytest.mark.parametrize("function", [F.cross_entropy, F.nll_loss])
@pytest.mark.parametrize("wrong", ["1", None, 1.5, True, 2**63])
def test_ignore_index_is_an_integer(function: Any, wrong: Any) -> None:
    """Another value would match no label, and would compile another kernel."""
    with pytest.raises(ArgumentError, match="ignore_index must be an integer"):
        function(np.zeros((2, 3), np.float32), [0, 1], ignore_index=wrong)


def test_labels_beyond_int64_do_not_wrap() -> None:
    """2**64 - 100 is no class, and not the label -100 either."""
    labels = np.array([0, 2**64 - 100], np.uint64)
    for function in (F.cross_entropy, F.nll_loss):
        with pytest.raises(OutOfRangeError, match=str(2**64 - 100)):
            function(np.zeros((2, 3), np.float32), labels)


@pytest.mark.parametrize("function", [F.cross_entropy, F.nll_loss])
def test_no_classes_are_refused(function: Any) -> None:
    """The error does not call labels out of the range 0..-1."""
    with pytest.raises(ShapeError, match="has no classes"):
        function(np.zeros((2, 0), np.float32), [0, 0])
