"""The results of compiled functions are on the tape, with the derivatives of eager calls."""

import gc
import itertools
import signal
import sys
import threading
import weakref

import numpy as np
import pytest
from random_programs import zeros_for_none
from small_networks import batches, network

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.compiler.runtime.buffers import MOST_LENT
from minigrad.compiler.runtime.differentiable import Pullback
from minigrad.errors import GradError, TraceError

pytestmark = pytest.mark.usefixtures("as_python")

X = np.arange(1.0, 13.0).reshape(4, 3)


def leaf(a=X):
    """Return a new Tensor that requires grad."""
    return mg.tensor(a, requires_grad=True)


def pair(**options):
    """Return two equal models in float64, and the second one as a compiled function."""
    one, two = (network(dtype=np.float64, **options)[0] for _ in range(2))
    return one, two, mg.compile(lambda x: two(x))


def close(found, expected):
    """Check that Tensors are equal up to 1e-10, and that the same ones are None."""
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a.data, b.data, rtol=1e-10, atol=1e-12)


def same_state(one, two):
    """Check that two models have equal parameters, statistics and gradients."""
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13, err_msg=name)
    close([p.grad for p in one.parameters()], [p.grad for p in two.parameters()])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_and_statistics_are_those_of_the_eager_model(fused, training):
    """Parameters and inputs get the eager gradients, in batches of all sizes and both modes."""
    one, two, compiled = pair(fused=fused)
    one.train(training), two.train(training)
    for n in (5, 8, 8, 5):
        ((x, y),) = batches(1, n=n, dtype=np.float64, seed=n)
        a, b = leaf(x), leaf(x)
        for model, given, forward in ((one, a, one), (two, b, compiled)):
            model.zero_grad()
            F.cross_entropy(forward(given), y).backward()
        close([b.grad], [a.grad])
        same_state(one, two)
    assert compiled.traces == 2


def test_a_call_is_one_record():
    """The tape of a call has one record, whatever the function does; its inputs are referenced."""
    _, two, compiled = pair()
    x = leaf(batches(1, dtype=np.float64)[0][0])
    y = compiled(x)
    assert [y._record.inputs[i] for i in y._record.wrt] == [x, *two.parameters()]
    assert not y.is_leaf
    assert x._record is None


def test_nothing_is_recorded_where_eager_calls_record_nothing():
    """Calls in no_grad, on frozen parameters, and results that are detached have no tape."""
    _, two, compiled = pair()
    x = batches(1, dtype=np.float64)[0][0]
    assert compiled(x).requires_grad
    with mg.no_grad():
        y = compiled(x)
    assert not y.requires_grad
    assert y._record is None
    two.requires_grad_(False)
    assert not compiled(x).requires_grad
    assert compiled(leaf(x)).requires_grad
    same = mg.compile(lambda x: (x, x * 1.0))
    with mg.no_grad():
        assert [y._record for y in same(leaf())] == [None, None]
    assert None not in [y._record for y in same(leaf())]
    detached, kept = mg.compile(lambda x: ((x * x).detach(), x * x))(leaf())
    assert (detached.requires_grad, kept.requires_grad) == (False, True)


def test_parameters_may_be_frozen_between_calls():
    """A frozen parameter gets no gradient, and a new trace; the others keep theirs."""
    one, two, compiled = pair()
    ((x, y),) = batches(1, dtype=np.float64)
    for frozen in (False, True, False):
        for model, forward in ((one, one), (two, compiled)):
            model[0].requires_grad_(not frozen)
            model.zero_grad()
            F.cross_entropy(forward(mg.tensor(x)), y).backward()
        assert (two[0].weight.grad is None) == frozen
        same_state(one, two)
    two.zero_grad()
    loss = compiled(x).sum()
    two[0].weight.requires_grad = False
    loss.backward()
    assert two[0].weight.grad is None
    assert two[3].weight.grad is not None


def several(x, w):
    """Return results in a dict: five on the tape, an integer array, a number and an argument."""
    h = x @ w
    return {
        "h": h,
        "more": [h.exp(), (h * h).sum(), x.mean(axis=0), w.T],
        "labels": h.argmax(axis=1),
        "n": 3,
        "x": x,
    }


@pytest.mark.parametrize("used", [(0,), (1, 2), (3, 4, 5), (0, 1, 2, 3, 4, 5), (5,)])
def test_several_results_get_several_cotangents(used):
    """Results without a cotangent count as zeros, also if there are more than a record can have."""
    w = np.linspace(-1, 1, 6).reshape(3, 2)
    compiled = mg.compile(several)
    for _ in range(2):
        grads = []
        for f in (compiled, several):
            given = leaf(X / 9), leaf(w)
            y = f(*given)
            assert y["n"] == 3
            assert not y["labels"].requires_grad
            results = [y["h"], *y["more"], y["x"]]
            total = sum((results[i] * (i + 1.0)).sum() for i in used)
            grads.append(mg.grad(total, given, allow_unused=True))
    close(*[zeros_for_none(found, given) for found in grads])


def test_several_losses_add_up():
    """Losses on one call, on two calls, and on a call and an eager one, share the gradients."""
    one, two, compiled = pair()
    (x, y), (v, w) = batches(2, dtype=np.float64)
    for model, forward in ((one, one), (two, compiled)):
        first, second = forward(mg.tensor(x)), forward(mg.tensor(v))
        loss = F.cross_entropy(first, y) + (first * first).mean() + F.cross_entropy(second, w)
        loss.backward()
        model(mg.tensor(x)).sum().backward()
    same_state(one, two)


def test_calls_keep_what_they_have_saved():
    """The backward of an earlier call reads what that call has saved, not what later ones have."""
    one, two, compiled = pair()
    data = batches(5, dtype=np.float64)
    losses = [
        [F.cross_entropy(forward(mg.tensor(x)), y) for x, y in data] for forward in (one, compiled)
    ]
    for i in (1, 4, 0, 3, 2):
        losses[0][i].backward()
        losses[1][i].backward()
        same_state(one, two)


def test_the_tape_is_freed_or_retained():
    """A second backward raises, unless the first retains the tape; then it adds the same again."""
    _, two, compiled = pair()
    x = batches(1, dtype=np.float64)[0][0]
    y = compiled(x)
    y.sum().backward(retain_graph=True)
    first = [p.grad.data.copy() for p in two.parameters()]
    y.sum().backward()
    for p, g in zip(two.parameters(), first, strict=True):
        np.testing.assert_allclose(p.grad.data, 2 * g, rtol=1e-12)
    assert y._record.inputs is None
    with pytest.raises(GradError, match="the tape was freed"):
        y.sum().backward()


def test_gradients_belong_to_the_caller():
    """Later backward passes leave gradients alone that somebody still has, and reuse others."""
    w = leaf(np.ones(3))
    square = mg.compile(lambda x: (x * w * w).sum())
    kept = []
    for k in range(1, 4):
        w.grad = None
        square(np.full(3, float(k))).backward()
        kept.append(w.grad)
    view = kept.pop().data[:2]
    w.grad = None
    square(np.full(3, 9.0)).backward()
    assert [g.data.tolist() for g in kept] == [[2.0] * 3, [4.0] * 3]
    assert view.tolist() == [6.0, 6.0]
    view += 1.0
    assert w.grad.data.tolist() == [18.0] * 3


def test_nothing_stays_alive_after_a_step():
    """Without the garbage collector, what a call has saved and its record end with its results."""
    _, _, compiled = pair()
    x = leaf(batches(1, dtype=np.float64)[0][0])
    gc.disable()
    try:
        y = compiled(x)
        y.sum().backward()
        alive = weakref.ref(x)
        del x, y
        assert alive() is None
    finally:
        gc.enable()


def test_a_result_keeps_nothing_but_its_record():
    """A result without a tape has memory of its own, which no later call changes."""
    _, _, compiled = pair()
    (x, _), (v, _) = batches(2, dtype=np.float64)
    y = compiled(x).detach()
    before = y.data.copy()
    compiled(v), compiled(v)
    np.testing.assert_array_equal(y.data, before)


def change(x):
    with mg.no_grad():
        x.copy_(x.data * 2.0)


def test_changes_in_place_raise_as_in_eager_calls():
    """A change of what the backward reads raises; a change of anything else does not."""
    w, b, x = leaf(X), leaf(np.ones(3)), mg.tensor(X)

    def f(x):
        return (x * w + b).sum()

    for g in (f, mg.compile(f)):
        loss = g(x)
        change(b)
        loss.backward()
        w.grad = b.grad = None
        for changed in (w, x):
            w.requires_grad = True
            loss = mg.compile(lambda x: (x * w * w).sum())(x) if g is not f else (x * w * w).sum()
            change(changed)
            with pytest.raises(GradError, match="was changed in place after it was used"):
                loss.backward()
            assert w.grad is None


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_derivatives_of_second_order_are_the_eager_ones(dropout):
    """create_graph gives the eager second derivatives, of the same masks and without updates."""
    one, two, compiled = pair(dropout=dropout)
    for x, y in batches(2, dtype=np.float64):
        found = []
        for model, forward in ((one, one), (two, compiled)):
            mg.manual_seed(3)
            given = leaf(x)
            loss = F.cross_entropy(forward(given * 1.0), y)
            before = model.state_dict()
            wanted = [given, *model.parameters()]
            grads = mg.grad(loss, wanted, create_graph=True)
            penalty = sum((g * g).sum() for g in grads)
            second = mg.grad(penalty, wanted, allow_unused=True)
            for name, a in before.items():
                np.testing.assert_array_equal(a, model.state_dict()[name], err_msg=name)
            found.append([*grads, *zeros_for_none(second, wanted)])
        close(*found)


def test_derivatives_of_second_order_leave_the_random_numbers_alone():
    """What the generator draws next does not depend on a recorded backward pass."""
    drawn = []
    for recorded in (False, True):
        mg.manual_seed(1)
        x = leaf()
        y = mg.compile(lambda x: F.dropout(x * x, 0.5, training=True))(x)
        F.dropout(mg.tensor(X), 0.5, training=True)
        mg.grad(y.sum(), x, create_graph=recorded)
        drawn.append(F.dropout(mg.tensor(X), 0.5, training=True).data)
    np.testing.assert_array_equal(*drawn)


def test_second_derivatives_are_refused_where_a_call_changes_what_it_reads():
    """A function cannot run again after it has changed what it reads; the error says so."""
    mean = mg.tensor(np.zeros(3))

    def centred(x):
        y = x - mean
        with mg.no_grad():
            mean.copy_(mean * 0.5 + x.mean(axis=0) * 0.5)
        return (y**3).sum()

    compiled = mg.compile(centred)
    x = leaf()
    (g,) = mg.grad(compiled(x), x)
    np.testing.assert_allclose(g.data, 3 * X**2, rtol=1e-12)
    with pytest.raises(GradError, match="changes mean in place, and reads it"):
        mg.grad(compiled(x), x, create_graph=True)


def test_second_derivatives_notice_changes():
    """A recorded backward pass reads more than another one, and refuses all that was changed."""
    w, b = leaf(X), leaf(np.ones(3))
    loss = mg.compile(lambda: ((w + b) ** 2).sum())()
    change(b)
    with pytest.raises(GradError, match="was changed in place after it was used"):
        mg.grad(loss, w, create_graph=True)


def test_a_function_that_differentiates_can_be_differentiated():
    """Gradients that a compiled function returns with create_graph are on the tape, too."""

    def penalty(x):
        (g,) = mg.grad((x**3).sum(), x, create_graph=True)
        return (g * g).sum()

    x = leaf(X / 5)
    (found,) = mg.grad(mg.compile(penalty)(x), x)
    close([found], mg.grad(penalty(x), x))


def test_a_step_stays_as_it_is():
    """A loss whose backward has run inside has no tape, while other results may have one."""
    model, opt, step = network(dtype=np.float64)
    ((x, y),) = batches(1, dtype=np.float64)
    loss = mg.compile(step)(x, y)
    assert not loss.requires_grad
    assert loss._record is None
    w = leaf(np.ones(3))

    def both(x):
        (x * w).sum().backward()
        return (x * x * w).sum()

    other = mg.compile(both)(X)
    np.testing.assert_allclose(w.grad.data, X.sum(0))
    w.grad = None
    other.backward()
    np.testing.assert_allclose(w.grad.data, (X * X).sum(0))

    def late(x):
        opt.zero_grad()
        before = model(x)
        F.cross_entropy(model(x), y).backward()
        opt.step()
        return before

    assert not mg.compile(late)(x).requires_grad  # its derivative would read changed parameters


def test_results_from_outside_are_inputs():
    """Gradients flow on to what was computed before the call, and named by the function."""
    w = leaf(np.linspace(0, 1, 3))
    h = (w * w).exp()
    f = mg.compile(lambda x: (x * h).sum())
    mg.grad(f(X), w, retain_graph=True)
    (found,) = mg.grad(f(X), w, retain_graph=True)
    close([found], mg.grad((mg.tensor(X) * h).sum(), w))


def test_an_argument_may_be_a_parameter_as_well():
    """A Tensor that the function names and gets as an argument gets both gradients."""
    w = leaf(np.linspace(0, 1, 3))
    f = mg.compile(lambda x: (x * x * w).sum())
    for create_graph in (False, True):
        (found,) = mg.grad(f(w), w, create_graph=create_graph)
        np.testing.assert_allclose(found.data, 3 * w.data**2, rtol=1e-12)


def test_results_of_a_call_are_results():
    """A result cannot be changed in place, as in eager calls."""
    y = mg.compile(lambda x: x * 2.0)(leaf())
    with pytest.raises(GradError, match="the result of an operation"):
        y.copy_(0.0)


def test_an_error_leaves_nothing_behind():
    """After an error in the function, or in an operation, the statistics are as before."""
    _, two, compiled = pair()
    x = batches(1, dtype=np.float64)[0][0]
    compiled(x)
    before = two.state_dict()

    def fails(x):
        two(x)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        mg.compile(fails)(x)
    with pytest.raises(mg.errors.ShapeError):
        compiled(x[:, :3])
    loss = mg.compile(lambda x, y: F.cross_entropy(two(x), y + 1))
    loss(x, np.zeros(8, np.int64))
    two.load_state_dict(before)
    with pytest.raises(mg.errors.OutOfRangeError):
        loss(x, np.full(8, 8))
    for name, a in before.items():
        np.testing.assert_array_equal(a, two.state_dict()[name])
    compiled(x).sum().backward()


def test_a_rule_that_cannot_be_traced_runs_eagerly():
    """A vjp of the user's that needs arrays works as without mg.compile."""
    scale = mg.primitive("scale_for_tests", lambda a: a * 2.0, lambda g, y, a: (np.multiply(g, 2),))
    x = leaf()
    compiled = mg.compile(lambda x: scale(x * x).sum())
    with pytest.warns(RuntimeWarning, match="runs by NumPy"):
        loss = compiled(x)
    (g,) = mg.grad(loss, x)
    np.testing.assert_allclose(g.data, 4 * X)


def test_a_rule_that_numpy_runs_gives_gradients():
    """The backward program may have parts that are left to NumPy."""
    cube = mg.primitive("cube_for_tests", lambda a: a**3, lambda g, y, a: (g * 3 * a**2,))
    half = mg.primitive("half_for_tests", lambda a: a / 2, lambda g, y, a: (half(g),))

    def f(x, w):
        return (cube(x @ half(w)) * x.sum()).sum()

    compiled = mg.compile(f)
    with pytest.warns(RuntimeWarning, match="runs by NumPy"):
        compiled(leaf(), leaf(np.ones((3, 2))))
    kept = []
    for k in (1.0, 2.0, 3.0):
        given = leaf(X / 9), leaf(k * np.ones((3, 2)))
        kept.append((mg.grad(compiled(*given), given), mg.grad(f(*given), given)))
    for found, expected in kept:
        close(found, expected)


def test_threads_do_not_mix_up_calls():
    """Calls and backward passes of several threads at once give the gradients of each."""
    f = mg.compile(lambda x: (x * x * x).sum())
    f(leaf()).backward()
    failed = []

    def work(k):
        for i in range(40):
            x = leaf(X * (k + i))
            (g,) = mg.grad(f(x), x)
            if not np.allclose(g.data, 3 * (X * (k + i)) ** 2):
                failed.append((k, i))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_signal_handler_may_differentiate(monkeypatch):
    """A backward in a signal handler that interrupts a call does not use the call's memory."""
    w = leaf(np.ones(3))
    f = mg.compile(lambda x: (x * w * w).sum())
    loss = f(X)
    gradients = []

    def handler(*_):
        gradients.append(mg.grad(loss, w)[0].data)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with f._workspace.running:  # as during a call
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    np.testing.assert_allclose(gradients[0], 2 * X.sum(0))


class Stop(BaseException):
    """A Stop is like KeyboardInterrupt, which pytest would take for its own."""


def stopped(function, file, k):
    """Call a function; return whether an interrupt came before the k-th line of a file ran."""
    lines = itertools.count(1)

    def trace(frame, event, _):
        if not frame.f_code.co_filename.endswith(file):
            return None
        if event == "line" and next(lines) == k:
            raise Stop
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except Stop:
        return True
    finally:
        sys.settrace(before)
    return False


def test_later_calls_are_right_after_an_interrupt():
    """Wherever an interrupt comes, later calls and earlier results have memory of their own."""
    f = mg.compile(lambda x: (x * x * x).sum())
    f(leaf()).backward()
    for k in itertools.count(1):
        one, two = f(x := leaf()), leaf(2 * X)
        was_stopped = stopped(lambda two=two: f(two).backward(), "buffers.py", k)
        for y, given in ((f(two), two), (one, x)):
            (g,) = mg.grad(y, given)
            np.testing.assert_array_equal(g.data, 3 * given.data**2)
        if not was_stopped:
            break
    assert k > 20


def test_compiled_functions_are_traced_through():
    """A compiled function inside another, or inside a compiled step, is part of its trace."""
    w = leaf(np.linspace(1, 2, 3))
    inner = mg.compile(lambda x: x * w)
    outer = mg.compile(lambda x: (inner(x) ** 2).sum())

    @mg.compile
    def step(x):
        w.grad = None
        loss = (inner(x) ** 2).sum()
        loss.backward()
        return loss

    expected = mg.grad(((mg.tensor(X) * w) ** 2).sum(), w)
    close(mg.grad(outer(X), w), expected)
    step(X)
    close([w.grad], expected)
    assert inner.traces == 0


def test_a_result_from_outside_cannot_be_differentiated_in_a_step():
    """A step that runs backward through an earlier compiled call is refused."""
    x = leaf()
    y = mg.compile(lambda x: x * x)(x)

    @mg.compile
    def step():
        return mg.grad(y.sum(), x, retain_graph=True)[0]

    with pytest.raises(TraceError, match="was made before the step; make it in the step"):
        step()


def test_arrays_of_states_may_be_replaced():
    """After load_state_dict and conversions, calls and their backward use the new arrays."""
    one, two, compiled = pair()
    x = batches(1, dtype=np.float64)[0][0]
    compiled(x).sum().backward()
    for model in (one, two):
        model.float().double()
        model.zero_grad()
        with mg.no_grad():
            model[3].weight.copy_(model[3].weight * 2.0)
    one(mg.tensor(x)).sum().backward()
    compiled(x).sum().backward()
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        np.testing.assert_allclose(q.grad.data, p.grad.data, rtol=1e-6, atol=1e-6)
    loss = compiled(x).sum()
    two.load_state_dict(one.state_dict())
    with pytest.raises(GradError, match="was changed in place"):
        loss.backward()


@pytest.mark.parametrize("change_again", [False, True])
def test_arrays_may_be_replaced_before_the_first_backward(change_again):
    """The backward is compiled when it first runs; it uses the arrays of that time."""
    w = leaf(np.ones(3))
    f = mg.compile(lambda x: x * w * w)
    f(leaf())
    w.data = np.full(3, 2.0)
    x = leaf()
    if change_again:
        f(x).sum().backward()
        x.grad = None
        change(w)
    f(x).sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.full(X.shape, 16.0 if change_again else 4.0))


def test_parameters_may_be_frozen_before_the_backward():
    """The compiled backward runs, even where the function could not run again."""
    w, v, count = leaf(np.ones(3)), leaf(np.ones(3)), mg.tensor(np.ones(3))

    def scaled(x):
        y = x * w * v * (count + 1.0)
        with mg.no_grad():
            count.copy_(count + 1.0)
        return y

    f = mg.compile(scaled)
    for frozen in (False, True):
        v.requires_grad, w.grad, v.grad = True, None, None
        y = f(np.ones(3))
        v.requires_grad = not frozen
        y.sum().backward()
        assert w.grad.data.tolist() == [3.0 if frozen else 2.0] * 3
        assert (v.grad is None) == frozen


@pytest.mark.parametrize("fused", [True, False])
def test_a_backward_may_follow_an_update_of_statistics(fused):
    """A call in evaluation mode has saved the statistics, which later calls may change."""
    one, two, compiled = pair(fused=fused)
    x = batches(1, dtype=np.float64)[0][0]
    for model, forward in ((one, one), (two, compiled)):
        model.eval()
        y = forward(mg.tensor(x))
        model.train()
        forward(mg.tensor(2 * x))
        y.sum().backward()
    same_state(one, two)


def test_large_results_and_what_is_saved_are_apart():
    """Large results, which are handed over, keep their elements during later calls."""
    w = leaf(np.ones((200, 300), np.float32))
    f = mg.compile(lambda x: (x * w).exp())
    x = np.full((200, 300), 0.5, np.float32)
    one = f(x)
    two = f(2 * x)
    two.sum().backward()
    np.testing.assert_allclose(w.grad.data, np.exp(1.0), rtol=1e-6)
    one.sum().backward()
    np.testing.assert_allclose(w.grad.data, np.exp(1.0) + 0.5 * np.exp(0.5), rtol=1e-6)
    np.testing.assert_allclose(one.data, np.exp(0.5), rtol=1e-6)


def test_results_that_are_saved_are_the_callers_own():
    """A result that the backward reads is a copy, also after a larger batch has moved memory."""
    w = leaf(np.ones(3))
    f = mg.compile(lambda x: ((x * w).exp(), x.sum(axis=1)))
    x = np.ones((2, 3))
    one, _ = f(x)
    f(np.ones((500, 3)))
    two, _ = f(2 * x)
    three, _ = f(3 * x)
    for k, y in enumerate((one, two, three), 1):
        np.testing.assert_allclose(y.data, np.exp(k), rtol=1e-12)
        w.grad = None
        y.sum().backward()
        np.testing.assert_allclose(w.grad.data, 2 * k * np.exp(k), rtol=1e-12)


def test_views_are_made_again():
    """A view of a parameter or an argument is not saved; its gradient is the eager one."""
    w = leaf(np.arange(6.0).reshape(2, 3))
    f = mg.compile(lambda x: ((x @ w.T)[:, 0] * x.reshape(-1)[:4]).sum())
    x = leaf()
    found = mg.grad(f(x), (x, w))
    close(found, mg.grad(((x @ w.T)[:, 0] * x.reshape(-1)[:4]).sum(), (x, w)))
    assert all(v.shape != (3, 2) for v in f._last.program.lent)
    labelled = mg.compile(lambda x, y: F.cross_entropy(x @ w.T, y))
    labelled(X, np.array([0, 1, 1, 0]))
    assert all(v.dtype == np.float64 for v in labelled._last.program.lent)


def test_checked_calls_are_differentiable():
    """check=1 compares the call with the eager one, and the result has its tape."""
    one, two, _ = pair()
    compiled = mg.compile(lambda x: two(x), check=1)
    for x, y in batches(2, dtype=np.float64):
        for model, forward in ((one, one), (two, compiled)):
            model.zero_grad()
            F.cross_entropy(forward(mg.tensor(x)), y).backward()
        same_state(one, two)


@pytest.mark.parametrize("fused", [True, False])
def test_checked_calls_compare_gradients(monkeypatch, fused):
    """check=1 refuses a wrong gradient, names its parameter, and restores the state."""
    _, two, _ = pair(fused=fused, dropout=0.5)
    compiled = mg.compile(lambda x: two(x), check=1)
    x = batches(1, dtype=np.float64)[0][0]
    compiled(x)
    before = two.state_dict()
    pull = Pullback.pull

    def wrong(self, call, parts):
        found = pull(self, call, parts)
        found[2] = found[2] * (1.0 + 1e-6)
        return found

    monkeypatch.setattr(Pullback, "pull", wrong)
    with pytest.raises(TraceError, match=r"The gradient of two.1.weight is another one"):
        compiled(x)
    for name, a in before.items():
        np.testing.assert_array_equal(a, two.state_dict()[name])


def test_an_epoch_needs_no_tape():
    """epoch() of a loss function returns the losses of the batches."""
    w = leaf(np.ones(3))
    f = mg.compile(lambda x: (x * w * w).sum())
    losses = f.epoch(X, batch_size=2)
    assert not losses.requires_grad
    np.testing.assert_allclose(sorted(losses.data), sorted([X[:2].sum(), X[2:].sum()]))
    f(X[:2]).backward()
    np.testing.assert_allclose(w.grad.data, 2 * X[:2].sum(0))


def test_explanations_show_what_a_call_computes():
    """mg.explain writes the derivatives of a call as those of its operations."""
    w = leaf(np.ones(3))
    loss = mg.compile(lambda x: (x * w.tanh()).sum())(X)
    text = str(mg.explain(loss * 2.0))
    assert "forward: 2 records" in text
    assert "tanh" in text


def test_reports_tell_of_the_backward():
    """A report has a part about the backward program, once that has run."""
    _, _, compiled = pair()
    x = batches(1, dtype=np.float64)[0][0]
    y = compiled(x)
    assert "backward" not in compiled.report()
    y.sum().backward()
    assert "linear_grad" in compiled.report().partition("backward:")[2]


def test_float32_gradients_fit_eager_ones():
    """Machine code gives the gradients of float32 models, also with dropout and other layers."""
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    compiled = mg.compile(lambda x: model(x))
    ((x, y),) = batches(1)
    F.cross_entropy(model(mg.tensor(x)), y).backward()
    expected = [p.grad for p in model.parameters()]
    model.zero_grad()
    F.cross_entropy(compiled(x), y).backward()
    for p, g in zip(model.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.grad.data, g.data, rtol=1e-5, atol=1e-6)


def test_arrays_that_wait_for_a_call_are_few():
    """Traces for many sizes of batches do not keep memory for each of them."""
    w = leaf(np.ones(3))
    f = mg.compile(lambda x: (x * w).exp().sum())
    alive = []
    for n in range(1, 20):
        y = f(leaf(np.ones((n, 3))))
        alive += [weakref.ref(a) for a in y._record.y.saved.arrays]
        y.backward()
        alive += [weakref.ref(y) for y in (w.grad, w.grad._data)]
        w.grad = None
    del y
    assert f.traces == 19
    assert sum(one() is not None for one in alive) <= 3 * MOST_LENT


@pytest.mark.filterwarnings("ignore:compile. stop_for_tests:RuntimeWarning")
def test_a_rule_without_derivatives_gives_none():
    """A result on the tape that no gradient flows from leaves `.grad` alone, as in eager calls."""
    stop = mg.primitive("stop_for_tests", lambda a: a + 1.0, lambda g, y, a: (None,))
    x = leaf()
    for f in (lambda x: stop(x).sum(), mg.compile(lambda x: stop(x).sum())):
        y = f(x)
        assert y.requires_grad
        y.backward()
        assert x.grad is None
