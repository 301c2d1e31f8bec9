"""A trace relies only on objects that were there before the step, and finds them by name.

The cases are arrays in every order, views, changes in place, and first calls. Generated functions
run as Python.
"""

import queue

import numpy as np
import pytest
from small_networks import network

import minigrad as mg
from minigrad import functional as F
from minigrad import optim
from minigrad.errors import TraceError
from minigrad.ops import random

pytestmark = pytest.mark.usefixtures("as_python")


RNG = np.random.default_rng(0)
INPUTS = [RNG.standard_normal((4, 3)) for _ in range(4)]
LABELS = np.array([0, 1, 1, 0])


def leaf(*shape):
    return mg.tensor(np.random.default_rng(1).standard_normal(shape), requires_grad=True)


def same_as_eager(make, inputs=INPUTS):
    """Check that a step, made twice, gives the same results compiled and eagerly, call by call."""
    eager, compiled = make(), mg.compile(make())
    for x in inputs:
        for a, b in zip(eager(mg.tensor(x)), compiled(x), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_allclose(b.data, a.data, rtol=1e-10, atol=1e-12)
    return compiled


# --- gradients that do not lie in C order ---------------------------------------------------------

LAYERS = {
    "transposed": ((2, 3), lambda x, w: x @ w.T),
    "permuted": ((1, 2, 3), lambda x, w: x @ w.permute(2, 0, 1).reshape(3, 2)),
    "sliced": ((5, 2), lambda x, w: x @ w[1:4]),
    "reversed": ((3, 2), lambda x, w: x @ w[::-1]),
    "columns": ((3, 4), lambda x, w: x @ w[:, ::2]),
    "tied": ((3, 3), lambda x, w: (x @ w).tanh() @ w.T),
    "attention": ((3, 3), lambda x, w: F.softmax(x @ w @ x.T) @ x),
}


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "dampening": 0.5}], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_by_hand_are_trained(name, options):
    shape, layer = LAYERS[name]

    def make():
        w = leaf(*shape)
        opt = optim.SGD([w], lr=0.1, **options)

        def step(x):
            opt.zero_grad()
            loss = F.cross_entropy(layer(x, w), LABELS)
            loss.backward()
            opt.step()
            return loss, w * 1.0, w.grad * 1.0

        return step

    same_as_eager(make)


def test_gradients_are_accumulated_in_any_order():
    def make():
        w = leaf(3, 4, 2)

        def step(x):
            (w.permute(2, 0, 1) * x.T).sum().backward()
            return (w.grad * 1.0,)

        return step

    same_as_eager(make)


@pytest.mark.parametrize("order", ["F", "C"])
def test_parameters_in_any_order(order):
    """Each call copies a parameter in Fortran's order, and copies it back."""

    def make():
        w = leaf(3, 2)
        w.data = np.asarray(w.data, order=order)
        opt = optim.SGD([w], lr=0.1, momentum=0.9)

        def step(x):
            opt.zero_grad()
            ((x @ w) ** 2).sum().backward()
            opt.step()
            return (w * 1.0,)

        return step

    same_as_eager(make)


# --- arrays of NumPy from outside -----------------------------------------------------------------


@pytest.mark.parametrize(
    "view",
    [
        lambda w: w.reshape(-1)[1:4],
        lambda w: w[1],
        lambda w: w[::-1],
        lambda w: w[:, :1],
        lambda w: np.ascontiguousarray(w.T).T,
        lambda w: w.astype(">f8"),
        lambda w: np.broadcast_to(w[0], (4, 3)),
    ],
    ids=["part", "row", "reversed", "column", "fortran", "big-endian", "read-only"],
)
def test_views_of_arrays_from_outside(view):
    """They are read where they lie, and anew in each call."""
    outside = RNG.standard_normal((4, 3))
    part = view(outside)

    def step(x):
        return x * outside, x * part, x[:1] * view(outside)[..., :1]

    compiled = mg.compile(step)
    for x in INPUTS:
        for a, b in zip(step(mg.tensor(x)), compiled(x), strict=True):
            np.testing.assert_array_equal(a.data, b.data)
        if part.flags.writeable:
            part[...] += 1.0


def test_an_array_that_the_step_itself_changes_is_refused():
    def step(x):
        mask = np.zeros(3)
        y = x * mask
        mask[0] = 1.0
        return y + x * mask

    with pytest.raises(TraceError, match=r"changes an array of NumPy, of shape \(3,\)"):
        mg.compile(step)(INPUTS[0])


# --- changes in place of what the step has made ---------------------------------------------------


def test_results_that_are_changed_in_place():
    """Everyone with a reference to a result sees the change, and so do its views."""

    def make():
        def step(x):
            total = mg.tensor(np.zeros(3))
            for row in x:
                total += row
            h = x * 2.0
            twin, flat = h.detach(), h.reshape(-1)
            h += 1.0
            h.copy_(h * x)
            again = flat * 1.0
            h *= 3.0
            return total, h, twin, flat, again

        return step

    same_as_eager(make)


def test_arrays_of_numpy_that_are_running_statistics():
    """Each call updates those from outside, and those that the step makes."""
    one, two = (np.zeros(3), np.ones(3)), (np.zeros(3), np.ones(3))
    compiled = mg.compile(lambda x: F.batch_norm(x, *two, training=True))
    for x in INPUTS:
        F.batch_norm(x, *one, training=True)
        compiled(x)
        np.testing.assert_array_equal(one, two)
    with pytest.raises(TraceError, match=r"running, .* would change in place what the step has"):
        mg.compile(lambda x: F.batch_norm(x, np.zeros(3), np.ones(3), training=True))(INPUTS[0])


def test_a_gradient_is_scaled_in_place():
    def make():
        w = leaf(3, 2)
        opt = optim.SGD([w], lr=0.1, momentum=0.9)

        def step(x):
            opt.zero_grad()
            ((x @ w) ** 2).sum().backward()
            w.grad *= 0.5
            w.grad /= (w.grad * w.grad).sum().sqrt() + 1.0
            opt.step()
            return w * 1.0, w.grad * 1.0

        return step

    same_as_eager(make)


def test_zeros_of_zero_grad_are_new_in_each_call():
    def make():
        w = leaf(3, 2)
        opt = optim.SGD([w], lr=0.1)

        def step(x):
            (x @ w).sum().backward()
            opt.zero_grad(set_to_none=False)
            w.grad += 1.0
            return (w.grad * x[0, 0],)

        return step

    same_as_eager(make)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda h, x: x.copy_(h), "an argument of the step"),
        (lambda h, x: h[0].copy_(h[1]), "a view of %mul"),
    ],
    ids=["argument", "view"],
)
def test_what_cannot_be_changed_in_place_is_told_with_its_line(change, what):
    with pytest.raises(TraceError, match=rf"copy, in .*{__file__}.*, line \d+, .* {what}"):
        mg.compile(lambda x: change(x * 2.0, x))(INPUTS[0])


# --- the first call -------------------------------------------------------------------------------


X = RNG.standard_normal((20, 4, 3)).astype(np.float32)


def run(step, first, last):
    return [step(x, LABELS).item() for x in X[first:last]]


@pytest.mark.parametrize("way", ["eager", "compiled", "epoch"])
@pytest.mark.parametrize("options", [{}, {"dampening": 0.5}, {"momentum": 0.0}])
def test_stopped_and_resumed_is_uninterrupted(way, options):
    """All bits are the same: the first call of the resumed run is like any call."""

    def train(step, first, last):
        if way == "epoch":
            rows, labels = X[first:last].reshape(-1, 3), np.tile(LABELS, last - first)
            return step.epoch(rows, labels, batch_size=4, shuffle=False).data.tolist()
        return [step(mg.tensor(x), mg.tensor(LABELS)).item() for x in X[first:last]]

    made = []
    for stops in ((20,), (7, 20), (1, 2, 20)):
        model, opt, step = network((3, 4, 2), dropout=0.3, **options)
        mg.manual_seed(5)
        losses, first, drawn = [], 0, None
        for stop in stops:
            if first:
                saved, saved_opt = model.state_dict(), opt.state_dict()
                model, opt, step = network((3, 4, 2), dropout=0.3, **options)
                model.load_state_dict(saved)
                opt.load_state_dict(saved_opt)
                random.generator().bit_generator.state = drawn
            losses += train(step if way == "eager" else mg.compile(step), first, stop)
            first, drawn = stop, random.generator().bit_generator.state
        made.append((losses, {k: v.tobytes() for k, v in model.state_dict().items()}))
    assert made[0] == made[1] == made[2]


def test_the_first_call_is_the_code_of_all_others():
    """A call from the same state gives the same bits as the first or the second call."""
    _, _, plain = network((3, 4, 2), dropout=0.3)
    step = mg.compile(plain)
    first, second = [], []
    for losses, count in ((first, 1), (second, 2)):
        model, opt, plain = network((3, 4, 2), dropout=0.3)
        step = mg.compile(plain)
        state = model.state_dict()
        for _ in range(count):
            model.load_state_dict(state)
            opt.state.clear()
            mg.manual_seed(3)
            losses.append((step(X[0], LABELS).data.tobytes(), model.state_dict()))
    assert second[0][0] == second[1][0] == first[0][0]
    for name, array in second[0][1].items():
        np.testing.assert_array_equal(array, second[1][1][name])


def test_nothing_changes_while_a_step_is_traced():
    w, seen = mg.tensor(np.zeros(3)), []
    outside = w.data

    @mg.compile
    def step(x):
        w.copy_(w + x[0])
        seen.append(outside.any())
        return w * 1.0

    np.testing.assert_array_equal(step(INPUTS[0]).data, INPUTS[0][0])
    assert seen == [False]


# --- Tensors that outlive the trace ---------------------------------------------------------------


def test_a_tensor_of_a_trace_that_is_kept_says_what_it_is():
    """Its text is there even if nothing could see that the step kept it."""
    kept = queue.SimpleQueue()
    step = mg.compile(lambda x: (kept.put(x * 2.0), x * 3.0)[1])
    step(INPUTS[0])
    hidden = kept.get()
    for use in (lambda x: x + 1.0, lambda x: x.numpy().sum(), lambda x: x @ x.T, print):
        with pytest.raises(TraceError, match="which a step has only while it runs; return"):
            use(hidden)


def test_buffers_that_are_overwritten_after_the_call():
    """Arguments have been used or copied by the time that a call returns."""
    w = leaf(3, 2)

    @mg.compile
    def step(x):
        w.grad = None
        ((x @ w) ** 2).sum().backward()
        return x, x.reshape(-1), x[0], w.grad

    buffer = np.empty((4, 3))
    kept = []
    for x in INPUTS:
        buffer[...] = x
        kept.append((x, step(buffer), w.grad.data.copy()))
        buffer[...] = np.nan
    for x, (whole, flat, row, _), gradient in kept:
        np.testing.assert_array_equal(whole.data, x)
        np.testing.assert_array_equal(flat.data, x.ravel())
        np.testing.assert_array_equal(row.data, x[0])
        np.testing.assert_allclose(gradient, x.T @ (2 * x @ w.data))


@pytest.mark.parametrize("check", [None, 1])
@pytest.mark.parametrize(
    "leaf_of",
    [
        lambda x: x.detach().requires_grad_(),
        lambda x: (x * 2.0).detach().requires_grad_(),
        lambda x: mg.tensor(x, requires_grad=True),
    ],
)
def test_leaves_of_the_step_itself(leaf_of, check):
    """They have their own gradients, even if an argument's memory is theirs."""
    w = mg.tensor(np.full(3, 2.0), requires_grad=True)

    def step(x):
        z = leaf_of(x)
        (slope,) = mg.grad((z * z * w).sum(), [z], create_graph=True)
        w.grad = None
        (slope * slope).sum().backward()
        return z.grad, w.grad, slope

    compiled = mg.compile(step, check=check)
    for i in range(1, 4):
        x = mg.tensor(np.arange(3.0) * i)
        for found, expected in zip(compiled(x), step(x), strict=True):
            np.testing.assert_allclose(found.data, expected.data, rtol=1e-12)
        assert x.grad is None
