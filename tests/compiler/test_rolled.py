"""Long programs, such as unrolled loops, run as a table of stages that share functions.

Their results agree with eager ones. Generated functions run as Python here but for one test.
"""

import copy
import re

import numpy as np
import pytest
import random_programs
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim
from minigrad.compiler.codegen import fusion, rolled
from minigrad.compiler.codegen import module as emit
from minigrad.compiler.runtime import backend
from minigrad.errors import OutOfRangeError

pytestmark = pytest.mark.usefixtures("as_python")

REAL = backend.function
FEATURES, HIDDEN, CLASSES = 3, 4, 5


@pytest.fixture
def short(monkeypatch):
    """Let the form of long programs serve for all, and cut nests early."""
    monkeypatch.setattr(emit, "LONG", 0)
    monkeypatch.setattr(fusion, "MOST_OPERATIONS", 3)


def make(turns, every=False, between=lambda h, t: h):
    """Return parameters of a recurrent network, a training step, and a maker of batches.

    every: whether there is a loss at each turn, not only at the last.
    """
    rng = np.random.default_rng(0)
    shapes = (FEATURES, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES)
    parameters = [nn.Parameter(mg.tensor(rng.standard_normal(s) * 0.5)) for s in shapes]
    w, u, b, v = parameters
    optimizer = optim.SGD(parameters, lr=0.1, momentum=0.9)

    def step(x, labels):
        h, loss = x[:, 0] @ w, 0.0
        for t in range(turns):
            h = between(mg.tanh(x[:, t] @ w + h @ u + b), t)
            if every or t == turns - 1:
                loss = F.cross_entropy(h @ v, labels[:, t]) + loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    def batch(seed, n=2):
        rng = np.random.default_rng(seed)
        return rng.standard_normal((n, turns, FEATURES)), rng.integers(0, CLASSES, (n, turns))

    return parameters, step, batch


def agree(turns, count=3, title="step", **options):
    """Train compiled and eagerly, and return the compiled step."""
    (ours, step, batch), (theirs, eager, _) = make(turns, **options), make(turns, **options)
    step.__name__ = title
    compiled = mg.compile(step)
    for seed in range(count):
        given = batch(seed)
        loss, expected = compiled(*given), eager(*map(mg.tensor, given))
        np.testing.assert_allclose(loss.data, expected.data, rtol=1e-12)
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.grad.data, q.grad.data, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(p.data, q.data, rtol=1e-10, atol=1e-12)
    return compiled


def functions(source):
    """Return the number of functions in the source."""
    return len(re.findall(r"^def ", source, re.MULTILINE))


@pytest.mark.parametrize(("turns", "is_rolled"), [(3, False), (30, True)])
def test_unrolled_loops_agree(turns, is_rolled, executables):
    compiled = agree(turns)
    (executable,) = executables
    assert (len(executable.emitted.groups) > rolled.LONG) == is_rolled
    assert ("(at, " in compiled.source) == is_rolled


@pytest.mark.usefixtures("short")
def test_a_short_loop_may_have_the_long_form():
    assert "(at, " in agree(3, every=True).source


@pytest.mark.exhaustive
def test_an_unrolled_loop_in_machine_code(monkeypatch):
    monkeypatch.setattr(backend, "function", REAL)
    compiled = agree(30, title="machine", every=True)  # what has run so cannot run as Python
    assert "(at, " in compiled.source


@settings(max_examples=60)
@given(
    random_programs.STEPS,
    st.tuples(*[st.sampled_from(random_programs.SHAPES)] * 2),
    st.integers(0, 3),
)
@pytest.mark.usefixtures("short")
def test_random_programs_agree(steps, shapes, seed):
    random_programs.compiled_is_eager(steps, shapes, seed)


def test_code_does_not_grow_with_the_number_of_turns():
    """The sum of gradients reads three at a time; both numbers of turns leave the same rest."""
    counts = [functions(agree(turns, count=2).source) for turns in (50, 200)]
    assert counts[0] == counts[1]


def test_nests_do_not_grow_with_the_number_of_turns(executables):
    """A loop of elements alone, which would be one nest, is cut into nests that are alike."""

    def compiled(turns):
        def step(x, b):
            v = x
            for _ in range(turns):
                v = v + 0.1 * (b - v * v)
            return v, mg.grad(v.sum(), b)[0]

        made = mg.compile(step)
        rng = np.random.default_rng(0)
        for _ in range(2):
            x, b = rng.uniform(0, 1, (3, 4)), mg.tensor(rng.uniform(0.5, 1, 4)).requires_grad_()
            for got, expected in zip(made(x, b), step(mg.tensor(x), b), strict=True):
                np.testing.assert_allclose(got.data, expected.data, rtol=1e-12, atol=1e-13)
        return made

    first, second = compiled(120), compiled(200)
    assert functions(first.source) == functions(second.source)
    longest = max(len(stage.operations) for stage in executables[-1].emitted.groups)
    assert longest < 100  # of about 2,000 operations


@pytest.mark.filterwarnings("ignore:compile. .* cannot be compiled")
def test_an_operation_of_numpy_splits_the_program(executables):
    """It splits the program into parts, which share functions."""
    compiled = agree(30, between=lambda h, t: h[True][0] if t in (10, 20) else h)
    (executable,) = executables
    steps = [step.name for step in executable.emitted.steps]
    assert steps == ["part_1", "getitem", "part_2", "getitem", "part_3", "scatter", "part_4"] + [
        *("scatter", "part_5")
    ]
    parts = [name for name in steps if name.startswith("part_")]
    assert compiled.source.count("in range(sizes[") == len(parts)


@pytest.mark.parametrize("turn", [0, 13, 29])
def test_a_label_out_of_range_changes_nothing(turn):
    """The error is that of the turn, as eager, and nothing has changed."""
    parameters, step, batch = make(30, every=True)
    compiled = mg.compile(step)
    compiled(*batch(0))
    compiled(*batch(1))
    before = [copy.deepcopy(p.data) for p in parameters]
    x, labels = batch(2)
    labels[1, turn] = CLASSES + turn
    with pytest.raises(OutOfRangeError, match=str(CLASSES + turn)):
        compiled(x, labels)
    for p, kept in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(p.data, kept)


def test_an_epoch_is_a_loop_of_calls(executables):
    (ours, step, batch), (theirs, other, _) = make(30, every=True), make(30, every=True)
    x, labels = batch(0, n=12)
    compiled, called = mg.compile(step), mg.compile(other)
    losses = compiled.epoch(x, labels, batch_size=2, seed=3)
    assert executables[0].emitted.epoch
    loader = mg.data.DataLoader(x, labels, batch_size=2, seed=3)
    expected = [called(*given).data.item() for given in loader]
    np.testing.assert_array_equal(losses.data, expected)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_another_batch_size_has_the_same_code(executables):
    _, step, batch = make(30, every=True)
    compiled = mg.compile(step)
    compiled(*batch(0, n=2))
    compiled(*batch(0, n=7))
    first, second = executables
    assert first.module is second.module


def test_arguments_are_found_anew_in_each_call(executables):
    """A table has their addresses, also those of arrays other than in the last call."""
    _, step, batch = make(30)
    compiled = mg.compile(step)
    x, labels = batch(0)
    compiled(x, labels)
    ((places,),) = [[each.memory.places] for each in executables]
    for seed in range(3):
        given = batch(seed)
        probe = places.copy()
        compiled(*given)
        assert (places != probe).any()


def test_long_chains_of_views_compile():
    """Generated code finds a chain of views without recursion, from the array of all."""

    def step(x):
        v = x * 2.0
        for _ in range(700):
            v = v.reshape(4, 3).reshape(3, 4)
        return v + 1.0

    compiled = mg.compile(step)
    x = np.arange(12.0).reshape(3, 4)
    compiled(x)
    np.testing.assert_array_equal(compiled(-x).data, 1.0 - 2.0 * x)
