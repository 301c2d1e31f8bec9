"""gradcheck accepts right rules, rejects wrong ones, and says where they are wrong."""

import re
import warnings
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import ops
from minigrad.errors import ArgumentError, DtypeError, GradError
from minigrad.ops import Primitive

X = np.array([[0.3, -1.2, 0.7], [1.1, 0.4, -0.6]])
W = np.array([0.5, -0.8, 1.3])


def leaf(array: Any) -> mg.Tensor:
    """A copy that requires grad."""
    return mg.tensor(np.array(array), requires_grad=True)


def unlisted(forward: Any, *rules: Any, vjp: Any = None) -> Primitive:
    """A primitive that the table never sees."""
    return Primitive("wrong", forward, vjp or rules, "for this test only", promotes=True)


def scale_all(x: Any, w: Any) -> Any:
    """x * w, whose product by w is wrong below."""
    return x * w


def centre(a: Any) -> Any:
    """a minus its mean over the batch: what BatchNorm begins with."""
    return a - a.mean(0)


DOUBLE = unlisted(lambda a: 2.0 * a, lambda g, _y, _a: g * 2.0)
CUBE = unlisted(lambda a: a**3, lambda g, _y, a: g * (a * a * 3.0))
CENTRE = unlisted(centre, lambda g, _y, _a: g - ops.mean(g, 0))
WRONG = {
    "a dropped term": (unlisted(lambda a: a * np.exp(a), lambda g, _y, a: g * ops.exp(a)), (X,)),
    "a wrong sign": (unlisted(np.cos, lambda g, y, _a: g * (1.0 - y * y) ** 0.5), (X,)),
    "a missing sum over the batch": (unlisted(centre, lambda g, _y, _a: g), (X,)),
    "a missing mean": (unlisted(centre, lambda g, _y, _a: g - ops.sum(g, 0)), (X,)),
    "a wrong factor": (unlisted(np.square, lambda g, _y, a: g * a), (X,)),
    "a factor that is nearly right": (unlisted(np.sin, lambda g, _y, a: g * 1.00001), (X * 1e-4,)),
    "swapped operands": (
        unlisted(np.multiply, lambda g, _y, a, _b: g * a, lambda g, _y, _a, b: g * b), (X, W)),
    "one wrong operand of two": (
        unlisted(np.divide, lambda g, _y, _a, b: g / b, lambda g, y, _a, b: g * y / b), (X, W)),
    "one wrong element": (
        unlisted(lambda a: a * 1.0, lambda g, _y, _a: g * np.array([1.0, 1.0, 1.0 + 1e-4])), (X,)),
    "zero": (unlisted(np.exp, lambda g, _y, _a: g * 0.0), (X,)),
    "NaN": (unlisted(np.exp, lambda g, _y, _a: g * np.nan), (X,)),
    "an absent rule": (unlisted(np.multiply, lambda g, _y, _a, b: g * b, None), (X, W)),
    "a wrong rule for all inputs": (
        unlisted(np.add, vjp=lambda g, _y, *_inputs, wrt: (g, -g)), (X, W)),
    # Sums to the right total over the outputs, which a cotangent of ones would not see through.
    "outputs mixed up": (unlisted(np.exp, lambda g, y, _a: (g * y)[::-1]), (X,)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules_are_rejected(name: str) -> None:
    """Each of these would train a network to something, only not to the right thing."""
    primitive, arrays = WRONG[name]
    before = set(ops.TABLE)
    with pytest.raises(
        GradError, match=r"gradcheck: input \d at index \(.*\): derived .*, numeric"
    ):
        mg.gradcheck(primitive, [leaf(a) for a in arrays])
    assert set(ops.TABLE) == before


@pytest.mark.parametrize("primitive", [CUBE, CENTRE, DOUBLE, F.gelu, mg.exp])
def test_right_rules_are_accepted(primitive: Any) -> None:
    """The same kind of rules, without the mistake."""
    assert mg.gradcheck(primitive, leaf(X)) is True


def wrong_second(a: Any) -> Any:
    """The gradient of a^3, right as a value, whose own derivative is half of what it should be."""
    square = unlisted(np.square, lambda g, _y, b: g * b)  # 2 b, were it right
    return unlisted(lambda b: b**3, lambda g, _y, b: g * (3.0 * square(b)))(a)


def test_wrong_second_derivative_is_seen_with_order_two_only() -> None:
    """The first order is right, so order=1 passes; the second is not."""
    assert mg.gradcheck(wrong_second, leaf(X))
    with pytest.raises(GradError, match=r"gradcheck, second order: input 0 at index"):
        mg.gradcheck(wrong_second, leaf(X), order=2)
    assert mg.gradcheck(CUBE, leaf(X), order=2)


def detached(a: Any) -> Any:
    """exp, whose gradient is computed from a constant: no second derivative reaches a."""
    return unlisted(np.exp, lambda g, y, _a: g * (y.detach() if isinstance(y, mg.Tensor) else y))(a)


def test_a_gradient_cut_off_from_the_tape_is_rejected_at_second_order() -> None:
    """A rule that leaves the tape gives a right gradient and no second one."""
    assert mg.gradcheck(detached, leaf(X))
    with pytest.raises(GradError, match="second order"):
        mg.gradcheck(lambda a: detached(a) * a, leaf(X), order=2)


def test_a_rule_in_the_table_is_checked_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in `mul` shows in whatever is composed of it."""
    assert mg.gradcheck(scale_all, [leaf(X), leaf(W)])
    rule = ops.mul.rules[0]
    monkeypatch.setattr(ops.mul, "rules", (rule, lambda g, _y, a, _b: g * (a + 0.01)))
    with pytest.raises(GradError, match="input 1 at index"):
        mg.gradcheck(scale_all, [leaf(X), leaf(W)])


def test_the_failure_names_input_index_and_both_values() -> None:
    """The worst element, here the only wrong one, with both figures as numbers."""
    where = np.array([[1.0, 1.0, 1.0], [1.0, 3.0, 1.0]])
    bad = unlisted(np.multiply, lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: g * (a * where))
    with pytest.raises(GradError) as caught:
        mg.gradcheck(bad, [leaf(X), leaf(X + 2.0)])
    message = str(caught.value)
    found = re.search(r"input 1 at index \(1, 1\): derived (\S+), numeric (\S+) ", message)
    assert found, message
    derived, numeric = (float(v) for v in found.groups())
    assert derived == pytest.approx(3.0 * numeric, rel=1e-6)
    assert "1 of 6 elements" in message


def batch_norm(x: Any) -> Any:
    """Training mode, without scale and shift."""
    return F.batch_norm(x, training=True)


def test_degenerate_gradients_are_warned_about() -> None:
    """The sum of what BatchNorm returns does not depend on its input."""
    x = leaf(np.random.default_rng(0).standard_normal((8, 3)))
    with pytest.warns(UserWarning, match="gradcheck: all gradients are zero within noise"):
        mg.gradcheck(lambda x: batch_norm(x).sum(), x)
    with pytest.warns(UserWarning, match="second order: all gradients are zero"):
        mg.gradcheck(lambda x: x * 2.0, x, order=2)
    weights = np.random.default_rng(1).standard_normal((8, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mg.gradcheck(lambda x: (batch_norm(x) * weights).sum(), x, order=2)


def test_what_it_does_not_take() -> None:
    """Typed errors that say which input, or that there is nothing to check."""
    with pytest.raises(DtypeError, match="gradcheck: input 1 is float32, expected float64"):
        mg.gradcheck(ops.mul, [leaf(X), leaf(W.astype(np.float32))])
    with pytest.raises(GradError, match="gradcheck: no input requires grad"):
        mg.gradcheck(mg.exp, mg.tensor(X))
    with pytest.raises(GradError, match="no input requires grad"):
        mg.gradcheck(mg.exp, [])
    with pytest.raises(ArgumentError, match="order must be 1 or 2, got 3"):
        mg.gradcheck(mg.exp, leaf(X), order=3)


@pytest.mark.parametrize("fn", [mg.exp, WRONG["zero"][0], WRONG["NaN"][0]])
def test_inputs_are_left_alone(fn: Any) -> None:
    """Neither elements nor .grad nor requires_grad change, whatever the outcome."""
    x, constant = leaf(X), mg.tensor(W)
    x.grad = mg.tensor(W * np.ones((2, 1)))
    memory = x.data
    try:
        mg.gradcheck(lambda a, b: fn(a) * b, [x, constant], order=2)
    except GradError:
        assert fn is not mg.exp
    assert x.data is memory
    np.testing.assert_array_equal(x.data, X)
    np.testing.assert_array_equal(constant.data, W)
    np.testing.assert_array_equal(x.grad.data, W * np.ones((2, 1)))
    assert x.requires_grad
    assert not constant.requires_grad
    assert constant.grad is None


def test_inputs_of_any_layout_and_number() -> None:
    """Transposed and empty inputs, constants among them, several outputs, under no_grad too."""
    assert mg.gradcheck(mg.exp, mg.tensor(X.T, requires_grad=True), order=2)
    assert mg.gradcheck(mg.exp, leaf(np.empty((0, 3))))
    assert mg.gradcheck(lambda a, n, b: (a * n, a * b), [leaf(X), 3.0, mg.tensor(W)])
    with mg.no_grad():
        assert mg.gradcheck(mg.exp, leaf(X), order=2)


def test_a_mistake_in_the_second_of_several_outputs_is_seen() -> None:
    """All outputs are weighed, not only the first."""
    with pytest.raises(GradError, match="input 0"):
        mg.gradcheck(lambda a: (mg.exp(a), WRONG["a wrong factor"][0](a)), leaf(X))


def test_the_bound_is_relative_to_the_largest_gradient() -> None:
    """Small and large gradients alike: a relative mistake of 1e-5 is seen, one of 1e-8 is not."""
    for size in (1e-3, 1.0, 1e6):
        for error, seen in ((1e-5, True), (1e-8, False)):
            fn = unlisted(
                lambda a, size=size: a * size,
                lambda g, _y, _a, size=size, error=error: g * (size * (1.0 + error)),
            )
            if seen:
                with pytest.raises(GradError):
                    mg.gradcheck(fn, leaf(X), atol=0.0)
            else:
                assert mg.gradcheck(fn, leaf(X), atol=0.0)


@pytest.mark.parametrize("name", ["eps", "atol", "rtol", "seed"])
@pytest.mark.parametrize("wrong", ["a", float("nan"), -1])
def test_its_arguments_are_numbers(name: str, wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=f"gradcheck: {name} must be"):
        mg.gradcheck(lambda x: x * x, leaf(X), **{name: wrong})


def test_outputs_that_need_no_gradient_do_not_matter_to_either_order() -> None:
    assert mg.gradcheck(lambda x: [x * x * x, mg.tensor(3.0)], leaf(X), order=2)
