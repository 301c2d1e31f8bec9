"""A compiled model is a Module that looks and behaves as the model itself."""

import copy
import pickle

import numpy as np
import pytest
from small_networks import batches, network, same

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim

pytestmark = pytest.mark.usefixtures("as_python")


def compiled_network(**options):
    """Return a model in float64, and the same model compiled."""
    model = network(dtype=np.float64, **options)[0]
    return model, mg.compile(model)


def x_of(seed=1, n=8):
    """Return a batch of samples for the network."""
    return batches(1, n=n, dtype=np.float64, seed=seed)[0][0]


def test_parameters_and_state_are_the_models():
    """Names are those of the model, and the objects are the model's own."""
    model, compiled = compiled_network()
    assert isinstance(compiled, nn.Module)
    for method in ("named_parameters", "named_buffers", "named_modules", "named_children"):
        ours, theirs = (list(getattr(m, method)()) for m in (compiled, model))
        assert [name for name, _ in ours] == [name for name, _ in theirs], method
        assert all(a is b for (_, a), (_, b) in zip(ours, theirs, strict=True)), method
    assert next(compiled.parameters()) is model[0].weight
    same(compiled.state_dict(), model.state_dict())
    other, _ = compiled_network(seed=7)
    compiled.load_state_dict(other.state_dict())
    same(model.state_dict(), other.state_dict())


def test_modes_and_dtypes_are_the_models():
    """train, eval, to, zero_grad and requires_grad_ act on the model; they return the wrapper."""
    model, compiled = compiled_network()
    assert compiled.training
    assert compiled.eval() is compiled
    assert not compiled.training
    assert not model[1].training
    assert compiled.train() is compiled
    assert model.training
    assert compiled.float() is compiled
    assert model[0].weight.dtype == np.float32
    compiled.double()
    compiled(x_of()).sum().backward()
    assert model[0].weight.grad is not None
    compiled.zero_grad()
    assert model[0].weight.grad is None
    compiled.requires_grad_(False)
    assert not model[3].bias.requires_grad


def test_attributes_and_items_are_the_models():
    """Attributes, also new ones, items, length and iteration pass through."""
    model, compiled = compiled_network()
    assert len(compiled) == 4
    assert compiled[0] is model[0]
    assert list(compiled) == list(model)
    assert model[1] in compiled
    compiled.note = "here"
    assert model.note == "here"
    compiled.register_buffer("extra", mg.tensor([1.0]))
    assert "extra" in model.state_dict()
    del compiled.note
    assert not hasattr(compiled, "note")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        compiled.nothing  # noqa: B018
    layer = mg.compile(nn.Linear(3, 2))
    assert layer
    assert layer.in_features == 3
    with pytest.raises(TypeError, match="len"):
        len(layer)


class Net(nn.Module):
    """A network with a method of its own, and two calls of one layer."""

    source = "of the model"

    def __init__(self):
        self.body = nn.Linear(6, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x, *, scale=1.0):
        return self.head(self.body(self.body(x)).tanh()) * scale

    def predict(self, x):
        return self.forward(x).argmax(axis=1)

    def train(self, mode=True):
        self.calls = getattr(self, "calls", 0) + 1
        return super().train(mode)


def test_models_of_the_users_own_class():
    """Methods, keyword arguments and overridden methods are those of the user's class."""
    mg.manual_seed(0)
    model = Net().double()
    compiled = mg.compile(model)
    x = x_of()
    for scale in (1.0, 2.0):
        y = compiled(x, scale=scale)
        np.testing.assert_allclose(y.data, model(mg.tensor(x), scale=scale).data, rtol=1e-12)
    np.testing.assert_array_equal(compiled.predict(x).data, y.data.argmax(axis=1))
    compiled.eval()
    assert model.calls == 1
    assert compiled.source == "of the model"
    assert compiled.traces == 2


def test_text_is_the_models_with_a_mark():
    """repr shows the model, and that it is compiled, also inside another one."""
    model, compiled = compiled_network()
    assert repr(compiled) == "compiled " + repr(model)
    outer = nn.Sequential(compiled)
    inner = repr(compiled).replace("\n", "\n  ")
    assert repr(outer) == f"Sequential(\n  (0): {inner}\n)"


def test_a_compiled_model_is_a_part_of_others():
    """Inside a Sequential, it has the names, modes and gradients that the model has."""
    model, compiled = compiled_network()
    other = copy.deepcopy(model)
    mg.manual_seed(5)
    head = nn.Linear(4, 2).double()
    plain, outer = nn.Sequential(other, head), nn.Sequential(compiled, copy.deepcopy(head))
    assert list(outer.state_dict()) == list(plain.state_dict())
    x = x_of()
    for training in (True, False):
        for net in (plain, outer):
            net.train(training)
            net.zero_grad()
            net(mg.tensor(x)).sum().backward()
        assert model[1].training == training
        for p, q in zip(plain.parameters(), outer.parameters(), strict=True):
            np.testing.assert_allclose(q.grad.data, p.grad.data, rtol=1e-10, atol=1e-13)
    assert compiled.traces == 2


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compile_anew(again):
    """A copy has parameters of its own, gives the same results, and learns by itself."""
    model, compiled = compiled_network()
    x = x_of()
    y = compiled(x)
    twin = again(compiled)
    assert type(twin) is type(compiled)
    assert twin[0].weight is not model[0].weight
    assert twin.traces == 0
    np.testing.assert_allclose(twin(x).data, y.data, rtol=1e-12)
    twin(x).sum().backward()
    assert twin[0].weight.grad is not None
    assert model[0].weight.grad is None


def test_a_compiled_model_compiles_to_itself():
    """compile keeps a compiled model, unless it gets another option; check= reaches the calls."""
    model, compiled = compiled_network()
    assert mg.compile(compiled) is compiled
    checked = mg.compile(compiled, check=1)
    assert checked is not compiled
    assert checked[0] is model[0]
    model.forward = lambda x: x * float(np.random.default_rng().random())  # frozen in the trace
    with pytest.raises(mg.errors.TraceError, match="check"):
        for _ in range(3):
            checked(x_of())


def test_what_the_compiler_has_made_is_at_hand():
    """report, source, path, program and traces tell about the latest call."""
    _, compiled = compiled_network()
    with pytest.raises(mg.errors.TraceError, match="call Sequential first"):
        compiled.report()
    compiled(x_of())
    assert "operations traced" in compiled.report()
    assert "def step(" in compiled.source
    assert "batch_norm" in compiled.program
    assert compiled.path is None or compiled.path.exists()
    assert compiled.traces == 1


def test_a_compiled_step_traces_through_a_compiled_model():
    """A step that calls a compiled model is one function, and the model has no traces."""
    (one, _), (two, compiled) = compiled_network(), compiled_network()

    def trainer(model):
        opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x, y):
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            return loss

        return step

    plain, step = trainer(one), mg.compile(trainer(compiled))
    for x, y in batches(3, dtype=np.float64):
        expected = plain(mg.tensor(x), mg.tensor(y))
        np.testing.assert_allclose(step(x, y).item(), expected.item(), rtol=1e-10)
    for name, a in one.state_dict().items():
        np.testing.assert_allclose(two.state_dict()[name], a, rtol=1e-9, atol=1e-12)
    assert compiled.traces == 0
    compiled.eval()
    step(x, y)
    assert step.traces == 2


def test_a_bound_method_of_a_model_compiles():
    """mg.compile(model.forward) is a function, whose results are on the tape as well."""
    model, compiled = compiled_network()
    forward = mg.compile(model.forward)
    model.eval()
    x = x_of()
    np.testing.assert_allclose(forward(x).data, compiled(x).data, rtol=1e-12)
    forward(x).sum().backward()
    assert model[0].weight.grad is not None


def train(model, forward, x, y, epochs=3, clip=1.0):
    """Train with a loop of one's own: batches, two losses, clipping and a log; return the log."""
    opt = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    log = []
    for _ in range(epochs):
        for a, b in mg.data.DataLoader(x, y, batch_size=50, seed=0):
            opt.zero_grad()
            logits = forward(a)
            loss = F.cross_entropy(logits, b) + 1e-3 * (logits * logits).mean()
            loss.backward()
            norm = sum(float((p.grad.data**2).sum()) for p in model.parameters()) ** 0.5
            if norm > clip:
                for p in model.parameters():
                    p.grad = p.grad * (clip / norm)
            opt.step()
            log.append(loss.item())
    return log


def test_a_loop_over_digits_trains_as_the_eager_one():
    """Losses, parameters and predictions of an ordinary loop agree; the last batch is smaller."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x, y = digits.data[:430] / 16.0, digits.target[:430]
    runs = []
    for compile in (lambda m: m, mg.compile):
        model = network(sizes=(64, 32, 10), dtype=np.float64)[0]
        forward = compile(model)
        log = train(forward, forward, x, y)
        forward.eval()
        with mg.no_grad():
            runs.append((log, model.state_dict(), forward(x).data))
    np.testing.assert_allclose(runs[1][0], runs[0][0], rtol=1e-9)
    same(runs[1][1], runs[0][1], 1e-8)
    np.testing.assert_allclose(runs[1][2], runs[0][2], rtol=1e-7, atol=1e-9)
    assert runs[0][0][-1] < 0.5 * runs[0][0][0]
    assert forward.traces == 3  # two sizes of batches, and the evaluation
