"""Training steps, compiled by Numba, agree with eager ones, whatever changes between calls."""

import numpy as np
import pytest
from small_networks import batches, network, same, state

import minigrad as mg
from minigrad import functional as F
from minigrad import optim
from minigrad.errors import OutOfRangeError, TraceError


@pytest.mark.sampled(3)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_trained_networks_agree_to_the_bit_or_to_rounding(fused, dtype):
    """Eager and compiled training agree over 200 steps, with changes of batch size and lr.

    Compiled steps run the kernels that eager ones run, so every bit is the same; composed, rounding
    differs. Every 20th step is eager in both, and each 8th batch is a partial one.
    """
    (m1, o1, eager), (m2, o2, plain) = network(fused=fused), network(fused=fused)
    for m in (m1, m2):
        m.to(dtype)
    compiled = mg.compile(plain)
    tolerance = 0.0 if fused else 2e-4 if dtype == np.float32 else 1e-11
    data = batches(200, dtype=dtype)
    data[7::8] = [(x[:5], y[:5]) for x, y in data[7::8]]
    for i, (x, y) in enumerate(data):
        if i == 100:
            o1.param_groups[0]["lr"] = o2.param_groups[0]["lr"] = 0.03
        one = eager(mg.tensor(x), mg.tensor(y))
        two = (plain if i % 20 == 13 else compiled)(x, y)
        np.testing.assert_allclose(two.item(), one.item(), rtol=tolerance or 1e-7)
        for p, q in zip(m1.parameters(), m2.parameters(), strict=True):
            np.testing.assert_allclose(q.grad.data, p.grad.data, atol=tolerance or 1e-9)
    same(state(m1, o1), state(m2, o2), tolerance)
    assert compiled.traces == 2  # one for each size of batches


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.0, "weight_decay": 0.01},
        {"nesterov": True, "maximize": True},
        {"dampening": 0.5},
    ],
    ids=str,
)
def test_every_option_of_sgd_compiles(options):
    (m1, o1, eager), (m2, o2, plain) = network(**options), network(**options)
    compiled = mg.compile(plain)
    for x, y in batches(4):
        eager(mg.tensor(x), mg.tensor(y))
        compiled(x, y)
    same(state(m1, o1), state(m2, o2))


def test_groups_that_part_are_followed():
    """Two groups begin with one lr, one of them gets another, and momentum goes and comes."""
    pairs = [network(), network()]
    for i, (model, _, _) in enumerate(pairs):
        halves = list(model.parameters())
        groups = [{"params": halves[:3]}, {"params": halves[3:]}]
        opt = optim.SGD(groups, lr=0.1, momentum=0.5)

        def step(x, y, model=model, opt=opt):
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            opt.step()

        pairs[i] = model, opt, step if i == 0 else mg.compile(step)
    for i, (x, y) in enumerate(batches(9)):
        for _, opt, _ in pairs:
            opt.param_groups[1]["lr"] = 0.1 if i < 3 else 0.01
            opt.param_groups[0]["momentum"] = 0.0 if i in (5, 6) else 0.5
        pairs[0][2](mg.tensor(x), mg.tensor(y))
        pairs[1][2](x, y)
    same(state(*pairs[0][:2]), state(*pairs[1][:2]))


def test_modes_and_attributes_are_followed():
    """Each call reads modes and attributes of modules; a mode seen before needs no new trace."""
    (m1, o1, eager), (m2, o2, plain) = network(), network()
    compiled = mg.compile(plain)
    data = batches(12)
    for i, (x, y) in enumerate(data):
        for m in (m1, m2):
            m.train(i % 3 != 1)
            if i == 9:
                m[1].momentum = 0.5
        eager(mg.tensor(x), mg.tensor(y))
        compiled(x, y)
    same(state(m1, o1), state(m2, o2))
    assert compiled.traces == 4  # two modes, for two momenta


def test_frozen_and_replaced_parameters_are_followed():
    """A step follows requires_grad, parameters in new memory, and loaded states."""
    (m1, o1, eager), (m2, o2, plain) = network(), network()
    compiled = mg.compile(plain)
    saved = None
    for i, (x, y) in enumerate(batches(10)):
        if i == 3:
            saved = m1.state_dict(), o1.state_dict()
            for m in (m1, m2):
                m[0].requires_grad_(False)
        if i == 5:
            for m in (m1, m2):
                m[0].requires_grad_(True)
                m[3].weight.data = m[3].weight.data.copy()
        if i == 7:
            for m, o in ((m1, o1), (m2, o2)):
                m.load_state_dict(saved[0])
                o.load_state_dict(saved[1])
        eager(mg.tensor(x), mg.tensor(y))
        compiled(x, y)
    same(state(m1, o1), state(m2, o2))


def test_gradients_add_up_over_calls():
    """Two backward passes add up for one update, and the caller may clear `.grad` between."""
    (m1, o1, _), (m2, o2, _) = network(), network()

    def half(model):
        def run(x, y):
            F.cross_entropy(model(x), y).backward()

        return run

    first, second = half(m1), mg.compile(half(m2))
    for i, (x, y) in enumerate(batches(12)):
        first(mg.tensor(x), mg.tensor(y))
        second(x, y)
        if i % 3 == 2:
            for o in (o1, o2):
                o.step()
                o.zero_grad()
    same(state(m1, o1), state(m2, o2), 1e-6)


def test_a_bad_label_changes_no_parameter():
    """The error is that of the eager step, and the call leaves nothing behind."""
    model, opt, plain = network()
    compiled = mg.compile(plain)
    (x, y), (x2, y2) = batches(2)
    compiled(x, y)
    before = state(model, opt)
    bad = y2.copy()
    bad[3] = 4
    with pytest.raises(OutOfRangeError, match=r"labels must lie in 0\.\.3, got 4 at position 3"):
        compiled(x2, bad)
    same(state(model, opt), before)
    compiled(x2, y2)


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("item", lambda loss: loss.item()),
        ("float", lambda loss: float(loss)),
        ("if", lambda loss: 1 if loss > 1 else 0),
        ("numpy", lambda loss: loss.numpy()),
        ("data", lambda loss: loss.data),
        ("asarray", lambda loss: np.asarray(loss)),
        ("tolist", lambda loss: loss.tolist()),
        ("int", lambda loss: int(loss)),
    ],
)
def test_a_step_that_looks_at_a_value_is_refused(name, look):
    """The error says what to do, and everything that the step has done is taken back."""
    model, opt, plain = network()

    def step(x, y):
        loss = plain(x, y)
        look(loss)
        return loss

    ((x, y),) = batches(1)
    before = state(model, opt)
    with pytest.raises(TraceError, match=r"looks at a value, .* do it outside the step"):
        mg.compile(step)(x, y)
    same(state(model, opt), before)
    assert all(p.grad is None for p in model.parameters())
    look(plain(mg.tensor(x), mg.tensor(y)))  # eager, it may


def test_a_step_uses_gradients_that_others_have_made():
    """A step may scale and apply gradients that eager backward passes have left."""
    (m1, o1, _), (m2, o2, _) = network(), network()

    def update(model, opt):
        def run(scale):
            for p in model.parameters():
                if p.grad is not None:
                    p.grad = p.grad * scale
            opt.step()

        return run

    first, second = update(m1, o1), mg.compile(update(m2, o2))
    for i, (x, y) in enumerate(batches(8)):
        for m, o in ((m1, o1), (m2, o2)):
            o.zero_grad()
            for p in list(m.parameters())[:2]:
                p.requires_grad = i % 4 != 2
            F.cross_entropy(m(mg.tensor(x)), y).backward()
        scale = np.float32(0.5 + i)
        first(mg.tensor(scale))
        second(np.asarray(scale))
    same(state(m1, o1), state(m2, o2))


RATE = 2.0


def scaled(x):
    """Return x times a global that a test rebinds."""
    return x * RATE


def test_names_that_are_bound_anew_are_read(monkeypatch):
    """A step reads the new values of a global and of a variable of the enclosing function."""
    outer = mg.compile(scaled)
    x = np.ones(3, np.float32)
    offset = 1.0
    inner = mg.compile(lambda x: x + offset)
    for value in (2.0, 2.0, 5.0, 7.0):
        monkeypatch.setitem(globals(), "RATE", value)
        offset = value
        np.testing.assert_array_equal(outer(x).data, x * value)
        np.testing.assert_array_equal(inner(x).data, x + value)


def test_averages_and_updates_by_hand_agree():
    """A step may change Tensors in place that it has read before and reads again."""

    def make_one():
        rng = np.random.default_rng(0)
        w = mg.tensor(rng.standard_normal((4, 3)), requires_grad=True)
        average = mg.tensor(np.zeros((4, 3)))

        def step(x):
            loss = ((x @ w) ** 2).mean()
            (g,) = mg.grad(loss, [w])
            with mg.no_grad():
                w.copy_(w - 0.1 * g)
                average.copy_(0.9 * average + 0.1 * w)
                again = ((x @ w) ** 2).mean()
            return loss, again

        return w, average, step

    (w1, a1, eager), (w2, a2, plain) = make_one(), make_one()
    compiled = mg.compile(plain)
    for x, _ in batches(6, features=4, dtype=np.float64):
        for a, b in zip(eager(mg.tensor(x)), compiled(x), strict=True):
            np.testing.assert_allclose(b.data, a.data, rtol=1e-12)
    np.testing.assert_allclose(w2.data, w1.data, rtol=1e-12)
    np.testing.assert_allclose(a2.data, a1.data, rtol=1e-12)


def test_another_group_of_parameters_is_followed():
    (m1, o1, eager), (m2, o2, plain) = network(), network()
    compiled = mg.compile(plain)
    for i, (x, y) in enumerate(batches(6)):
        if i == 3:
            for m, o in ((m1, o1), (m2, o2)):
                o.param_groups[0]["params"].pop()
                o.add_param_group({"params": [m[3].bias], "lr": 0.5})
        eager(mg.tensor(x), mg.tensor(y))
        compiled(x, y)
    same(state(m1, o1), state(m2, o2))


def other_group(opt):
    opt.param_groups[0] = {**opt.param_groups[0], "lr": 0.01}


def other_list(opt):
    opt.param_groups = [{**group, "lr": 0.01} for group in opt.param_groups]


def other_parameter(opt):
    opt.param_groups[0]["params"][0] = mg.tensor([3.0, 4.0], requires_grad=True)


@pytest.mark.parametrize("change", [other_group, other_list, other_parameter])
def test_groups_that_are_replaced_are_followed(change):
    """The change counts also if the step only clears gradients and the caller updates."""

    def losses(wrap):
        found = []
        for inside in (True, False):
            p, q = (mg.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
            opt = optim.SGD([p, q], lr=0.1, momentum=0.5)

            def step(x, opt=opt, inside=inside):
                opt.zero_grad()
                loss = sum((w * w * x).sum() for w in opt.param_groups[0]["params"])
                loss.backward()
                opt.step() if inside else None
                return loss

            step = wrap(step)
            for i in range(4):
                if i == 2:
                    change(opt)
                found.append(step(mg.tensor([1.0, 0.5])).item())
                None if inside else opt.step()
        return found

    np.testing.assert_allclose(losses(mg.compile), losses(lambda step: step), rtol=1e-6)


def test_a_step_may_only_update():
    """The update uses the gradients that are there at the call."""
    (m1, o1, _), (m2, o2, _) = network(), network()
    second = mg.compile(lambda: o2.step())
    for x, y in batches(5):
        for m, o in ((m1, o1), (m2, o2)):
            o.zero_grad()
            F.cross_entropy(m(mg.tensor(x)), y).backward()
        o1.step()
        second()
    same(state(m1, o1), state(m2, o2))


def test_what_was_read_before_a_change_is_not_computed_again_after_it():
    w = mg.tensor(np.arange(4.0))

    def step(x):
        before = w * 2.0
        total = x.sum()
        w.copy_(w - 1.0)
        return w * total + before

    compiled = mg.compile(step)
    for i in range(4):
        x, now = np.full(3, i + 1.0), w.data.copy()
        np.testing.assert_allclose(compiled(x).data, (now - 1) * x.sum() + 2 * now)
