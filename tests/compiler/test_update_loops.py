"""One loop updates all parameters of an optimizer, and keeps the order of reads and changes."""

import numpy as np
import pytest
from adam import Adam

import minigrad as mg
from minigrad import optim

SHAPES = [(3,), (4, 3), (), (2, 3, 3), (70_000,)]  # the last one is shared by threads
CALLS = {optim.SGD: "sgd_momentum(", Adam: "adam("}


def parameters(dtypes=(np.float32,)):
    """Return leaves of all shapes, in these dtypes in turn."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in SHAPES]
    return [
        mg.tensor(np.asarray(a, dtypes[i % len(dtypes)]), requires_grad=True)
        for i, a in enumerate(arrays)
    ]


def same_bits(step_of, steps=3):
    """Compare eager steps with compiled ones, and return the compiled step.

    step_of: a function that returns a step without arguments, and the Tensors that it changes.
    """
    (eager, expected), (plain, found) = step_of(), step_of()
    compiled = mg.compile(plain)
    for _ in range(steps):
        one, two = eager(), compiled()
        np.testing.assert_array_equal(one.data, two.data)
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    return compiled


def calls(compiled, kind):
    return compiled.source.count(CALLS[kind]) - compiled.source.count(f"def {CALLS[kind]}")


@pytest.mark.parametrize("kind", [optim.SGD, Adam])
@pytest.mark.parametrize(
    "dtypes", [[np.float32], [np.float64], [np.float32, np.float64]], ids=["f", "d", "fd"]
)
def test_one_loop_updates_parameters_of_all_shapes_and_groups(kind, dtypes):
    def step_of():
        ps = parameters(dtypes)
        groups = [{"params": ps[:2]}, {"params": ps[2:], "lr": 0.2}]
        opt = kind(groups, lr=0.1, **({"momentum": 0.9} if kind is optim.SGD else {}))

        def step():
            opt.zero_grad()
            loss = sum((p * p * (i + 1)).sum().astype("float64") for i, p in enumerate(ps))
            loss.backward()
            opt.step()
            return loss

        return step, ps

    # Adam's kernel takes arrays in their own shapes: those of one dimension share a loop.
    assert calls(same_bits(step_of), kind) == (len(dtypes) if kind is optim.SGD else 4)


def test_an_update_waits_for_what_reads_the_parameter():
    """The first update could run the second one in its loop, but w2 is read in between."""

    def step_of():
        w1, w2 = (mg.tensor(np.arange(1.0, 4.0), requires_grad=True) for _ in range(2))
        first, second = (optim.SGD([w], lr=0.5, momentum=0.9) for w in (w1, w2))

        def step():
            first.zero_grad()
            second.zero_grad()
            (w1 * w1 + w2 * w2).sum().backward()
            first.step()
            with mg.no_grad():
                both = w1 @ w1 + w2 @ w2  # the new w1 and the old w2
            second.step()
            return both

        return step, [w1, w2]

    same_bits(step_of)


def test_two_steps_of_one_optimizer_are_two_loops():
    def step_of():
        ps = parameters()[:3]
        opt = optim.SGD(ps, lr=0.1, momentum=0.9)

        def step():
            opt.zero_grad()
            loss = sum((p * p).sum() for p in ps)
            loss.backward()
            opt.step()
            opt.step()
            return loss

        return step, ps

    assert calls(same_bits(step_of), optim.SGD) == 2


def test_a_gradient_that_is_no_whole_array_has_a_call_of_its_own():
    """The table has no address for a row of an array, nor for an argument."""
    rows = np.arange(6.0).reshape(2, 3)

    def step_of():
        ps = [mg.tensor(np.zeros(3), requires_grad=True) for _ in range(5)]
        opt = optim.SGD(ps, lr=0.5, momentum=0.9)

        def step(x, y):
            both = x * 2.0
            ps[0].grad, ps[1].grad = both[0], both[1]
            ps[2].grad, ps[3].grad = mg.reshape(x + 1.0, (6,))[:3], mg.exp(ps[3])
            ps[4].grad = y
            opt.step()
            return ps[0] + 0.0

        return step, ps

    (eager, expected), (plain, found) = step_of(), step_of()
    compiled = mg.compile(plain)
    for turn in range(3):
        x, y = rows + turn, rows[1] - turn
        eager(mg.tensor(x), mg.tensor(y))
        compiled(x, y)
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    assert calls(compiled, optim.SGD) == 4  # the loop has the two others


def test_a_long_program_has_the_loop_too():
    def step_of():
        ps = parameters()[:4]
        opt = optim.SGD(ps, lr=0.1, momentum=0.9)
        one = mg.tensor(np.eye(3, dtype=np.float32))

        def step():
            opt.zero_grad()
            x = ps[1]
            for _ in range(70):
                x = x @ one
            loss = x.sum() + sum((p * p).sum() for p in ps)
            loss.backward()
            opt.step()
            return loss

        return step, ps

    compiled = same_bits(step_of)
    assert calls(compiled, optim.SGD) == 1
    assert "which" in compiled.source  # groups are chosen by number
