"""Modules know their parameters, buffers and children, and form chains."""

import re

import numpy as np
import pytest
from nn_cases import BLOCK_PARAMETERS, BLOCK_STATE, Block

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.errors import ArgumentError, DtypeError, OutOfRangeError

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
    names = [f"{i}.{name}" for i in (0, 2) for name in shared.state_dict()]
    assert [*model.state_dict()] == names and len(model) == 3
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
    alone = Block()
    assert len(list(parent.modules())) == 2 * len(list(alone.modules()))
    assert len(list(parent.parameters())) == 2 * len(list(alone.parameters()))
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


def test_a_buffer_that_is_deleted_is_gone() -> None:
    """It has gone from state_dict and from everything that lists a module's content."""
    layer = nn.BatchNorm1d(2)
    del layer.running_mean
    assert list(layer.state_dict()) == ["weight", "bias", "running_var", "num_batches_tracked"]
    x = mg.tensor([1.0], requires_grad=True)
    assert mg.explain(x * x).modules() == []
    assert "running_mean" in nn.BatchNorm1d(2).state_dict()
    layer.register_buffer("running_mean", mg.tensor([0.0, 0.0]))
    assert list(layer.state_dict())[-1] == "running_mean"
