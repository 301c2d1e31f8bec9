"""Tensor.backward adds to the right gradients, frees the tape, and refuses wrong calls."""

import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.engine.backward import backward_pass
from minigrad.engine.tape import tape
from minigrad.errors import ArgumentError, DtypeError, GradError, ShapeError
from minigrad.ops.primitive import TABLE, Primitive, primitive


def leaf(data, dtype=np.float64):
    """A leaf that requires grad."""
    return mg.tensor(np.array(data, dtype), requires_grad=True)


def assert_tensor(actual, expected, dtype=np.float64):
    """Exact values, shape and dtype."""
    assert actual.dtype == dtype
    np.testing.assert_array_equal(actual.numpy(), np.array(expected, dtype), strict=True)


# --- backward -----------------------------------------------------------------------------------


def test_grad_is_none_until_backward_and_then_accumulates():
    x, unused = leaf([1.0, 2.0]), leaf(1.0)
    assert x.grad is None
    (x * x).sum().backward()
    first = x.grad
    assert_tensor(first, [2, 4])
    (3.0 * x).sum().backward()
    assert_tensor(x.grad, [5, 7])
    assert_tensor(first, [2, 4])  # what somebody kept does not change under him
    assert unused.grad is None


def test_only_leaves_that_require_grad_get_one():
    x, constant = leaf([1.0, 2.0]), mg.tensor(np.array([3.0, 4.0]))
    middle = x * constant
    loss = (middle * middle.detach()).sum()
    loss.backward()
    assert_tensor(x.grad, [9, 32])
    assert constant.grad is middle.grad is loss.grad is None
    assert middle.requires_grad and not middle.is_leaf and x.is_leaf


def test_gradient_weighs_the_elements():
    x = leaf([1.0, 2.0])
    (x * x).backward(mg.tensor(np.array([10.0, 100.0])))
    assert_tensor(x.grad, [20, 400])
    (x * x).backward(np.array([1.0, -1.0]))
    assert_tensor(x.grad, [22, 396])
    leaf_itself = leaf([1.0, 2.0])
    leaf_itself.backward([5, 6])
    assert_tensor(leaf_itself.grad, [5, 6])


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_element_needs_no_gradient(shape):
    x = leaf(np.full(shape, 3.0))
    (x * x).backward()
    assert_tensor(x.grad, np.full(shape, 6.0))


def test_second_backward_says_what_happened_and_how_to_mend_it():
    x = leaf([1.0, 2.0])
    loss = x.exp().sum()
    loss.backward()
    before = x.grad.numpy().copy()
    with pytest.raises(GradError, match=r"tape was freed by an earlier backward.*retain_graph=Tr"):
        loss.backward()
    assert_tensor(x.grad, before)


def test_retain_graph_allows_another():
    x = leaf([1.0, 2.0])
    loss = (x * x).sum()
    for times in (1, 2):
        loss.backward(retain_graph=True)
        assert_tensor(x.grad, np.array([2, 4]) * times)
    loss.backward()
    assert_tensor(x.grad, [6, 12])
    with pytest.raises(GradError, match="freed"):
        loss.backward()


def test_a_freed_part_is_noticed_behind_a_new_one_and_nothing_of_it_is_spent():
    x = leaf([1.0, 2.0])
    shared = x * x
    shared.sum().backward()
    y = leaf([1.0, 1.0])
    fresh = y * 2.0
    with pytest.raises(GradError, match="freed"):
        (shared * fresh).sum().backward()
    assert_tensor(x.grad, [2, 4])
    assert y.grad is None
    fresh.sum().backward()
    assert_tensor(y.grad, [2, 2])


def test_diamonds_and_repeated_inputs_sum_over_paths():
    x = leaf([2.0, 3.0])
    a, b = x * 2.0, x.exp()
    ((a + b) * (a - b) + x * x * x).sum().backward()  # 4 x^2 - e^(2x) + x^3
    v = np.array([2.0, 3.0])
    np.testing.assert_allclose(x.grad.numpy(), 8 * v - 2 * np.exp(2 * v) + 3 * v**2, rtol=1e-14)
    x.grad = None
    y = x
    for _ in range(60):
        y = y + y  # 2^60 paths: each record is walked once
    y.sum().backward()
    assert_tensor(x.grad, [2.0**60] * 2)
    x.grad = None
    mg.concat([x, x, x * 3.0]).sum().backward()
    assert_tensor(x.grad, [5, 5])


def test_gradients_are_cast_to_each_dtype_and_summed_to_each_shape():
    a, b = leaf([[1.0], [2.0]], np.float32), leaf([10.0, 20.0, 30.0])
    y = a * b
    assert y.dtype == np.float64
    y.sum().backward()
    assert_tensor(a.grad, [[60], [60]], np.float32)
    assert_tensor(b.grad, [3, 3, 3])
    a.double().sum().backward()
    assert_tensor(a.grad, [[61], [61]], np.float32)


# --- errors -------------------------------------------------------------------------------------

BAD = {
    "not a scalar": (lambda y: y.backward(), GradError, r"shape \(2,\).*\.sum\(\)"),
    "wrong shape": (
        lambda y: y.backward(np.ones(3)),
        ShapeError,
        r"\(3,\), expected \(2,\).*resha",
    ),
    "broadcastable": (lambda y: y.backward(np.ones(1)), ShapeError, r"\(1,\), expected \(2,\)"),
    "same size": (lambda y: y.backward(np.ones((1, 2))), ShapeError, r"expected \(2,\)"),
    "integers": (
        lambda y: y.backward(np.ones(2, int)),
        DtypeError,
        "got int64; .*astype",
    ),
    "booleans": (lambda y: y.backward([True, True]), DtypeError, "floats, got bool"),
    "complex": (lambda y: y.backward(np.ones(2, complex)), DtypeError, "complex128"),
    "text": (lambda y: y.backward("g"), DtypeError, "^backward: the gradient: <U1 'g' is not"),
    "half": (lambda y: y.backward(np.ones(2, np.float16)), DtypeError, "float16"),
    "grad: not a scalar": (lambda y: mg.grad(y, y), GradError, "only a single element"),
    "grad: no inputs": (lambda y: mg.grad(y.sum(), []), ArgumentError, "0 inputs"),
    "grad: no outputs": (lambda y: mg.grad([], y), ArgumentError, "0 outputs"),
    "grad: two for one": (
        lambda y: mg.grad(y, y, grad_outputs=[None, None]),
        ArgumentError,
        "1 outputs, 1 inputs, 2 grad_outputs",
    ),
    "grad: array for input": (
        lambda y: mg.grad(y.sum(), [np.ones(2)]),
        DtypeError,
        "Tensors, got ndarray",
    ),
    "grad: constant input": (
        lambda y: mg.grad(y.sum(), [y, mg.tensor(1.0)]),
        GradError,
        "input 1 does not require grad",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_an_error_names_what_came_and_leaves_gradients_and_tape(call, error, message):
    x = leaf([1.0, 2.0])
    y = x * x
    with pytest.raises(error, match=message):
        call(y)
    assert x.grad is None
    y.sum().backward()
    assert_tensor(x.grad, [2, 4])


@pytest.mark.parametrize("how", ["constant", "no_grad", "detached", "compared"])
def test_nothing_to_differentiate(how):
    x = leaf([1.0, 2.0])
    with mg.no_grad():
        silent = (x * x).sum()
    y = {
        "constant": mg.tensor(1.0) * 2.0,
        "no_grad": silent,
        "detached": (x.detach() * 2.0).sum(),
        "compared": (x > 1.0)[0],
    }[how]
    for call in (y.backward, lambda: mg.grad(y, x)):
        with pytest.raises(GradError, match="there is nothing to differentiate"):
            call()


# --- what else may happen meanwhile -------------------------------------------------------------


def test_python_that_runs_inside_a_backward_pass_may_use_tensors():
    """Weak references' callbacks and signal handlers run in its middle."""
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    seen = []
    h = x * 2

    def callback(_):
        t = 2.0 * mg.tensor([3.0]) + nn.Parameter(np.ones(1))
        seen.append((t.tolist(), t.requires_grad, mg.is_grad_enabled()))

    reference = weakref.ref(h, callback)
    y = (h * h).sum()
    del h
    y.backward()
    assert seen == [([7.0], False, False)] and reference() is None
    assert x.grad.tolist() == [8.0, 16.0]


def test_a_leaf_that_changes_its_mind_after_the_forward():
    """Frozen, it gets no gradient; thawed, the outputs do not depend on it."""
    x, w = mg.tensor([1.0, 2.0]), mg.tensor([3.0, 4.0], requires_grad=True)
    y = (x * w).sum()
    x.requires_grad = True
    with pytest.raises(GradError, match="outputs do not depend on input 0"):
        mg.grad(y, x)
    assert mg.grad(y, x, allow_unused=True, retain_graph=True) == (None,)
    w.requires_grad = False
    y.backward()
    assert x.grad is None and w.grad is None


def test_a_joint_rule_may_return_the_cotangent_itself():
    """The caller's array is not handed out as a gradient."""
    twice = Primitive(
        "twice", lambda a: (a * 2, a * 3), lambda g, _y, _a, wrt: (g[0],), "", outputs=2
    )
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    first, _ = twice(x)
    g = mg.tensor([5.0, 6.0])
    first.backward(g)
    assert x.grad.tolist() == [5.0, 6.0] and not np.may_share_memory(x.grad.data, g.data)


def test_a_primitive_has_one_to_four_outputs():
    for n in (0, 5):
        with pytest.raises(ValueError, match=f"1 to 4 outputs, got {n}"):
            primitive("many", np.exp, None, "", outputs=n)
    assert "many" not in TABLE


# --- slices gather in one array -----------------------------------------------------------------

MASK = np.array([True, False, True, True])
INDICES = [
    1,
    -1,
    slice(1, 3),
    slice(None, None, -2),
    (slice(None), 2),
    (..., None, 0),
    (2, 3),
    (),
    MASK,
    (MASK, 1),
    np.array([3, 0, 3]),
    np.array([[1, -1], [1, 0]]),
    (np.array([0, 0, 2]), np.array([1, 1, 4])),
    (slice(1, None), np.array([2, 2])),
]


@pytest.fixture
def scattered(monkeypatch):
    """The shapes of the arrays of zeros that scatter has made."""
    shapes, forward = [], TABLE["scatter"].forward

    def counted(g, *arrays, index, shape):
        shapes.append(shape)
        return forward(g, *arrays, index=index, shape=shape)

    monkeypatch.setattr(TABLE["scatter"], "forward", counted)
    return shapes


def sum_of_slices(x):
    """Each index twice, with weights, between other uses of x."""
    total = (x * 2.0).sum()
    for k, index in enumerate(INDICES * 2, 1):
        total = total + (x[index] * float(k)).sum()
        if k % 10 == 0:
            total = total + (x.T @ x).sum()
    return total


@pytest.mark.parametrize("order", ["C", "F"])
def test_slices_gather_in_one_array(scattered, order):
    """The gradient is that of a recorded backward pass, where each slice is an array of zeros."""
    values = np.asarray(np.arange(20.0).reshape(4, 5), order=order)
    x, recorded = leaf(values), leaf(values)
    sum_of_slices(recorded).backward(create_graph=True)
    assert len(scattered) == 2 * len(INDICES)
    scattered.clear()
    sum_of_slices(x).backward()
    assert scattered == [(4, 5)]
    np.testing.assert_array_equal(x.grad.data, recorded.grad.data)


def test_slices_of_results_gather_too(scattered):
    """Also where the result itself is a target, and where the tape is kept for a second time."""
    x = leaf(np.arange(6.0))
    y = x * x
    total = y[0] + y[1] * y[2] + y[3:].sum() + y[0]
    for _ in range(2):
        dx, dy = mg.grad(total, [x, y], retain_graph=True)
        assert_tensor(dy, [2, 4, 1, 1, 1, 1])
        assert_tensor(dx, [0, 8, 4, 6, 8, 10])
    assert scattered == [(6,), (6,)]


@pytest.mark.parametrize("use", [lambda y: y, lambda y: y.reshape(4), lambda y: y.T + 0.0])
def test_slices_are_not_added_to_an_array_that_others_hold(use):
    """The cotangent of a sum is lent to both terms, and may be the user's own, or a view of it."""
    x, other, g = leaf(np.zeros((2, 2))), leaf(np.zeros((2, 2))), np.ones((2, 2))
    y = x + other
    slices = [y[0], y[1], y[0, 0], y[0]]
    z = use(y)  # later, and so its cotangent comes to y before those of the slices
    given = g.reshape(z.shape)
    mg.grad([z, *slices], x, [given, *[np.ones(s.shape) for s in slices]], retain_graph=True)
    np.testing.assert_array_equal(g, 1)
    shared = (x + other) * 1.0
    whole = (shared * g).sum() + sum(x[i].sum() for i in (0, 1, 0)) + other[0, 0] + other[0, 1]
    whole.backward()
    np.testing.assert_array_equal(g, 1)
    assert_tensor(x.grad, [[3, 3], [2, 2]])
    assert_tensor(other.grad, [[2, 2], [1, 1]])


# --- the layout of gradients --------------------------------------------------------------------

LAYOUTS = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "sliced": lambda a: np.repeat(a, 2, 2)[..., ::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "permuted": lambda a: a.transpose(2, 0, 1).copy().transpose(1, 2, 0),
}
USES = {
    "itself": lambda p: p,
    "permuted": lambda p: p.permute(2, 0, 1),
    "transposed": lambda p: p.transpose(0, 2),
    "times a permuted array": lambda p: p.permute(1, 2, 0) * np.arange(24.0).reshape(3, 4, 2),
    "times one in F order": lambda p: p * np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "permuted and squared": lambda p: p.permute(2, 1, 0) ** 2,
    "sliced": lambda p: p.permute(2, 0, 1)[1:, :, ::2],
    "broadcast": lambda p: mg.broadcast_to(p, (5, 2, 3, 4)).permute(3, 0, 1, 2) * 2.0,
    "reshaped": lambda p: p.permute(1, 0, 2).reshape(3, 8),
    "product": lambda p: p.permute(2, 0, 1).reshape(4, 6).T @ np.ones((4, 3)),
    "twice": lambda p: p.permute(2, 0, 1) * p.permute(2, 0, 1),
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("use", USES)
def test_gradients_lie_in_c_order_in_memory_of_their_own(use, layout, create_graph):
    """As kernels that update parameters want them, whatever the rules made of it."""
    values = LAYOUTS[layout](np.arange(24.0).reshape(2, 3, 4))
    p = leaf(np.zeros(values.shape))
    p.data = values  # as it lies
    y = USES[use](p)
    g = np.asfortranarray(np.ones(y.shape))
    (dp,) = mg.grad(y, p, g, retain_graph=True, create_graph=create_graph)
    y.backward(mg.tensor(g), create_graph=create_graph)
    for d in (dp.data, p.grad.data):
        assert d.flags.carray
        assert not np.shares_memory(d, g) and not np.shares_memory(d, p.data)
    assert not np.shares_memory(dp.data, p.grad.data)
    np.testing.assert_array_equal(dp.data, p.grad.data)
    first = dp.data.copy()
    USES[use](p).backward(mg.tensor(g))
    assert p.grad.data.flags.carray
    np.testing.assert_array_equal(p.grad.data, 2 * first)


def test_an_observer_sees_each_contribution_before_it_is_added():
    """Summed down and cast as the input needs it; the pass computes what it computes unobserved."""
    x, w = leaf(np.arange(6.0).reshape(3, 2)), leaf([2.0, 3.0], np.float32)
    y = (x * w + x).sum()
    seen = []

    def observe(record, g, i, gx):
        seen.append((record.primitive.name, i, g.numpy(), gx.numpy()))

    one = mg.tensor(np.ones(()))
    found = backward_pass([(y, one)], tape([y]), True, False, observe=observe)
    ones, total = np.ones((3, 2)), np.array([2.0, 3.0])
    expected = [
        ("sum", 0, np.ones(()), ones),
        ("add", 0, ones, ones),
        ("add", 1, ones, ones),
        ("mul", 0, ones, ones * total),
        ("mul", 1, ones, np.array([6, 9], np.float32)),
    ]
    assert [s[:2] for s in seen] == [e[:2] for e in expected]
    for (*_, g, gx), (*_, g_expected, gx_expected) in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(g, g_expected, strict=True)
        np.testing.assert_array_equal(gx, gx_expected, strict=True)
    for p, g in zip((x, w), mg.grad(y, [x, w]), strict=True):
        np.testing.assert_array_equal(found[p].numpy(), g.numpy(), strict=True)
