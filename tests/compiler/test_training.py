"""Training by compiled steps agrees with training by eager ones.

The four named networks are trained for 200 steps, with both forms of BatchNorm, partial batches and
a changed lr; steps and inference also run in evaluation mode.
"""

import numba
import numpy as np
import pytest
from small_networks import network, state

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim
from minigrad.errors import OutOfRangeError

COMPILED = not numba.config.DISABLE_JIT
# As in bench/workloads.py, but for wide, whose every step would take 40 ms.
NETS = {
    "tiny": ((64, 64, 10), 32),
    "digits": ((64, 128, 64, 10), 64),
    "mnist": ((784, 256, 128, 10), 64),
    "wide": ((784, 256, 256, 10), 128),
}
STEPS = 200
if not COMPILED:  # the same, in sizes for which kernels can run as Python
    NETS = {name: ((6, 5, 4, 3)[-len(sizes) :], 8) for name, (sizes, _) in NETS.items()}
    STEPS = 40


def batches(sizes, n, count):
    """Yield noise around a centre for each class; each fifth batch is a partial one."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((sizes[-1], sizes[0]))
    for i in range(count):
        labels = rng.integers(0, sizes[-1], n - 3 if i % 5 == 4 else n)
        noise = rng.standard_normal((labels.size, sizes[0]))
        yield (centres[labels] + 3 * noise).astype(np.float32), labels


def difference(a, b):
    """Return the largest difference of two states, relative to each array's largest element."""
    assert a.keys() == b.keys()
    return max(np.abs(x - b[k]).max() / max(np.abs(x).max(), 1e-30) for k, x in a.items())


FORMS = {
    "fused": (True, nn.ReLU, np.float32),
    "composed": (False, nn.ReLU, np.float64),
    "composed, float32": (False, nn.Tanh, np.float32),
}


@pytest.mark.sampled(4, by="form")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NETS)
def test_trained_networks_agree(name, form):
    """Fused steps have the bits of eager ones, and composed ones differ by rounding alone.

    Composed sums are added in another order, so steps differ by some units in the last place, which
    training does not enlarge. With relu in float32 it would: where rounding takes a value across
    the kink, gradients differ by what that sample counts. Tanh and float64 avoid this.
    """
    sizes, n = NETS[name]
    fused, activation, dtype = FORMS[form]
    (m1, o1, eager), (m2, o2, plain) = (
        network(sizes, fused, activation, dtype=dtype, lr=0.01) for _ in range(2)
    )
    compiled, infer = mg.compile(plain), mg.compile(lambda x: m2(x))
    bound = 0.0 if fused else 32 * np.finfo(dtype).eps
    for i, (x, y) in enumerate(batches(sizes, n, STEPS)):
        x = x.astype(dtype)
        if i == STEPS // 2:
            o1.param_groups[0]["lr"] = o2.param_groups[0]["lr"] = 0.003
        for m in (m1, m2):
            m.train(i % 20 < 17)
        one, two = eager(mg.tensor(x), mg.tensor(y)).data, compiled(x, y).data
        assert abs(one - two) <= bound * max(1.0, one)
        if i % 20 == 19:
            a, b = m1(mg.tensor(x)).data, infer(x).data
            assert np.abs(a - b).max() <= bound * np.abs(a).max()
    assert difference(state(m1, o1), state(m2, o2)) <= bound  # found were up to 7 units
    assert compiled.traces == 4  # one for each size of batches and mode


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "composed"])
def test_the_mean_of_all_batches_agrees(fused):
    """With momentum=None, the weight of a batch depends on how many there were."""
    sizes, n = (6, 5, 4), 8
    m1, _, eager = network(sizes, fused, average=None, lr=0.01)
    m2, _, plain = network(sizes, fused, average=None, lr=0.01)
    compiled = mg.compile(plain)
    for i, (x, y) in enumerate(batches(sizes, n, 12)):
        if i == 8:
            for m in (m1, m2):
                m[1].reset_running_stats()
        eager(mg.tensor(x), mg.tensor(y))
        (plain if i == 5 else compiled)(x, y)
    assert difference(m1.state_dict(), m2.state_dict()) <= (0.0 if fused else 4e-6)
    assert compiled.traces == 2  # one for each size of batches


@pytest.mark.exhaustive
def test_a_network_of_many_parts_agrees():
    """Numba compiles embedding, attention, dropout and indices, as Python in test_ops.py."""

    def make_one():
        mg.manual_seed(1)
        table, norm, drop = nn.Embedding(7, 4), nn.LayerNorm(4), nn.Dropout(0.25)
        inner, out = nn.Linear(4, 4), nn.Linear(8, 5)
        model = nn.Sequential(table, norm, drop, inner, out)
        opt = optim.SGD(model.parameters(), lr=0.1)
        weight = np.linspace(0.5, 1.5, 5).astype(np.float32)

        def step(words, labels):
            opt.zero_grad()
            x = drop(norm(table(words)))
            seen = F.softmax(x @ inner(x).transpose(1, 2)) @ x
            both = mg.concat([seen.max(1), x[:, 0]], 1)
            loss = F.cross_entropy(out(both), labels, weight, label_smoothing=0.1)
            loss.backward()
            opt.step()
            return loss, (mg.argmax(out(both), 1) == labels).sum()

        return model, opt, step

    (m1, o1, eager), (m2, o2, plain) = make_one(), make_one()
    compiled = mg.compile(plain)
    rng = np.random.default_rng(0)
    data = [(rng.integers(0, 7, (6, 3)), rng.integers(0, 5, 6)) for _ in range(10)]
    found = []
    for run in (eager, compiled):
        mg.manual_seed(2)
        found.append([[r.item() for r in run(mg.tensor(w), mg.tensor(y))] for w, y in data])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    assert difference(state(m1, o1), state(m2, o2)) <= 1e-5
    assert "outside compiled code: nothing" in compiled.report()
    with pytest.raises(OutOfRangeError, match=r"embedding: indices must lie in 0\.\.6, got 7 at"):
        compiled(np.full((6, 3), 7), data[0][1])
