"""An optimizer works that follows CONTRIBUTING's recipe: a kernel, its rule and a declaration.

It runs eagerly, compiled, by epoch and from state dicts, without a change elsewhere.
"""

import copy
import re

import numpy as np
import pytest
from adam import ARRAYS, Adam

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim
from minigrad.errors import ArgumentError, DtypeError, StateDictError, TraceError
from minigrad.kernels.jit.decorators import kernel


def _adam_of_numpy(p, g, exp_avg, exp_avg_sq, step, hyper):
    """Update as _adam does, without a kernel."""
    lr, eps, b1, c1, b2, c2, log_b1, log_b2 = hyper.tolist()
    step += 1
    exp_avg[...] = b1 * exp_avg + c1 * g
    exp_avg_sq[...] = b2 * exp_avg_sq + c2 * g * g
    m, v = exp_avg / -np.expm1(step * log_b1), exp_avg_sq / -np.expm1(step * log_b2)
    p -= (lr * m / (np.sqrt(v) + eps)).astype(p.dtype)


class SlowAdam(Adam):
    """SlowAdam has no kernel: NumPy runs its rule between compiled functions."""

    rules = (optim.Rule("adam", _adam_of_numpy, "as that of Adam", **ARRAYS),)


# --- what it then does ----------------------------------------------------------------------------

pytestmark = pytest.mark.filterwarnings("ignore:compile. adam cannot be compiled:RuntimeWarning")
KINDS = [Adam, SlowAdam]
ROWS, COUNT = 4, 20
RNG = np.random.default_rng(0)
START, GRADIENTS = RNG.standard_normal((ROWS, 3)), RNG.standard_normal((COUNT, ROWS, 3))


def make(kind, dtype=np.float64, start=START, **options):
    """Return a parameter, an optimizer, and a compiled step whose gradient is its argument."""
    w = mg.tensor(start.astype(dtype), requires_grad=True)
    opt = kind([w], **{"lr": 0.1, **options})

    @mg.compile
    def step(x):
        opt.zero_grad()
        loss = (w * x).sum()
        loss.backward()
        opt.step()
        return loss

    return w, opt, step


def train(way, step, first, last, dtype=np.float64):
    """Take the steps with these gradients: "eager", "compiled", "mixed" or by "epoch"."""
    given = GRADIENTS[first:last].astype(dtype)
    if way == "epoch":
        step.epoch(given.reshape(-1, 3), batch_size=ROWS, shuffle=False)
        return
    for i, g in enumerate(given):
        eager = way == "eager" or (way == "mixed" and i % 3 == 1)
        (step.__wrapped__ if eager else step)(mg.tensor(g))


def everything(w, opt):
    """Return the bits of the parameter and of its state."""
    return [w.data.tobytes(), *((k, v.tobytes()) for k, v in opt.state[w].items())]


def by_formula(gradients, lr, b1=0.9, b2=0.999, eps=1e-8, start=START):
    p, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for t, (g, rate) in enumerate(zip(gradients, lr, strict=True), 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        p -= rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return p, m, v


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["eager", "compiled", "mixed", "epoch"])
def test_steps_follow_the_formula(kind, way):
    w, opt, step = make(kind)
    train(way, step, 0, 12)
    opt.param_groups[0]["lr"] = 0.02
    train(way, step, 12, COUNT)
    p, m, v = by_formula(GRADIENTS, [0.1] * 12 + [0.02] * (COUNT - 12))
    state = opt.state[w]
    for found, expected in ((w.data, p), (state["exp_avg"], m), (state["exp_avg_sq"], v)):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert state["step"] == COUNT and state["step"].dtype == np.int64


def test_steps_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    w, _, step = make(Adam, betas=(0.8, 0.95), eps=1e-6)
    theirs = torch.tensor(START, requires_grad=True)
    other = torch.optim.Adam([theirs], lr=0.1, betas=(0.8, 0.95), eps=1e-6)
    for g in GRADIENTS:
        step(mg.tensor(g))
        theirs.grad = torch.tensor(g)
        other.step()
    np.testing.assert_allclose(w.data, theirs.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_eager_and_compiled_have_the_same_bits(kind, dtype):
    found = []
    for way in ("eager", "compiled", "mixed", "epoch"):
        w, opt, step = make(kind, dtype)
        train(way, step, 0, COUNT, dtype)
        found.append(everything(w, opt))
    assert found[1:] == found[:1] * 3


@pytest.mark.parametrize("way", ["eager", "compiled", "epoch"])
@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_resumed_is_uninterrupted(kind, way):
    whole, opt, step = make(kind)
    train(way, step, 0, COUNT)
    first, stopped, step = make(kind)
    train(way, step, 0, 7)
    saved = copy.deepcopy(stopped.state_dict())
    resumed, other, step = make(kind, start=first.data, lr=5.0, eps=1.0)
    other.load_state_dict(saved)
    train(way, step, 7, COUNT)
    assert everything(resumed, other) == everything(whole, opt)
    assert [*saved["state"][0]] == ["exp_avg", "exp_avg_sq", "step"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_is_trained_as_eagerly(kind):
    """Every 3rd call is checked against the function itself, state included.

    No bias stands before a BatchNorm: its gradient would consist of rounding errors alone, and Adam
    would scale them up to whole steps.
    """

    def make_network():
        mg.manual_seed(0)
        first, last = nn.Linear(3, 4, bias=False), nn.Linear(4, 2)
        model = nn.Sequential(first, nn.BatchNorm1d(4), nn.ReLU(), last).double()
        groups = [{"params": [p], "lr": 0.02 * i} for i, p in enumerate(model.parameters())]
        opt = kind(groups)

        def step(x, y):
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            return loss

        return model, step

    (eager, one), (compiled, two) = make_network(), make_network()
    two, labels = mg.compile(two, check=3), np.arange(ROWS) % 2
    for g in GRADIENTS:
        np.testing.assert_allclose(two(g, labels).item(), one(mg.tensor(g), labels).item(), 1e-10)
    for a, b in zip(eager.parameters(), compiled.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-10, atol=1e-12)


def test_its_kernel_runs_in_generated_code_and_a_rule_of_numpy_between():
    for kind, whole in ((Adam, True), (SlowAdam, False)):
        *_, compiled = make(kind)
        compiled(GRADIENTS[0])
        assert ("adam(w, " in compiled.source) is whole
        assert ("adam (by NumPy)" in compiled.source) is not whole


def test_a_failed_first_call_leaves_no_state():
    w, opt, _ = make(Adam)

    @mg.compile
    def step(x, labels):
        opt.zero_grad()
        F.cross_entropy(w * x, labels).backward()
        opt.step()

    good, bad = np.arange(ROWS) % 3, np.arange(ROWS) + 1
    for _ in range(2):
        with pytest.raises(mg.errors.MinigradError):
            step(GRADIENTS[0], bad)
        assert opt.state == {} and w.tolist() == START.tolist()
    step(GRADIENTS[0], good)
    assert opt.state[w]["step"] == 1


def test_a_state_that_is_loaded_after_a_failed_first_call_stays():
    """The array that the failed call would have given to the optimizer does not replace it."""
    other, saved, step = make(Adam)
    train("eager", step, 0, 3)
    w, opt, compiled = make(Adam, start=other.data)
    compiled(GRADIENTS[3])
    opt.state.clear()
    w.data = other.data.copy()
    with pytest.raises(TraceError, match="is memory of w"):
        compiled(w.data)
    opt.load_state_dict(saved.state_dict())
    compiled(GRADIENTS[3])
    expected, whole, step = make(Adam)
    train("eager", step, 0, 4)
    assert everything(w, opt) == everything(expected, whole)


@pytest.mark.parametrize("way", ["eager", "compiled"])
@pytest.mark.parametrize("before, after", [("float32", "float64"), ("float64", "float32")])
def test_buffers_follow_the_dtype_of_a_module_and_counters_do_not(before, after, way):
    module = nn.Linear(3, ROWS, bias=False).to(before)
    (w,) = module.parameters()
    opt = Adam([w])

    @mg.compile
    def step(x):
        opt.zero_grad()
        (w * x).sum().backward()
        opt.step()

    for dtype in (before, after, after):
        module.to(dtype)
        train(way, step, 0, 1, dtype)
        found = {name: array.dtype for name, array in opt.state[w].items()}
        assert found == {"exp_avg": dtype, "exp_avg_sq": dtype, "step": np.int64}
    assert opt.state[w]["step"] == 3


def test_parameters_in_any_order_in_memory():
    found = []
    for order in "CF":
        w, opt, step = make(Adam)
        w.data = np.asarray(w.data, order=order)
        train("eager", step, 0, 3)
        assert w.data.flags[f"{order}_CONTIGUOUS"]
        found.append((w.tolist(), everything(w, opt)[1:]))
    assert found[0] == found[1]


SPOILT = {
    "one buffer alone": lambda s: s.pop("step"),
    "another name": lambda s: s.update(moment=s.pop("exp_avg")),
    "one more": lambda s: s.update(moment=s["exp_avg"]),
    "a counter of another shape": lambda s: s.update(step=np.zeros(3, np.int64)),
    "a buffer of another shape": lambda s: s.update(exp_avg=np.zeros(())),
    "a buffer of text": lambda s: s.update(exp_avg=np.full((ROWS, 3), "a")),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_state_that_does_not_fit_changes_nothing(name):
    w, opt, step = make(Adam)
    train("eager", step, 0, 2)
    state = opt.state_dict()
    SPOILT[name](state["state"][0])
    before = everything(w, opt)
    with pytest.raises(StateDictError, match=r"^Adam\.load_state_dict: "):
        opt.load_state_dict(state)
    assert everything(w, opt) == before


def test_errors_name_the_optimizer():
    w, opt, step = make(Adam)
    with pytest.raises(ArgumentError, match=r"^Adam: betas must be a number between"):
        Adam([w], betas=(0.9, 1.0))
    with pytest.raises(
        DtypeError, match=r"^Adam: params must be a list of Tensors, got Tensor; .* or \[tensor\]"
    ):
        Adam(w)
    opt.param_groups[0]["lr"] = -1.0
    for way in ("eager", "compiled"):
        with pytest.raises(ArgumentError, match=r"^Adam: lr must be"):
            train(way, step, 0, 1)
    assert opt.state == {} and repr(opt) == "Adam(lr=-1.0, betas=(0.9, 0.999), eps=1e-08)"


# --- what an author or a user does wrong ----------------------------------------------------------


class Loose(optim.Optimizer):
    """It checks nothing itself."""

    rules = (optim.Rule("loose", lambda p, g, hyper: None, "p <- p", ("rate",)),)

    def __init__(self, params, rate=0.1):
        super().__init__(params, {"rate": rate})

    @staticmethod
    def check(group):
        pass

    @staticmethod
    def numbers(group, first):
        rate = group["rate"]
        return (rate[0] if isinstance(rate, tuple) else rate,)


CHANGEABLE = {
    "list": [0.1, 0.2],
    "dict": {"rate": 0.1},
    "ndarray": np.array(0.1),
    "Tensor": mg.tensor(0.1),
    "tuple": (0.1, [0.2]),
}


@pytest.mark.parametrize("kind", CHANGEABLE)
def test_hyper_parameters_that_may_change_unseen_are_named(kind):
    message = rf"^Loose: rate must be a number, .* got {kind}[,(].*; pass a tuple for a list, and"
    w, value = mg.tensor(START, requires_grad=True), CHANGEABLE[kind]
    with pytest.raises(DtypeError, match=message):
        Loose([w], value)
    with pytest.raises(DtypeError, match=message):
        Loose([{"params": [w], "rate": value}])
    opt = Loose([w])
    state = opt.state_dict()
    state["param_groups"][0]["rate"] = value
    with pytest.raises(StateDictError, match=message.replace("^", "")):
        opt.load_state_dict(state)
    opt.param_groups[0]["rate"] = value
    with pytest.raises(DtypeError, match=message):
        opt.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("kind", CHANGEABLE)
def test_hyper_parameters_that_become_so_stop_compiled_steps(kind, momentum):
    w = mg.tensor(START, requires_grad=True)
    opt = optim.SGD([w], lr=0.1, momentum=momentum, dampening=momentum)

    @mg.compile
    def step(x):
        opt.zero_grad()
        (w * x).sum().backward()
        opt.step()

    train("compiled", step, 0, 2)
    before = w.tolist()
    opt.param_groups[0]["lr"] = CHANGEABLE[kind]
    for way in ("compiled", "eager"):
        with pytest.raises(DtypeError, match=f"^SGD: lr must be a number, .* got {kind}[,(]"):
            train(way, step, 2, 3)
    opt.param_groups[0].pop("lr")
    for way in ("compiled", "eager"):
        with pytest.raises(ArgumentError, match=r"^SGD: a group lacks 'lr', it has \['mom"):
            train(way, step, 2, 3)
    assert w.tolist() == before
    opt.param_groups[0]["lr"] = np.float32(0.1)
    train("compiled", step, 2, 3)
    assert w.tolist() != before and step.traces == 1


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.int64(2), (0.5, 1)])
def test_scalars_of_numpy_and_tuples_are_hyper_parameters(value):
    opt = Loose([mg.tensor(START, requires_grad=True)], value)
    opt.step()
    assert opt.settings(opt.param_groups[0]).later[np.dtype("float64")] == np.ravel(value)[0]


WRONG = {
    "tuple": (),
    "tuple(float, float)": (1.0, 2.0),
    "tuple(NoneType": (None,) * 8,
    "tuple(complex": (1j,) * 8,
    "tuple(int": (10**400,) * 8,  # beyond any float
    "tuple(tuple": ((1.0, 2.0), *(1.0,) * 7),
    "NoneType": None,
    "float": 1.0,
    "ndarray": np.array(1.0),
}


@pytest.mark.parametrize("shown", WRONG)
@pytest.mark.parametrize("way", ["made", "eager", "compiled"])
def test_wrong_numbers_never_reach_the_kernel(shown, way):
    class Short(Adam):
        @staticmethod
        def numbers(group, first):
            return WRONG[shown] if group["lr"] == 9.0 else Adam.numbers(group, first)

    w, opt, step = make(Short)
    message = rf"^Short\.numbers: expected a tuple of 8 .* adam .*lr, eps.* got {re.escape(shown)}"
    if way == "made":
        with pytest.raises(ArgumentError, match=message):
            make(Short, lr=9.0)
    else:
        opt.param_groups[0]["lr"] = 9.0
        with pytest.raises(ArgumentError, match=message):
            train(way, step, 0, 1)
    assert w.tolist() == START.tolist() and opt.state == {}


def test_numbers_may_be_an_array():
    class OfNumPy(Adam):
        numbers = staticmethod(lambda group, first: np.array(Adam.numbers(group, first)))

    (w, _, step), (other, _, as_tuple) = make(OfNumPy), make(Adam)
    train("eager", step, 0, 2)
    train("eager", as_tuple, 0, 2)
    assert w.tolist() == other.tolist()


SECOND = optim.Rule("second", _adam_of_numpy, "as that of Adam", **ARRAYS)
# Attributes of a subclass of Adam, and the error when one is made.
MISTAKES = [
    ({"rules": ()}, DtypeError, "set `rules` to a tuple of Rules, got tuple$"),
    ({"rules": None}, DtypeError, "a tuple of Rules, got NoneType"),
    ({"rules": SECOND}, DtypeError, "a tuple of Rules, got Rule"),
    ({"rules": (SECOND, 3)}, DtypeError, r"a tuple of Rules, got tuple\(Rule, int\)"),
    ({"rules": (*Adam.rules, SECOND)}, ArgumentError, r"it has 2 rules; define `rule\(group\)`"),
    ({"rule": lambda group: SECOND}, ArgumentError, r"rule: expected one of Mine.rules, got Rule"),
    ({"rule": lambda group: None}, ArgumentError, r"rule: expected one of Mine.rules, got None"),
]


@pytest.mark.parametrize("attributes, error, message", MISTAKES)
def test_a_class_that_is_wrong_is_told_when_one_is_made(attributes, error, message):
    if "rule" in attributes:
        attributes = {"rule": staticmethod(attributes["rule"])}
    mine = type("Mine", (Adam,), attributes)
    with pytest.raises(error, match=rf"^Mine[:.].*{message}"):
        make(mine)


@pytest.mark.parametrize("defaults", [{"params": 1.0}, None, ["lr"]])
def test_defaults_that_are_wrong(defaults):
    class Mine(Adam):
        def __init__(self, params, **options):
            optim.Optimizer.__init__(self, params, defaults)

    with pytest.raises(ArgumentError, match=r"^Mine: defaults must be a dict .* got .*'params' is"):
        make(Mine)


def test_without_rules_there_is_no_optimizer():
    class Mine(optim.Optimizer):
        check, numbers = Adam.check, Adam.numbers

    with pytest.raises(DtypeError, match=r"^Mine: .* a tuple of Rules, got NoneType"):
        Mine([mg.tensor(START)], {})


def test_an_init_that_calls_no_other_is_told():
    class Mine(Adam):
        def __init__(self, params):
            self.mine = params

    opt = Mine([mg.tensor(START)])
    message = r"^Mine has no '\w+'; __init__ must first call super\(\).__init__\(params, "
    for use in (opt.step, opt.zero_grad, opt.state_dict, lambda: opt.values):
        with pytest.raises(AttributeError, match=message):
            use()
    assert copy.deepcopy(opt).mine[0].tolist() == START.tolist()
    with pytest.raises(AttributeError, match=r"^Adam has no 'beta'$"):
        make(Adam)[1].beta  # noqa: B018
    assert not hasattr(make(Adam)[1], "beta")


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"kernel": 3}, DtypeError, "kernel must be a function, got 3"),
        ({"kernel_for_all": 3}, DtypeError, "kernel_for_all must be a function or None, got 3"),
        ({"hyper": "lr"}, DtypeError, r"hyper must be a tuple of names, got 'lr'; write \('lr',\)"),
        ({"buffers": "m"}, DtypeError, "buffers must be a tuple of names, got 'm'"),
        ({"counters": 3}, DtypeError, "counters must be a tuple of names, got 3"),
        ({"hyper": (1,)}, DtypeError, r"hyper must be a tuple of names, got \(1,\)"),
        ({"buffers": ("m", "m")}, ArgumentError, r"name of its own, got \('m', 'm'\); rename one"),
        ({"buffers": ["m"], "counters": ["m"]}, ArgumentError, "a name of its own, got"),
        ({"counters": ("n", "n")}, ArgumentError, "a name of its own, got"),
    ],
)
def test_a_rule_that_is_wrong(options, error, message):
    given = {"kernel": _adam_of_numpy, "hyper": ("lr",), **options}
    with pytest.raises(error, match=f"^Rule 'mine': .*{message}"):
        optim.Rule("mine", doc="p <- p", **given)


def _sign(p, g, hyper):
    """p <- p - sign(g)."""
    ps, gs = p.reshape(p.size), g.reshape(p.size)
    for i in range(ps.size):
        ps[i] -= 1.0 if gs[i] > 0 else -1.0


class Sign(optim.Optimizer):
    """It has no hyper-parameters."""

    rules = (optim.Rule("sign", kernel(_sign), "p <- p - sign(g)", ()),)

    def __init__(self, params):
        super().__init__(params, {})

    @staticmethod
    def check(group):
        pass

    @staticmethod
    def numbers(group, first):
        return ()


@pytest.mark.parametrize("way", ["eager", "compiled", "epoch"])
def test_an_optimizer_needs_no_hyper_parameters(way):
    w, opt, step = make(lambda params, lr: Sign(params))
    train(way, step, 0, 3)
    expected = START - np.where(GRADIENTS[:3] > 0, 1.0, -1.0).sum(0)
    np.testing.assert_allclose(w.data, expected, rtol=1e-12)
    copy.deepcopy(opt).load_state_dict(opt.state_dict())
    assert repr(opt) == "Sign()"


class Fragile(SlowAdam):
    """Its rule raises an error for gradients of 9, after it has changed all it may change."""

    @staticmethod
    def apply(p, g, *others):
        _adam_of_numpy(p, g, *others)
        if (g == 9.0).any():
            raise ZeroDivisionError("a rule that fails")

    rules = (optim.Rule("adam", apply.__func__, "as that of Adam", **ARRAYS),)


@pytest.mark.parametrize("way", ["eager", "compiled"])
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("steps", [0, 2])
def test_a_rule_that_raises_has_changed_nothing(way, order, steps):
    """This holds for parameters, buffers and counters, also of the parameters before."""
    a, b = (mg.tensor(np.array(START, order=order), requires_grad=True) for _ in range(2))
    opt = Fragile([a, b], lr=0.1)

    def step(x, y):
        opt.zero_grad()
        (a * x + b * y).sum().backward()
        opt.step()

    run = mg.compile(step) if way == "compiled" else lambda *xs: step(*map(mg.tensor, xs))
    for g in GRADIENTS[:steps]:
        run(g, g)

    def everything():
        found = [x.data.tobytes() for x in (a, b)]
        return found, {x: {k: v.tobytes() for k, v in s.items()} for x, s in opt.state.items()}

    before = everything()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="a rule that fails"):
            run(GRADIENTS[5], np.full_like(START, 9.0))
        assert everything() == before
    run(GRADIENTS[6], GRADIENTS[6])
    assert opt.state[a]["step"] == opt.state[b]["step"] == steps + 1


def test_a_foreign_state_is_told_by_its_keys():
    _, opt, step = make(Adam)
    train("eager", step, 0, 1)
    state = opt.state_dict()
    state["state"][0]["momentum_buffer"] = state["state"][0].pop("exp_avg")
    with pytest.raises(
        StateDictError,
        match=r"state of parameter 0 has \['exp_avg_sq', 'step', 'momentum_buffer'\], expected "
        r"\['exp_avg', 'exp_avg_sq', 'step'\]; was it saved by another optimizer\?$",
    ):
        opt.load_state_dict(state)
    state = opt.state_dict()
    del state["param_groups"][0]["eps"]
    with pytest.raises(
        StateDictError, match=r"group 0 lacks \['eps'\], it has \['lr', 'betas', 'params'\]; exp"
    ):
        opt.load_state_dict(state)
    for wrong in ({}, {"w": START}, None):
        with pytest.raises(StateDictError, match="a dict of 'param_groups' and 'state', got"):
            opt.load_state_dict(wrong)
