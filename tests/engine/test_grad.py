"""mg.grad gives derivatives of every order, and agrees with differences of random programs."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leaves import assert_tensor, leaf

import minigrad as mg
from minigrad.errors import DtypeError, GradError

# --- mg.grad and higher derivatives -------------------------------------------------------------


def test_mg_grad_leaves_grad_alone():
    x = leaf([1.0, 2.0])
    (g,) = mg.grad((x * x).sum(), x)
    assert_tensor(g, [2, 4])
    assert x.grad is None and g.is_leaf and not g.requires_grad


def test_mg_grad_of_what_is_no_leaf():
    x, w = leaf([1.0, 2.0]), leaf([5.0, 6.0])
    h = x * x
    loss = (h * w * h).sum()
    dh, dx, dl = mg.grad(loss, [h, x, loss])
    assert_tensor(dh, [10, 48])
    assert_tensor(dx, [20, 192])
    assert_tensor(dl, 1)
    assert x.grad is w.grad is None


def test_mg_grad_of_several_outputs_sums_them():
    x, y = leaf([1.0, 2.0]), leaf(3.0)
    a, b = x * y, (x * x).sum()
    weights = mg.tensor(np.array([10.0, 20.0]))
    dx, dy = mg.grad([a, b], [x, y], grad_outputs=[weights, None])
    assert_tensor(dx, [32, 64])
    assert_tensor(dy, 50)
    z = x * 1.0
    (dx,) = mg.grad([z, z], x, grad_outputs=[weights, weights])
    assert_tensor(dx, [20, 40])


def test_mg_grad_walks_and_frees_only_what_leads_to_its_inputs():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    branch = x * x
    loss = (branch + w * w).sum()
    (dw,) = mg.grad(loss, w)
    assert_tensor(dw, [6, 8])
    branch.sum().backward()
    assert_tensor(x.grad, [2, 4])


def test_an_unused_input_is_an_error_or_none():
    x, unused = leaf([1.0, 2.0]), leaf(1.0)
    loss = (x * x).sum()
    assert mg.grad(loss, [unused, x], allow_unused=True, retain_graph=True)[0] is None
    with pytest.raises(GradError, match=r"do not depend on input 1; allow_unused=True"):
        mg.grad(loss, [x, unused])
    loss.backward()  # the error above has not freed the tape
    assert_tensor(x.grad, [2, 4])


def test_derivatives_of_every_order():
    x = leaf([0.5, 2.0])
    derivative, v = x**4 + x.exp(), np.array([0.5, 2.0])
    for n, polynomial in enumerate([4 * v**3, 12 * v**2, 24 * v, 24 + 0 * v, 0 * v], 1):
        (derivative,) = mg.grad(derivative.sum(), x, create_graph=True)
        expected = polynomial + np.exp(v)
        np.testing.assert_allclose(derivative.numpy(), expected, rtol=1e-12, err_msg=f"order {n}")
        assert derivative.requires_grad
    assert x.grad is None


def test_create_graph_in_backward_keeps_the_tape_and_records_the_gradient():
    x, y = leaf(2.0), leaf(3.0)
    loss = x * x * y
    loss.backward(create_graph=True)
    assert_tensor(x.grad, 12)
    dx = x.grad
    x.grad = y.grad = None
    dx.backward()  # d(2xy)
    assert_tensor(x.grad, 6)
    assert_tensor(y.grad, 4)


def test_gradient_penalty_against_its_formula():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    w = leaf([0.5, -0.25])
    (dx,) = mg.grad((x @ w).tanh().sum(), x, create_graph=True)
    (dx * dx).sum().backward()
    t = np.tanh(x.numpy() @ w.numpy())
    s, n = 1 - t**2, w.numpy() @ w.numpy()
    np.testing.assert_allclose(
        w.grad.numpy(),
        2 * w.numpy() * (s**2).sum() - 4 * n * (s**2 * t) @ x.numpy(),
        rtol=1e-12,
    )


# --- random programs ----------------------------------------------------------------------------

UNARY = [mg.tanh, mg.sigmoid, lambda a: a * 0.5, lambda a: a.T, lambda a: a[::-1] - 0.25]
UNARY += [lambda a: a.mean(0, keepdims=True) + a, lambda a: mg.exp(a * 0.1), lambda a: a * a * 0.1]
BINARY = [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: (a @ b) * 0.3]
BINARY += [lambda a, b: a / (1.0 + b * b), lambda a, b: a[:1] * b]
steps = st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))


@settings(max_examples=40)
@given(program=st.lists(steps, min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_random_programs_agree_with_finite_differences(program, seed):
    random = np.random.default_rng(seed)
    values = [random.uniform(-1, 1, shape) for shape in [(2, 2), (1, 2), (2, 1)]]
    weights = random.uniform(-1, 1, (2, 2))

    def run(inputs):
        pool = [a + mg.tensor(np.zeros((2, 2))) for a in inputs]
        for which, i, j in program:
            a, b = pool[i % len(pool)], pool[j % len(pool)]
            k = which % (len(UNARY) + len(BINARY))
            pool.append(UNARY[k](a) if k < len(UNARY) else BINARY[k - len(UNARY)](a, b))
        return (sum(pool[1:], pool[0]) * weights).sum()

    inputs = [leaf(v) for v in values]
    run(inputs).backward()
    h = 1e-5
    for k, v in enumerate(values):
        for index in itertools.product(*map(range, v.shape)):
            ends = []
            for delta in (h, -h):
                moved = [u.copy() for u in values]
                moved[k][index] += delta
                ends.append(run([mg.tensor(u) for u in moved]).item())
            slope = (ends[0] - ends[1]) / (2 * h)
            assert math.isclose(inputs[k].grad.numpy()[index], slope, rel_tol=1e-6, abs_tol=1e-7)


def test_one_array_is_one_cotangent():
    x = mg.tensor(np.ones((4, 3)), requires_grad=True)
    (g,) = mg.grad(x * 2.0, x, np.full((4, 3), 5.0))
    np.testing.assert_array_equal(g.data, np.full((4, 3), 10.0))


def test_a_second_mg_grad_finds_the_tape_freed():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    mg.grad(y, x)
    with pytest.raises(GradError, match="the tape was freed by an earlier backward"):
        mg.grad(y, x)


def test_what_a_freed_record_hides_is_not_called_unused():
    """The error must not say that y does not depend on x, since it does."""
    x = leaf([1.0, 2.0])
    h = x * x
    y, z = h.sum(), (h * h).sum()
    mg.grad(y, x)
    with pytest.raises(GradError, match="the tape was freed by an earlier backward"):
        mg.grad(z, x)


@pytest.mark.parametrize("wrong", [3.0, None, "x"])
def test_mg_grad_of_what_is_no_tensor(wrong):
    x = leaf([1.0, 2.0])
    with pytest.raises(DtypeError, match=f"grad: .* got {type(wrong).__name__}"):
        mg.grad(wrong, x)
    with pytest.raises(DtypeError, match=f"grad: .* got {type(wrong).__name__}"):
        mg.grad((x * x).sum(), wrong)
