"""Modules: what belongs to them, their state, and chains of them."""

import copy
import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.errors import (
    ArgumentError,
    DtypeError,
    OutOfRangeError,
    StateDictError,
)


class Block(nn.Module):
    """Parameters, a buffer, children and plain values, made in a mixed-up order."""

    def __init__(self):
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.scale = nn.Parameter([1.0, 2.0, 3.0])
        self.register_buffer("offset", mg.tensor([0.5, 0.5, 0.5]))
        self.register_buffer("absent", None)
        self.constant = mg.tensor([1.0])
        self.shift = nn.Parameter([[0.0]])
        self.note = "plain"

    def forward(self, x):
        return self.inner(x * self.scale + self.offset + self.shift)


BLOCK_PARAMETERS = ["scale", "shift"]
BLOCK_PARAMETERS += ["inner.0.weight", "inner.0.bias", "inner.1.weight", "inner.1.bias"]
BLOCK_STATE = ["scale", "shift", "offset", "inner.0.weight", "inner.0.bias", "inner.1.weight"]
BLOCK_STATE += ["inner.1.bias", "inner.1.running_mean", "inner.1.running_var"]
BLOCK_STATE += ["inner.1.num_batches_tracked"]


# --- what belongs to a module -------------------------------------------------------------------


def test_names_and_order():
    block = Block()
    assert [n for n, _ in block.named_parameters()] == BLOCK_PARAMETERS
    assert list(block.state_dict()) == BLOCK_STATE
    assert [n for n, _ in block.named_buffers()] == [
        n for n in BLOCK_STATE if "_" in n or n[0] == "o"
    ]
    assert [n for n, _ in block.named_children()] == ["inner"]
    assert [n for n, _ in block.named_modules()] == ["", "inner", "inner.0", "inner.1"]
    assert list(block.modules())[1] is block.inner is next(block.children())
    named = dict(block.named_parameters())
    assert all(p is q for p, q in zip(block.parameters(), named.values(), strict=True))
    assert named["inner.0.weight"] is block.inner[0].weight
    block.shift = None
    assert "shift" not in block.state_dict()


def test_shared_parameters_and_modules_come_once_but_keep_all_their_names():
    shared = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model = nn.Sequential(shared, nn.ReLU(), shared)
    assert [n for n, _ in model.named_parameters()] == [
        f"0.{n}" for n in ("0.weight", "0.bias", "1.weight", "1.bias")
    ]
    assert [n for n, _ in model.named_buffers()] == [
        f"0.1.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")
    ]
    assert [n for n, _ in model.named_modules()] == ["", "0", "0.0", "0.1", "1"]
    assert len(model.state_dict()) == 14 and len(model) == 3
    model.load_state_dict(model.state_dict())
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    tied(np.ones((1, 2), "f")).sum().backward()
    assert [n for n, _ in tied.named_parameters()] == ["0.weight", "0.bias", "1.bias"]


def test_modes_freezing_and_apply_reach_everything():
    block = Block()
    assert block.training and block.eval() is block
    assert [m.training for m in block.modules()] == [False] * 4
    assert block.train().inner[1].training and not block.train(False).inner[1].training
    assert block.requires_grad_(False) is block
    assert not any(p.requires_grad for p in block.parameters())
    block.requires_grad_().train()
    block(np.ones((4, 3), "f") * np.arange(4)[:, None]).sum().backward()
    assert all(p.grad is not None for p in block.parameters())
    block.zero_grad()
    assert all(p.grad is None for p in block.parameters())
    seen = []
    assert block.apply(seen.append) is block and seen == list(block.modules())
    assert not nn.Linear(1, 1).eval().training and nn.Linear(1, 1).training


def test_conversion_happens_in_place():
    block = Block()
    everything = [*block.parameters(), *block.buffers()]
    block(np.random.default_rng(0).normal(size=(4, 3)).astype("f")).sum().backward()
    before = block.state_dict()
    assert block.double() is block
    assert all(
        a is b for a, b in zip(everything, [*block.parameters(), *block.buffers()], strict=True)
    )
    for name, value in block.state_dict().items():
        expected = np.int64 if name.endswith("tracked") else np.float64
        assert value.dtype == expected
        np.testing.assert_array_equal(value, before[name])
    assert all(p.grad.dtype == np.float64 and p.requires_grad for p in block.parameters())
    assert block(np.ones((4, 3)) * np.arange(4)[:, None]).dtype == np.float64
    assert {b.dtype.name for b in block.float().buffers()} == {"float32", "int64"}
    for wrong in (np.float16, np.int64, bool, "cuda", np.ones(1)):
        with pytest.raises(DtypeError, match=r"(?i)to: .*(expected|convert to|such as) '?float32"):
            block.to(wrong)
    assert block.scale.dtype == np.float32


def test_a_module_without_forward_says_so_and_buffers_must_be_tensors():
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        nn.Module()(1)
    module = nn.Module()
    for wrong in (np.ones(2), [1.0], 1.0):
        with pytest.raises(DtypeError, match="register_buffer: 'x' must be a Tensor or None"):
            module.register_buffer("x", wrong)
    assert module.state_dict() == {}


def test_a_cycle_of_modules_is_walked_once():
    parent, child = Block(), Block()
    own = len(parent.state_dict())
    parent.child, child.parent = child, parent
    assert [n for n, _ in parent.named_modules()].count("child") == 1
    assert len(list(parent.modules())) == 8 and len(list(parent.parameters())) == 12
    state = parent.state_dict()
    assert len(state) == 2 * own and "child.inner.1.running_mean" in state
    parent.load_state_dict(state)
    assert not parent.eval().child.inner[1].training and parent.double().child.scale.dtype == "f8"
    assert "(child): Block(" in repr(parent) and "(parent): ..." in repr(parent)


def test_a_mode_is_true_or_false():
    block = Block().eval()
    for wrong in ("no", None, 1):
        with pytest.raises(DtypeError, match=r"^Block\.train: mode must be True or False, got"):
            block.train(wrong)
    assert not any(m.training for m in block.modules())


def test_repr_is_nested_and_shows_arguments():
    model = nn.Sequential({"body": nn.Sequential(nn.Linear(2, 3), nn.ReLU()), "drop": nn.Dropout()})
    assert repr(model) == (
        "Sequential(\n"
        "  (body): Sequential(\n"
        "    (0): Linear(2, 3, bias=True)\n"
        "    (1): ReLU()\n"
        "  )\n"
        "  (drop): Dropout(p=0.5)\n"
        ")"
    )
    assert repr(nn.Module()) == "Module()"


# --- state --------------------------------------------------------------------------------------


def test_state_is_copied_out_and_in():
    block, other = Block(), Block()
    state = block.state_dict()
    expected = copy.deepcopy(state)
    memory = [p.numpy() for p in other.parameters()]
    with mg.no_grad():
        for p in block.parameters():
            p.copy_(9.0)
    keys = other.load_state_dict(state)
    assert keys == ([], []) and keys.missing_keys == keys.unexpected_keys == []
    for array in state.values():
        array[...] = 7
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, expected[name], strict=True)
    assert all(p.numpy() is m for p, m in zip(other.parameters(), memory, strict=True))
    assert all(p.requires_grad for p in other.parameters())
    other.load_state_dict({k: mg.tensor(v) for k, v in expected.items()})


def test_a_state_that_does_not_fit_is_refused_whole_and_everything_wrong_is_listed():
    block = Block()
    before = block.state_dict()
    state = {k: v + 1 for k, v in before.items()}
    state["shift"] = np.zeros(1, "f")
    state["inner.0.bias"] = np.zeros(4)
    del state["inner.1.num_batches_tracked"], state["scale"]
    state["novel"] = state["another"] = np.zeros(1)
    with pytest.raises(StateDictError) as caught:
        block.load_state_dict(state)
    message = str(caught.value)
    assert message.startswith("Block.load_state_dict: nothing was loaded: ")
    for part in (
        "missing key 'scale'",
        "missing key 'inner.1.num_batches_tracked'",
        "unexpected key 'novel'",
        "unexpected key 'another'",
        "'shift' has shape (1,), expected (1, 1)",
        "'inner.0.bias' is float64, expected float32",
    ):
        assert part in message
    with pytest.raises(StateDictError, match="shape"):
        block.load_state_dict(state, strict=False)
    for wrong in (None, [1], 3):
        with pytest.raises(StateDictError, match="expected a dict"):
            block.load_state_dict(wrong)
    for name, array in block.state_dict().items():
        np.testing.assert_array_equal(array, before[name], strict=True)


def refuses(*args, **kwargs):
    raise RuntimeError("Can't call numpy() on Tensor that requires grad")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([[1.0], [1.0, 2.0]], "makes no array .*inhomogeneous"),
        (type("Foreign", (), {"__array__": refuses})(), "makes no array .*requires grad"),
        (None, r"has shape \(\), expected \(3,\)"),
        (["a", "b", "c"], "is <U1, expected float32"),
    ],
)
def test_what_is_no_array_is_no_state(wrong, message):
    block = Block()
    before = block.state_dict()
    state = {k: v + 1 for k, v in before.items()} | {"offset": wrong}
    with pytest.raises(StateDictError, match=f"nothing was loaded: 'offset' {message}"):
        block.load_state_dict(state)
    for name, array in block.state_dict().items():
        np.testing.assert_array_equal(array, before[name], strict=True)


def test_each_missing_key_alone_is_an_error():
    block = Block()
    for name in BLOCK_STATE:
        state = block.state_dict()
        del state[name]
        with pytest.raises(StateDictError, match=f"missing key '{name}'; .*strict=False"):
            block.load_state_dict(state)


def test_not_strict_loads_what_fits_and_returns_the_rest():
    block = Block()
    keys = block.load_state_dict({"scale": np.full(3, 5, "f"), "novel": 1}, strict=False)
    assert keys == (BLOCK_STATE[1:], ["novel"]) and keys.unexpected_keys == ["novel"]
    assert block.scale.tolist() == [5, 5, 5] and block.offset.tolist() == [0.5] * 3


def test_a_state_that_cannot_be_written_changes_nothing():
    fixed = np.ones(2, "f")
    fixed.flags.writeable = False
    model = nn.Sequential({"first": nn.Linear(2, 2), "loss": nn.CrossEntropyLoss(fixed)})
    before = model.state_dict()
    with pytest.raises(StateDictError, match=r"'loss\.weight' is read-only"):
        model.load_state_dict({k: v + 1 for k, v in before.items()})
    np.testing.assert_array_equal(model[0].weight.numpy(), before["first.weight"])


# --- Sequential ---------------------------------------------------------------------------------


def test_sequential_is_a_chain_and_a_sequence():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    x = np.array([[1.0, -2.0]], "f")
    np.testing.assert_array_equal(model(x).numpy(), model[2](model[1](model[0](x))).numpy())
    assert len(model) == 3 and list(model) == [model[0], model[1], model[2]]
    assert model[-1] is model[2]
    tail = model[1:]
    assert isinstance(tail, nn.Sequential) and list(tail) == [model[1], model[2]]
    assert list(tail.state_dict()) == ["2.weight", "2.bias"]  # names stay, as in PyTorch
    assert nn.Sequential()(x) is x and list(nn.Sequential()) == []
    named = nn.Sequential({"hidden": nn.Linear(2, 2), "act": nn.ReLU()})
    assert named.hidden is named[0] and list(named.state_dict()) == ["hidden.weight", "hidden.bias"]
    assert list(named[:1].state_dict()) == ["hidden.weight", "hidden.bias"]


def test_sequential_errors():
    model = nn.Sequential(nn.ReLU())
    for i in (1, -2):
        with pytest.raises(OutOfRangeError, match=f"no module {i} among 1 modules"):
            model[i]
    for wrong in ([nn.ReLU()], nn.ReLU, None, F.relu):
        with pytest.raises(DtypeError, match=r"expected Modules, got .* at '1'"):
            nn.Sequential(nn.ReLU(), wrong)
    for name in ("forward", "training", "a.b", "", 0):
        with pytest.raises(ArgumentError, match=r"Sequential: .* as a name"):
            nn.Sequential({name: nn.ReLU()})


def test_a_parameter_or_buffer_is_not_pushed_out_unawares():
    bn = nn.BatchNorm1d(3)
    for name, value, expected in (
        ("weight", np.ones(3), "parameter: expected a Parameter or None, got ndarray"),
        ("weight", mg.tensor(np.ones(3)), "got Tensor; to change its values, use .copy_()"),
        ("running_mean", np.zeros(3), "buffer: expected a Tensor or None, got ndarray"),
    ):
        before = getattr(bn, name)
        with pytest.raises(DtypeError, match=re.escape(expected)):
            setattr(bn, name, value)
        assert getattr(bn, name) is before
    bn.weight, bn.running_mean = nn.Parameter(np.zeros(3)), mg.tensor(np.ones(3))
    assert [name for name, _ in bn.named_parameters()] == ["weight", "bias"]
    bn.bias = None
    assert [name for name, _ in bn.named_parameters()] == ["weight"]


def test_flags_and_indices_of_layers():
    with pytest.raises(DtypeError, match="Linear: bias must be True or False"):
        nn.Linear(2, 2, bias="no")
    with pytest.raises(DtypeError, match="an index is an integer or a slice"):
        nn.Sequential(nn.ReLU(), nn.ReLU())[1.5]
    with pytest.raises(DtypeError, match="tensor: requires_grad must be True or False"):
        mg.tensor([1.0], requires_grad="False")
