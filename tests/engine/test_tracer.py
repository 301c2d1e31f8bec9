"""A tracer applies the primitives of its thread, and may replace the arrays of Tensors."""

import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad.engine.tracer import Tracer, tracer, tracing


class Names(Tracer):
    """A Names keeps the names of the primitives that are applied, and computes as usual."""

    runs_again = False

    def __init__(self):
        self.names = []

    def apply(self, primitive, inputs, attributes):
        self.names.append(primitive.name)
        with tracing(None):
            return primitive(*inputs, **attributes)


def test_a_tracer_applies_the_primitives_of_its_thread_alone():
    x, found = mg.tensor([1.0, 2.0]), []
    other = threading.Thread(target=lambda: found.append((x.exp() + 1.0).tolist()))
    with tracing(names := Names()):
        y = (x * x).sum()
        other.start()
        other.join()
    assert names.names == ["mul", "sum"] and y.item() == 5.0
    assert found == [(np.exp(np.float32([1, 2])) + 1).tolist()]
    (x * x).sum()
    assert len(names.names) == 2


def test_tracers_nest_and_are_set_back_after_an_error():
    x, outer, inner = mg.tensor([1.0]), Names(), Names()
    with tracing(outer):
        with pytest.raises(ZeroDivisionError), tracing(inner):
            x.exp()
            raise ZeroDivisionError
        x.log()
    assert (inner.names, outer.names, tracer.get()) == (["exp"], ["log"], None)


def test_another_thread_computes_with_the_tensors_that_a_step_is_traced_with():
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    found = []

    def elsewhere():
        (w * w).sum().backward()
        found.append((w.numpy().tolist(), w.detach().tolist(), w.grad.tolist()))
        w.grad = None

    def step(x):
        y = x * w
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return y.sum()

    assert mg.compile(step)(np.float32([3.0, 4.0])).item() == 11.0
    assert found == [([1.0, 2.0], [1.0, 2.0], [2.0, 4.0])]


@pytest.mark.parametrize(
    "read",
    [
        lambda q: q.detach() * 1.0,
        lambda q: mg.tensor(q) * 1.0,
        lambda q: mg.tensor([0.0, 0.0]).copy_(q) * 1.0,
        lambda q: mg.tensor([0.0, 0.0]).copy_(q.detach()[:]) * 1.0,
    ],
)
def test_an_array_that_was_put_into_a_tensor_from_outside_is_read_in_the_next_call(read):
    q = mg.tensor([1.0, 2.0])
    step = mg.compile(lambda: read(q))
    assert step().tolist() == [1.0, 2.0]
    q.data = np.float32([3.0, 4.0])
    assert step().tolist() == [3.0, 4.0]
