"""Training steps and other functions, compiled by Numba, agree with eager runs."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from small_networks import batches, network, same, state

import minigrad as mg
from minigrad import functional as F
from minigrad import optim
from minigrad.errors import ArgumentError, DtypeError, OutOfRangeError, TraceError


@pytest.mark.sampled(3)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training(fused, dtype):
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
def test_options_of_sgd(options):
    (m1, o1, eager), (m2, o2, plain) = network(**options), network(**options)
    compiled = mg.compile(plain)
    for x, y in batches(4):
        eager(mg.tensor(x), mg.tensor(y))
        compiled(x, y)
    same(state(m1, o1), state(m2, o2))


def test_groups_that_part():
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


def test_modes_and_attributes():
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


def test_frozen_and_replaced():
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


def test_gradients_that_add_up():
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


def test_any_function():
    """Inference, nested results, keywords, static values and Hessian-vector products compile."""
    model, *_ = network()
    model.eval()

    def infer(x, scale=1.0, *, names=("a", "b")):
        y = model(x)
        return {names[0]: F.softmax(y) * scale, names[1]: (y.sum(), [y.max(0)]), "n": 3}

    compiled = mg.compile(infer)
    for x, _ in batches(3):
        for given in ({}, {"scale": 2.0}, {"names": ("c", "d")}):
            got, expected = compiled(x, **given), infer(mg.tensor(x), **given)
            assert list(got) == list(expected)
            for (a, b), (c, d) in [(tuple(got.values())[:2], tuple(expected.values())[:2])]:
                np.testing.assert_allclose(a.data, c.data, rtol=2e-6)
                np.testing.assert_allclose(b[0].data, d[0].data, rtol=2e-6, atol=1e-6)
                np.testing.assert_allclose(b[1][0].data, d[1][0].data, rtol=2e-6)
    assert compiled.traces == 3

    def hvp(x, v):
        (g,) = mg.grad((x.exp() * x.sum()).sum(), [x], create_graph=True)
        return mg.grad((g * v).sum(), [x])[0]

    fast = mg.compile(hvp)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x, v = rng.standard_normal((2, 7))
        one = hvp(mg.tensor(x, requires_grad=True), mg.tensor(v))
        two = fast(mg.tensor(x, requires_grad=True), v)
        np.testing.assert_allclose(two.data, one.data, rtol=1e-12)


def test_results_are_the_callers_own():
    """Results share memory with neither arguments nor the results of other calls."""
    double = mg.compile(lambda x: (x * 2.0, x))
    a, b = np.ones((3, 4), np.float32), np.full((3, 4), 5, np.float32)
    double(a)
    one, two = double(a), double(b)
    np.testing.assert_array_equal(one[0].data, 2 * a)
    np.testing.assert_array_equal(two[0].data, 2 * b)
    one[1].data[...] = 7
    assert (a == 1).all()


def test_dropout_draws_anew():
    """Each call draws new numbers, the same as an eager call after the same seed."""
    (m1, o1, eager), (m2, o2, plain) = network(dropout=0.5), network(dropout=0.5)
    compiled = mg.compile(plain)
    data = batches(6)
    for run, x_of in ((eager, mg.tensor), (compiled, np.asarray)):
        mg.manual_seed(3)
        for x, y in data:
            run(x_of(x), x_of(y))
    same(state(m1, o1), state(m2, o2), 1e-6)
    assert "by NumPy, outside compiled code: nothing" in compiled.report()
    assert "random numbers" in compiled.report()


def test_what_cannot_be_compiled_is_said_once():
    """Traces for other shapes do not repeat the warning."""
    index = mg.compile(lambda x: mg.argmax(x[True], 1) + 1)
    x = np.random.default_rng(0).standard_normal((4, 5))
    with pytest.warns(RuntimeWarning, match=r"getitem cannot be compiled") as caught:
        index(x)
        got = index(x + np.eye(4, 5))
        index(x[:3])
    assert len(caught) == 1
    np.testing.assert_array_equal(got.data, np.argmax((x + np.eye(4, 5))[None], 1) + 1)


def test_strided_and_equal_arguments():
    """Arguments may lie in any order in memory, and one array may be passed twice."""
    f = mg.compile(lambda a, b: a @ b.T + a.sum())
    rng = np.random.default_rng(0)
    big = rng.standard_normal((8, 6))
    for a, b in ((big, big), (big[::2, ::2], big[::2, ::2]), (big.T, big.T), (big[:4], big[4:])):
        for _ in range(2):
            np.testing.assert_allclose(f(a, b).data, a @ b.T + a.sum(), rtol=1e-12)


@pytest.mark.parametrize("way", ["positional", "keyword", "epoch"])
def test_arrays_in_another_byte_order(way):
    """Numba does not know other byte orders, so such arrays are converted."""
    f = mg.compile(lambda a: (a * 2).sum())
    for order in "><>>":
        x = np.arange(1, 4).astype(f"{order}f4")
        if way == "epoch":
            np.testing.assert_array_equal(f.epoch(x, batch_size=1).data, [2, 4, 6])
        else:
            y = f(x) if way == "positional" else f(a=x)
            assert y.item() == 12 and y.dtype == np.float32
    assert f.traces == 1


def test_refuses_what_it_cannot_take():
    with pytest.raises(DtypeError, match="expected a function, got int"):
        mg.compile(3)
    f = mg.compile(lambda x, how: x * 2)
    with pytest.raises(DtypeError, match="values that can be hashed"):
        f(np.ones(3), [1])
    with pytest.raises(DtypeError, match="float16"):
        f(np.ones(3, np.float16), 1)
    with pytest.raises(TraceError, match=r"call <lambda> first"):
        print(f.source)


def test_threads():
    """Threads train by a step of each, and call one that they share, while others run eagerly."""
    runs = [network(seed=i) for i in range(4)]
    expected = [network(seed=i) for i in range(4)]
    data = batches(12)

    def train(i):
        compiled = mg.compile(runs[i][2])
        for x, y in data:
            compiled(x, y)
            expected[i][2](mg.tensor(x), mg.tensor(y))
        return state(*runs[i][:2])

    with ThreadPoolExecutor(4) as pool:
        for i, found in enumerate(pool.map(train, range(4))):
            same(found, state(*expected[i][:2]))
    shared = mg.compile(lambda x: (x * x).sum())
    arrays = [np.full((50, 50), float(i)) for i in range(8)]
    started = threading.Barrier(4)

    def sums(_):
        started.wait(10)
        return [shared(a).item() for a in arrays * 20]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(sums, range(4)):
            assert found == [2500.0 * i * i for i in range(8)] * 20


def test_what_the_report_says_of_memory():
    """The loops read the argument and write the result, and nothing else."""
    compiled = mg.compile(lambda x: mg.relu(x * 2 + 1).sum(0).exp() @ x)
    compiled(np.ones((3, 3)))
    fused, first, second, calls, *_ = compiled.report().splitlines()[1:]
    assert fused == "5 operations fused into 2 nests of loops, each one pass over memory, 144 bytes"
    assert first == "    (3, 3) mul, add, relu, sum: 2 arrays, 96 bytes"
    assert second == "    (3,) exp: 2 arrays, 48 bytes"
    assert calls == "1 calls of kernels and BLAS: matmul"


def test_source_and_report():
    """The source is a file of Python without a size or a number that changes."""
    *_, plain = network(fused=False)
    compiled = mg.compile(plain)
    sources = []
    for n in (8, 12):
        ((x, y),) = batches(1, n)
        compiled(x, y)
        sources.append(compiled.source)
    assert sources[0] == sources[1]
    source = sources[0]
    assert compiled.path.read_text(encoding="utf-8") == source
    assert "model_0_weight" in source
    assert "# gated, from relu, w.r.t. a" in source
    assert re.search(
        r"^\d+ operations fused into \d+ nests of loops", compiled.report(), re.MULTILINE
    )
    how = "run as Python|there already|loaded from disk|compiled by Numba"
    assert re.search(rf"^step: ({how}), \d+\.\d{{3}} s$", compiled.report(), re.MULTILINE)
    compiled.epoch(x, y, batch_size=2)
    assert re.search(rf"^epoch: ({how}), \d", compiled.report(), re.MULTILINE)
    assert "%model.0.weight" in compiled.program
    assert "sgd_momentum" in compiled.program


def test_composed_batch_norm_comes_to_the_closed_form():
    """Forward passes twice for the statistics and once for y, backward once for the sums and dx."""
    *_, plain = network(fused=False)
    compiled = mg.compile(plain)
    for x, y in batches(2):
        compiled(x, y)
    nests = re.findall(r"^    (\(.*\)) \w", compiled.report(), re.MULTILINE)
    assert nests.count("(8, 5)") == 5


@pytest.mark.parametrize("drop_last", [False, True])
def test_epochs(drop_last):
    """An epoch gives the bits of a loop of calls: losses, state, and the loader's place."""
    (m1, o1, one), (m2, o2, two) = network(), network()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((203, 6)).astype(np.float32), rng.integers(0, 4, 203)
    loaders = [
        mg.data.DataLoader(x, y, batch_size=8, shuffle=True, seed=5, drop_last=drop_last)
        for _ in range(2)
    ]
    step, whole = mg.compile(one), mg.compile(two)
    for _ in range(3):
        expected = [step(*batch).item() for batch in loaders[0]]
        losses = whole.epoch(loaders[1])
        np.testing.assert_array_equal(losses.data, np.float32(expected))
        assert loaders[0].state_dict() == loaders[1].state_dict()
        for p, q in zip(m1.parameters(), m2.parameters(), strict=True):
            np.testing.assert_array_equal(p.grad.data, q.grad.data)
    same(state(m1, o1), state(m2, o2))
    again = whole.epoch(x, y, batch_size=50, shuffle=True, seed=1)
    assert again.shape == (5,)
    assert whole.epoch(x[:0], y[:0], batch_size=4).shape == (0,)


def test_an_epoch_that_fails():
    """A label out of range ends an epoch before its batch, and the error names the label."""
    model, opt, plain = network()
    compiled = mg.compile(plain)
    ((x, y),) = batches(1, 400)
    compiled.epoch(x, y, batch_size=8)
    (m1, o1, eager) = network()
    eager_again = mg.compile(eager)
    eager_again.epoch(x, y, batch_size=8)
    y = y.copy()
    y[8 * 40 + 2] = 9
    with pytest.raises(OutOfRangeError, match="got 9 at position 2"):
        compiled.epoch(x, y, batch_size=8)
    for i in range(40):
        eager_again(x[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8])
    same(state(model, opt), state(m1, o1))
    with pytest.raises(ArgumentError, match="expected <lambda> to return one number"):
        mg.compile(lambda x: x * 2).epoch(x, batch_size=3)


def test_an_epoch_that_is_not_one_function():
    (m1, o1, one), (m2, o2, two) = network(dropout=0.5), network(dropout=0.5)
    ((x, y),) = batches(1, 60)
    step, whole = mg.compile(one), mg.compile(two)
    loader = mg.data.DataLoader(x, y, batch_size=10)
    mg.manual_seed(0)
    expected = [step(*batch).item() for batch in loader]
    mg.manual_seed(0)
    np.testing.assert_array_equal(whole.epoch(x, y, batch_size=10).data, np.float32(expected))
    same(state(m1, o1), state(m2, o2))


def test_gradients_that_others_have_made():
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


def test_names_that_are_bound_anew(monkeypatch):
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


def test_averages_and_updates_by_hand():
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


def test_another_group_of_parameters():
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
def test_groups_that_are_replaced(change):
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


def test_a_step_that_only_updates():
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
