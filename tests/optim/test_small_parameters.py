"""SGD updates all small parameters in one call of a kernel, with the bits of separate calls."""

import ctypes

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.kernels import memory
from minigrad.kernels.threading.pool import THREADED
from minigrad.optim.sgd import WITH_MOMENTUM, WITHOUT_MOMENTUM

SHAPES = (7, 5), (), (0,), (33,), (3, 2, 4)


def made(dtype):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]
    arrays.append(np.asfortranarray(rng.standard_normal((4, 6)).astype(dtype)))
    arrays.append(rng.standard_normal(THREADED).astype(dtype))  # not small
    return [mg.tensor(a, requires_grad=True) for a in arrays]


def trained(momentum, missing):
    """Return the parameters of both dtypes after three steps."""
    params = [*made(np.float32), *made(np.float64)]
    params[5]._data, params[12]._data = (np.asfortranarray(params[i]._data) for i in (5, 12))
    opt = optim.SGD(params, lr=0.1, momentum=momentum, weight_decay=0.01, nesterov=bool(momentum))
    for turn in range(3):
        for i, p in enumerate(params):
            p.grad = None if (i, turn) in missing else mg.tensor(p.data * (turn + 1))
        opt.step()
    return [p.data for p in params]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("missing", [(), ((0, 0), (8, 1), (9, 0), (9, 1), (9, 2))])
def test_one_call_gives_the_bits_of_separate_calls(momentum, missing, monkeypatch):
    """A parameter without a gradient in a step is left out of it, and begins later."""
    together = trained(momentum, missing)
    for rule in (WITH_MOMENTUM, WITHOUT_MOMENTUM):
        monkeypatch.setattr(rule, "for_all", None)
    separate = trained(momentum, missing)
    for a, b in zip(together, separate, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_state_in_another_order_is_left_out():
    """The kernel for all reads memory in C order."""
    p = mg.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    opt = optim.SGD([p], lr=1.0, momentum=0.5)
    opt.state[p] = {"momentum_buffer": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    p.grad = mg.tensor(np.zeros((2, 3)))
    opt.step()
    np.testing.assert_array_equal(p.data, 0.5 * np.arange(6.0).reshape(2, 3))


def test_objects_are_laid_out_as_expected():
    """If they were not, each parameter would have a call of its own."""
    assert memory.READS_OBJECTS
    assert WITH_MOMENTUM.for_all is not None and WITHOUT_MOMENTUM.for_all is not None
    a = np.zeros(3)
    assert ctypes.c_void_p.from_address(id(a) + memory.HEAD).value == a.ctypes.data
