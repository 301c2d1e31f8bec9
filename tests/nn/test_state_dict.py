"""The state of modules is copied out and in."""

import copy

import numpy as np
import pytest
from nn_cases import BLOCK_STATE, Block

import minigrad as mg
from minigrad import nn
from minigrad.errors import StateDictError


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
