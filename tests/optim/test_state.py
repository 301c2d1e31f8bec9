"""SGD saves and resumes its state; what it refuses leaves everything as it was."""

import copy

import numpy as np
import pytest
from leaves import leaf, set_grad

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import ArgumentError, DtypeError, MinigradError, ShapeError, StateDictError

# --- state --------------------------------------------------------------------------------------


def run(parameters, sgd, gradients):
    for g in gradients:
        for p in parameters:
            set_grad(p, g[: p.size].reshape(p.shape))
        sgd.step()
    return [p.tolist() for p in parameters]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loaded_state_goes_on_as_if_there_had_been_no_break(dtype):
    def make(values):
        parameters = [leaf(v, dtype) for v in values]
        first, *rest = parameters
        groups = [{"params": [first], "lr": 0.3}, {"params": rest, "weight_decay": 0.1}]
        return parameters, optim.SGD(groups, lr=0.1, momentum=0.9, dampening=0.2)

    gradients = np.random.default_rng(3).normal(size=(10, 4))
    whole, sgd = make([1.0, [1.0, 2.0], [[3.0], [4.0]]])
    run(whole, sgd, gradients[:5])
    sgd.param_groups[1]["lr"] = 0.7
    state = copy.deepcopy(sgd.state_dict())
    resumed, other = make([p.numpy() for p in whole])
    for group in other.param_groups:
        group.update(lr=9.0, momentum=0.0, dampening=0.0, weight_decay=9.0)
    other.load_state_dict(state)
    assert run(whole, sgd, gradients[5:]) == run(resumed, other, gradients[5:])
    state["state"][0]["momentum_buffer"][...] = np.nan  # neither is a view of what was saved
    state["param_groups"][0]["lr"] = 5.0
    assert run(whole, sgd, gradients) == run(resumed, other, gradients)


@pytest.mark.parametrize("before, after", [("float32", "float64"), ("float64", "float32")])
def test_momentum_goes_on_in_the_dtype_that_a_module_is_converted_to(before, after):
    """The buffer stays in that dtype, and each step builds on what the last one left."""
    module = nn.Linear(2, 1, bias=False).to(before)
    (p,) = module.parameters()
    p.data[...] = 0.0
    sgd = optim.SGD([p], lr=1.0, momentum=0.5)
    values = []
    for dtype in (before, after, after, after):
        module.to(dtype)
        set_grad(p, 1.0)
        sgd.step()
        buffer = sgd.state[p]["momentum_buffer"]
        assert buffer.dtype == p.dtype == dtype
        values.append((p.tolist()[0][0], buffer.tolist()[0][1]))
    assert values == [(-1.0, 1.0), (-2.5, 1.5), (-4.25, 1.75), (-6.125, 1.875)]


def test_a_state_is_named_by_the_order_of_parameters():
    a, b = leaf([1.0, 2.0]), leaf(3.0)
    sgd = optim.SGD([{"params": [a]}, {"params": [b]}], lr=0.1, momentum=0.5)
    assert sgd.state_dict()["state"] == {}
    set_grad(b, 4.0)
    sgd.step()
    state = sgd.state_dict()
    assert [g["params"] for g in state["param_groups"]] == [[0], [1]]
    assert list(state["state"]) == [1] and state["state"][1]["momentum_buffer"] == 4.0
    state["state"][1]["momentum_buffer"][...] = 0.0
    assert sgd.state_dict()["state"][1]["momentum_buffer"] == 4.0


def spoil(path, value):
    """Return a change to a state: the entry at `path` becomes `value`, or goes if that is None."""

    def change(state):
        *way, last = path
        for key in way:
            state = state[key]
        if value is None:
            del state[last]
        else:
            state[last] = value

    return change


def spoilt_buffer(value):
    """Spoil the second parameter's buffer, so that what was loaded before it would show."""
    return spoil(["state", 1, "momentum_buffer"], value)


SPOILT = {
    "no groups": spoil(["param_groups"], None),
    "no state": spoil(["state"], None),
    "a group more": lambda s: s["param_groups"].append(s["param_groups"][0]),
    "a parameter more": spoil(["param_groups", 0, "params"], [0, 1]),
    "no lr": spoil(["param_groups", 1, "lr"], None),
    "lr NaN": spoil(["param_groups", 1, "lr"], float("nan")),
    "lr text": spoil(["param_groups", 1, "lr"], "fast"),
    "dampening text": spoil(["param_groups", 1, "dampening"], "strong"),
    "nesterov text": spoil(["param_groups", 1, "nesterov"], "yes"),
    "nesterov with dampening": spoil(["param_groups", 1, "nesterov"], True),
    "buffer of another shape": spoilt_buffer(np.zeros(3)),
    "buffer of one element for many": spoilt_buffer(np.zeros(1)),
    "buffer of text": spoilt_buffer(np.array(["a", "b"])),
    "buffer of complex": spoilt_buffer(np.zeros(2, complex)),
    "no such parameter": spoil(["state", 2], {"momentum_buffer": np.zeros(2)}),
    "negative parameter": spoil(["state", -1], {"momentum_buffer": np.zeros(2)}),
    "buffer under another name": spoil(["state", 1], {"exp_avg": np.zeros(2)}),
    "state of text": spoil(["state", 1], "momentum"),
    "key of text": spoil(["state", "weight"], {"momentum_buffer": np.zeros(2)}),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_state_that_does_not_fit_changes_nothing(name):
    def make():
        groups = [{"params": [leaf([1.0, 2.0])]}, {"params": [leaf([3.0, 4.0])]}]
        sgd = optim.SGD(groups, lr=0.1, momentum=0.5, dampening=0.1)
        parameters = [p for g in sgd.param_groups for p in g["params"]]
        run(parameters, sgd, np.ones((2, 2)))
        return sgd

    sgd, other = make(), make()
    state = other.state_dict()
    state["param_groups"][0]["lr"] = 7.0
    state["state"][0]["momentum_buffer"] += 1.0
    SPOILT[name](state)
    before = repr(sgd.state_dict())
    with pytest.raises(StateDictError, match=r"^SGD\.load_state_dict: "):
        sgd.load_state_dict(state)
    assert repr(sgd.state_dict()) == before


# --- bad input ----------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")
BAD_VALUES = [(k, v) for k in ("lr", "momentum", "weight_decay") for v in (NAN, INF, -0.1, "1")]
BAD_VALUES += [("dampening", NAN), ("dampening", INF), ("dampening", "1")]
BAD_VALUES += [("lr", None), ("lr", 1j), ("nesterov", 1), ("maximize", "yes")]
BAD_VALUES += [("lr", True), ("lr", np.array(0.1)), ("dampening", False)]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
def test_values_out_of_their_domain_are_named(name, value):
    p = leaf([1.0, 2.0])
    with pytest.raises((ArgumentError, DtypeError), match=f"SGD: {name} must be .* got"):
        optim.SGD([p], **{name: value})
    sgd = optim.SGD([p])
    with pytest.raises((ArgumentError, DtypeError), match=f"SGD: {name} must be .* got"):
        sgd.add_param_group({"params": [leaf(1.0)], name: value})
    assert len(sgd.param_groups) == 1
    # The same, set between steps, in the second group: the first must not have moved.
    idle = leaf([5.0])
    sgd.add_param_group({"params": [idle]})
    sgd.param_groups[1][name] = value
    set_grad(p, 1.0)
    set_grad(idle, 1.0)
    with pytest.raises((ArgumentError, DtypeError), match=f"SGD: {name} must be"):
        sgd.step()
    assert p.tolist() == [1, 2] and idle.tolist() == [5] and sgd.state == {}


def twice(p):
    return [{"params": [p]}, {"params": [leaf(0.0), p]}]


BAD_PARAMETERS = {
    "empty": (lambda p: [], ArgumentError, "empty parameter list"),
    "used up": (lambda p: (q for q in []), ArgumentError, "a generator that was used up"),
    "a module without": (lambda p: nn.ReLU().parameters(), ArgumentError, "empty"),
    "empty group": (lambda p: [{"params": []}], ArgumentError, "empty parameter list"),
    "twice": (lambda p: [p, p], ArgumentError, r"parameter 1, shape \(2,\), is given twice; leave"),
    "twice across groups": (twice, ArgumentError, "parameter 1, .*is given twice"),
    "not a leaf": (
        lambda p: [p * 2.0],
        ArgumentError,
        "must be a leaf .*, got the result",
    ),
    "integers": (lambda p: [mg.tensor(np.array([1]))], ArgumentError, "leaf of floats, got int64"),
    "an array": (lambda p: [p, np.ones(2)], DtypeError, "parameter 1 is a ndarray"),
    "names": (lambda p: [("w", p)], DtypeError, r"0 is a tuple, .* model\.parameters\(\)"),
    "a state": (lambda p: {"w": p}, DtypeError, r"0 is a str, .* model\.parameters\(\)"),
    "one Tensor": (lambda p: p, DtypeError, r"got Tensor; .* or \[tensor\]"),
    "a number": (lambda p: 5, DtypeError, "params must be a list of Tensors, got int"),
    "a number in a group": (lambda p: [{"params": 5}], DtypeError, "list of Tensors, got int"),
    "unknown key": (lambda p: [{"params": [p], "speed": 1}], ArgumentError, r"unknown \['speed'\]"),
    "no params": (lambda p: [{"lr": 1.0}], ArgumentError, "the key 'params'"),
    "mixed": (lambda p: [{"params": [p]}, leaf(1.0)], ArgumentError, "group is a dict"),
}


@pytest.mark.parametrize(("make", "error", "message"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
def test_parameters_that_cannot_be_trained_are_named(make, error, message):
    p = leaf([1.0, 2.0])
    with pytest.raises(error, match=f"^SGD: .*{message}"):
        optim.SGD(make(p), lr=0.1)


def test_nesterov_needs_momentum_and_no_dampening():
    for options in ({}, {"momentum": 0.0}, {"momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(ArgumentError, match="nesterov needs momentum above 0 and dampening 0"):
            optim.SGD([leaf(1.0)], nesterov=True, **options)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_step_that_raises_has_changed_nothing(momentum):
    first, wrong = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    sgd = optim.SGD([first, wrong], lr=0.1, momentum=momentum)
    run([first, wrong], sgd, np.ones((1, 2)))
    before = repr([first, wrong, sgd.state_dict()])
    set_grad(first, 5.0)
    for change in (
        lambda grad: grad.data.resize((3,), refcheck=False),
        lambda grad: grad.data.resize((1, 2), refcheck=False),
        lambda grad: grad.convert_(np.float32),
    ):
        set_grad(wrong, 1.0)
        change(wrong.grad)
        with pytest.raises(ShapeError, match=r"gradient of shape .* for a parameter of shape \(2,"):
            sgd.step()
        assert repr([first, wrong, sgd.state_dict()]) == before
    set_grad(wrong, 1.0)
    wrong.data.flags.writeable = False
    with pytest.raises(MinigradError, match="read-only"):
        sgd.step()
    assert repr([first, wrong, sgd.state_dict()]) == before

    def closure():
        raise KeyError("from the closure")

    wrong.data.flags.writeable = True
    with pytest.raises(KeyError):
        sgd.step(closure)
    assert repr([first, wrong, sgd.state_dict()]) == before
