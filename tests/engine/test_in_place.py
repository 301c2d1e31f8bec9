"""Gradients share no memory, and Tensors may change in place only where no rule reads them."""

import operator

import numpy as np
import pytest
from leaves import assert_tensor, leaf

import minigrad as mg
from minigrad import functional as F
from minigrad import optim
from minigrad.errors import DtypeError, GradError, ShapeError

# --- memory -------------------------------------------------------------------------------------


ALIASES = {
    "add": lambda x, y: x + y,
    "add itself": lambda x, y: x + x,
    "reshape": lambda x, y: x.reshape(9) + y.reshape(9),
    "T": lambda x, y: x.T + y.T,
    "broadcast": lambda x, y: mg.broadcast_to(x, (2, 3, 3)) + y,
    "concat": lambda x, y: mg.concat([x, y]),
    "stack": lambda x, y: mg.stack([x, y]),
    "slices": lambda x, y: x[:, :2] + y[:, 1:],
    "nothing": lambda x, y: x,
    "sub": lambda x, y: x - y,
    "unsqueeze": lambda x, y: mg.unsqueeze(x + y, 0),
    "linear": lambda x, y: F.linear(x, y, y[0]),
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", ALIASES)
def test_gradients_share_memory_with_nothing(name, create_graph):
    x, y = leaf(np.eye(3)), leaf(np.arange(9.0).reshape(3, 3))
    result = ALIASES[name](x, y)
    given = mg.tensor(np.ones(result.shape))
    result.backward(given, retain_graph=True, create_graph=create_graph)
    by_grad = mg.grad(result, [x, y], given, create_graph=create_graph, allow_unused=True)
    gradients = [g.numpy() for g in (x.grad, y.grad, *by_grad) if g is not None]
    others = [t.numpy() for t in (x, y, result, given)]
    for i, g in enumerate(gradients):
        assert g.flags.writeable and g.flags.owndata
        assert not any(np.shares_memory(g, other) for other in gradients[:i] + others)
    for t in (x, y):
        t.grad = None


# --- changes in place ---------------------------------------------------------------------------


def by_copy(w):
    with mg.no_grad():
        w.copy_(0.0)


def by_detached(w):
    with mg.no_grad():
        w.detach().copy_(0.0)


def by_view(w):
    with mg.no_grad():
        w.T.reshape(-1)  # a copy, which changes nothing
        w.T.copy_(0.0)


def by_data(w):
    w.data = np.zeros_like(w.data)


def by_operator(w):
    with mg.no_grad():
        w -= 1.0


def by_sgd(w):
    w.grad = mg.tensor(np.ones_like(w.data))
    optim.SGD([w], lr=1.0).step()
    w.grad = None


CHANGES = [by_copy, by_detached, by_view, by_data, by_operator, by_sgd]
READERS = {
    "mul": lambda w, x: w * x,
    "mul itself": lambda w, x: w * w,
    "div": lambda w, x: x / w,
    "pow": lambda w, x: w**2,
    "matmul": lambda w, x: x @ w,
    "matmul of T": lambda w, x: x @ w.T,
    "linear": lambda w, x: F.linear(x, w),
    "a view's view": lambda w, x: x * w.T.T,
    "detached": lambda w, x: x * w.detach(),
    "log": lambda w, x: w.log(),
    "where": lambda w, x: mg.where(w.detach() > 1.0, w, x) * w,
}
# What no rule reads may change.
BLIND = {
    "add": lambda w, x: w + x,
    "sub": lambda w, x: x - w,
    "neg": lambda w, x: -w,
    "exp": lambda w, x: w.exp(),
    "relu": lambda w, x: w.relu(),
    "T": lambda w, x: w.T,
    "factor of a constant": lambda w, x: w * x.detach(),
    "broadcast": lambda w, x: w.broadcast_to((2, 3, 3)),
    "concat": lambda w, x: mg.concat([w, x]),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", READERS)
def test_backward_refuses_an_input_that_changed_after_it_was_read(name, change):
    w, x = leaf(np.full((3, 3), 2.0)), leaf(np.ones((3, 3)))
    y = READERS[name](w, x)
    change(w)
    with pytest.raises(GradError, match=r"input \d of '\w+', shape .* was changed in place"):
        y.backward(np.ones(y.shape))
    assert w.grad is x.grad is None
    with np.errstate(all="ignore"):
        y = READERS[name](w, x)  # computed again, after the change
    y.backward(np.ones(y.shape))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", BLIND)
def test_backward_does_not_mind_a_change_of_what_it_does_not_read(name, change):
    w, x = leaf(np.full((3, 3), 2.0)), leaf(np.ones((3, 3)))
    y = BLIND[name](w, x)
    y.backward(np.ones(y.shape), retain_graph=True)
    expected = w.grad.numpy()
    w.grad = None
    change(w)
    y.backward(np.ones(y.shape))
    assert_tensor(w.grad, expected)


def by_array(y):
    y.numpy()[...] = 5.0
    y.mark_changed()


def by_array_of_a_view(y):
    view = y.reshape(-1)
    view.numpy()[...] = 5.0
    view.mark_changed()


def by_new_data(y):
    y.data = np.full(y.shape, 5.0)


def norm(x, **how):
    return F.batch_norm(x, training=True, **how)


LABELS = np.arange(3)
RESULTS_READ = {
    "div": lambda x: x / (x + 7.0),
    "exp": lambda x: x.exp(),
    "relu": lambda x: x.relu(),
    "max": lambda x: x.max(axis=0),
    "softmax": lambda x: F.softmax(x, 1),
    "batch_norm": lambda x: norm(x, activation="relu"),
}
RESULTS_UNREAD = {
    "mul": lambda x: x * x,
    "log": lambda x: x.log(),
    "div": lambda x: x / 2.0,
    "T": lambda x: x.T,
    "batch_norm": norm,
    "label_cross_entropy": lambda x: F.cross_entropy(x, LABELS),
}


@pytest.mark.parametrize("change", [by_array, by_array_of_a_view, by_new_data])
@pytest.mark.parametrize("name", RESULTS_READ)
def test_backward_refuses_a_result_that_changed_and_that_a_rule_reads(name, change):
    x = leaf([[1.0, 2.0, 4.0], [3.0, -1.0, 0.5], [2.0, 1.0, -3.0]])
    y = RESULTS_READ[name](x)
    change(y)
    loss = (y + y).sum()  # which reads nothing, and is recorded after the change
    with pytest.raises(GradError, match=f"backward: the result of '{name}' was changed in place"):
        loss.backward()
    assert x.grad is None
    with pytest.raises(GradError, match=f"grad: the result of '{name}' was changed in place"):
        mg.grad(y, x, np.ones(y.shape))
    RESULTS_READ[name](x).sum().backward()  # computed again


@pytest.mark.parametrize("change", [by_array, by_new_data])
@pytest.mark.parametrize("name", RESULTS_UNREAD)
def test_backward_does_not_mind_a_changed_result_that_no_rule_reads(name, change):
    x = leaf([[1.0, 2.0, 4.0], [3.0, 1.0, 0.5], [2.0, 1.0, 3.0]])
    y = RESULTS_UNREAD[name](x)
    (expected,) = mg.grad(y, x, np.ones(y.shape), retain_graph=True)
    change(y)
    y.backward(np.ones(y.shape))
    assert_tensor(x.grad, expected.numpy())


def test_a_constant_that_changed_matters_only_where_it_is_read():
    w, c = leaf([1.0, 2.0]), mg.tensor(np.array([3.0, 4.0]))
    added, multiplied = (w + c).sum(), (w * c).sum()
    c.copy_(0.0)  # a constant needs no no_grad
    added.backward()
    assert_tensor(w.grad, [1, 1])
    with pytest.raises(GradError, match="input 1 of 'mul'"):
        multiplied.backward()


def test_load_state_dict_between_forward_and_backward():
    model, x = mg.nn.Linear(3, 2).double(), leaf(np.ones((4, 3)))
    state = model.state_dict()
    loss = model(x).sum()
    model.load_state_dict({"bias": state["bias"]}, strict=False)
    loss.backward(retain_graph=True)  # no rule reads the bias
    x.grad = model.weight.grad = None
    model.load_state_dict(state)
    with pytest.raises(GradError, match="input 1 of 'linear'"):
        loss.backward()
    assert x.grad is model.weight.grad is None


def test_operators_in_place_write_to_a_leaf_only_in_no_grad():
    w = leaf([1.0, 2.0])
    same, memory = w, w.numpy()
    with pytest.raises(GradError, match=r"^-=, which writes in .* only inside mg\.no_grad"):
        w -= 1.0
    assert_tensor(w, [1, 2])
    with mg.no_grad():
        w += 1.0
        w *= mg.tensor(np.array([2.0, 3.0]))
        w -= np.array([1.0, 2.0])
        w /= 2.0
    assert w is same and w.numpy() is memory and w.is_leaf and w.requires_grad
    assert_tensor(w, [1.5, 3.5])
    with mg.no_grad(), pytest.raises(ShapeError, match=r"^-=, which writes in place: "):
        w -= np.ones((2, 2))
    result = w * 1.0
    alias = result
    result += 1.0  # the result of an operation is rebound, not written to
    assert result is not alias and result.requires_grad
    assert_tensor(alias, [1.5, 3.5])


def test_copy_refuses_what_it_may_not_overwrite():
    w = leaf([1.0, 2.0])
    result = w * 2.0
    for target in (result, result.detach(), result[:1]):
        with mg.no_grad(), pytest.raises(GradError, match="result of an operation"):
            target.copy_(0.0)
    for target in (w, w.detach()):
        with pytest.raises(GradError, match="no_grad") if target is w else mg.no_grad():
            target.copy_(target)
    with mg.no_grad():
        with pytest.raises(ShapeError, match=r"copy_: \(3,\) does not fit \(2,\)"):
            w.copy_(np.ones(3))
        with pytest.raises(DtypeError, match="float64 into int64"):
            mg.tensor(np.array([1])).copy_(np.array([0.5]))
    assert_tensor(w, [1, 2])


@pytest.mark.parametrize("operate", ["iadd", "isub", "imul", "itruediv", "ipow"])
def test_augmented_assignment_writes_into_a_leaf_that_needs_no_gradient(operate):
    """Averages of weights are kept so, and every reference to the Tensor must see the change."""
    average = mg.tensor([1.0, 2.0])
    held, before = average, average.data.copy()
    expected = getattr(operator, operate)(before, np.float32(3.0))
    average = getattr(operator, operate)(average, 3.0)
    assert average is held
    np.testing.assert_array_equal(held.data, expected)


def test_augmented_assignment_of_a_recorded_value_binds_the_name_anew():
    w, total = mg.tensor([2.0], requires_grad=True), mg.tensor([0.0])
    start = total
    total += w * w
    total.backward()
    assert start.item() == 0.0 and w.grad.item() == 4.0


@pytest.mark.parametrize(
    "use",
    [
        lambda w: w.sum(),
        lambda w: w.reshape(-1),
        lambda w: w[0],
        lambda w: w.astype(np.float64),
    ],
)
def test_rules_that_need_only_a_shape_or_dtype_allow_a_change(use):
    w = mg.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    y = use(w)
    with mg.no_grad():
        w *= 2.0
    y.backward(np.ones(y.shape))
    assert w.grad.shape == w.shape


def test_a_reshape_that_had_to_copy_shares_nothing():
    """A change of the copy leaves its source as it was."""
    x = mg.tensor(np.ones((2, 3)), requires_grad=True)
    w = mg.tensor(np.arange(6.0).reshape(2, 3))
    y = (x * w).sum()
    w.T.reshape(6).copy_(np.zeros(6))
    y.backward()
    np.testing.assert_array_equal(x.grad.data, w.data)
