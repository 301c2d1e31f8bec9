"""Activation and loss modules agree with their functions, and all modules agree with PyTorch's."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.errors import MinigradError

SAME = {
    "ReLU": (nn.ReLU(), F.relu),
    "LeakyReLU": (nn.LeakyReLU(0.3), lambda x: F.leaky_relu(x, 0.3)),
    "Sigmoid": (nn.Sigmoid(), F.sigmoid),
    "Tanh": (nn.Tanh(), F.tanh),
    "GELU": (nn.GELU("tanh"), lambda x: F.gelu(x, "tanh")),
    "Softplus": (nn.Softplus(2.0), lambda x: F.softplus(x, 2.0)),
    "Softmax": (nn.Softmax(0), lambda x: F.softmax(x, 0)),
    "LogSoftmax": (nn.LogSoftmax(0), lambda x: F.log_softmax(x, 0)),
}
TARGET, LABELS, WEIGHT = np.eye(3), np.array([2, 0, 1]), np.array([1.0, 2.0, 3.0])
LOSSES = {
    "MSELoss": ({"reduction": "sum"}, F.mse_loss, TARGET),
    "NLLLoss": ({"weight": WEIGHT, "ignore_index": 1, "reduction": "none"}, F.nll_loss, LABELS),
    "CrossEntropyLoss": (
        {"weight": WEIGHT, "ignore_index": 1, "reduction": "sum", "label_smoothing": 0.1},
        F.cross_entropy,
        LABELS,
    ),
    "BCEWithLogitsLoss": (
        {"weight": WEIGHT, "pos_weight": WEIGHT[::-1], "reduction": "sum"},
        F.binary_cross_entropy_with_logits,
        TARGET,
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_activations_are_their_functions(name):
    module, function = SAME[name]
    x = mg.tensor(np.random.default_rng(2).normal(size=(3, 4)))
    y = module(x)
    np.testing.assert_array_equal(y.numpy(), function(x).numpy())
    assert not np.array_equal(y.numpy(), x.numpy()) and not module.state_dict()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_their_functions(name):
    options, function, target = LOSSES[name]
    x, cls = mg.tensor(np.random.default_rng(3).normal(size=(3, 3))), getattr(nn, name)
    y = cls(**options)(x, target)
    np.testing.assert_array_equal(y.numpy(), function(x, target, **options).numpy())
    plain = cls()(x, target)
    np.testing.assert_array_equal(plain.numpy(), function(x, target).numpy())
    assert y.shape != plain.shape or y.item() != plain.item()
    assert set(cls(**options).state_dict()) == {k for k in options if "weight" in k}
    with pytest.raises(MinigradError, match="reduction"):
        cls(reduction="average")(x, target)


# --- PyTorch ------------------------------------------------------------------------------------


def pair(torch):
    """Return one mixed model in both libraries, without their losses."""

    def build(m, tail):
        return m.Sequential(
            m.Embedding(7, 5, padding_idx=2),
            m.Flatten(),
            m.Linear(15, 12),
            m.BatchNorm1d(12),
            m.GELU(),
            m.Sequential(m.Linear(12, 9, bias=False), m.LayerNorm(9), m.Tanh(), m.Dropout(0.0)),
            m.LeakyReLU(),
            m.Sigmoid(),
            m.Softplus(),
            m.Linear(9, 4),
            tail,
        )

    return build(nn, nn.LogSoftmax(1)).double(), build(torch.nn, torch.nn.LogSoftmax(1)).double()


def test_a_mixed_model_is_pytorchs():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours, theirs = pair(torch)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for names in ("named_parameters", "named_buffers", "named_children", "named_modules"):
        assert [n for n, _ in getattr(ours, names)()] == [n for n, _ in getattr(theirs, names)()]
    state = theirs.state_dict()
    assert ours.load_state_dict(state) == ([], [])
    random = np.random.default_rng(4)
    for step in range(3):
        x, labels = random.integers(0, 7, (8, 3)), random.integers(0, 4, 8)
        if step == 2:
            ours.eval()
            theirs.eval()
        a = nn.NLLLoss()(ours(x), labels)
        b = torch.nn.NLLLoss()(theirs(torch.tensor(x)), torch.tensor(labels))
        assert a.item() == pytest.approx(b.item(), rel=1e-12)
        a.backward()
        b.backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(
            p.grad.numpy(), q.grad.numpy(), rtol=1e-10, atol=1e-12, err_msg=name
        )
    for name, array in ours.state_dict().items():
        np.testing.assert_allclose(array, theirs.state_dict()[name].numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "arguments", "attributes"),
    [
        ("Linear", (3, 2), "in_features out_features"),
        ("BatchNorm1d", (3,), "num_features eps momentum affine track_running_stats"),
        ("BatchNorm2d", (3,), "num_features eps momentum affine track_running_stats"),
        ("BatchNorm3d", (3,), "num_features eps momentum affine track_running_stats"),
        ("LayerNorm", (3,), "normalized_shape eps"),
        ("Embedding", (3, 2), "padding_idx"),
        ("Dropout", (), "p"),
        ("Flatten", (), "start_dim end_dim"),
        ("LeakyReLU", (), "negative_slope"),
        ("GELU", (), "approximate"),
        ("Softplus", (), "beta threshold"),
        ("MSELoss", (), "reduction"),
        ("NLLLoss", (), "reduction ignore_index weight"),
        ("CrossEntropyLoss", (), "reduction ignore_index label_smoothing weight"),
        ("BCEWithLogitsLoss", (), "reduction weight pos_weight"),
    ],
)
def test_defaults_are_pytorchs(name, arguments, attributes):
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(nn, name)(*arguments), getattr(torch.nn, name)(*arguments)
    for attribute in attributes.split():
        assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    shapes = {n: (tuple(p.shape), str(p.dtype)) for n, p in ours.state_dict().items()}
    expected = theirs.state_dict().items()
    assert shapes == {n: (tuple(p.shape), str(p.numpy().dtype)) for n, p in expected}
    if "Norm" in name:
        for n, p in expected:
            np.testing.assert_array_equal(ours.state_dict()[n], p.numpy())
