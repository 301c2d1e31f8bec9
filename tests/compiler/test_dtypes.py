"""Compiled results have the dtype, the shape and the values of eager ones.

The cases are all pairs of dtypes, and arrays of any shape. Generated functions run as Python.
"""

import itertools

import numpy as np
import pytest
from dtype_cases import BINARY, DTYPES, UNARY, casts_agree, data, those_that_work

import minigrad as mg

pytestmark = pytest.mark.usefixtures("as_python")


SHAPES = [((3, 2), (3, 2)), ((3, 2), (2,)), ((3, 2), ()), ((), (3,)), ((), ()), ((3, 1), (1, 2))]
NUMBERS = [2, 0.5, True, -1, 3.0]


def agree(functions, *kinds):
    """Check that functions of arrays of these dtypes and shapes agree compiled and eagerly.

    The data are those of the trace, and others.
    """

    def made(seed):
        rng = np.random.default_rng(seed)
        return [mg.tensor(data(rng, *kind)) for kind in kinds]

    works = those_that_work(those_that_work(functions, *made(0)), *made(1))
    compiled = mg.compile(lambda *inputs: [f(*inputs) for f in works])
    for seed in (0, 0, 1):
        eager = [f(*made(seed)) for f in works]
        for i, (a, b) in enumerate(zip(compiled(*made(seed)), eager, strict=True)):
            where = f"{i}: {kinds}"
            assert (a.dtype, a.shape) == (b.dtype, b.shape), where
            unit = np.finfo(b.dtype).eps if b.dtype.kind == "f" else 0.0
            np.testing.assert_allclose(a.data, b.data, rtol=16 * unit, atol=4 * unit, err_msg=where)


@pytest.mark.sampled(7)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_of_two_agree(dtype, shapes):
    """Each elementwise function of two arrays agrees for each pair of dtypes."""
    for other in DTYPES:
        agree(BINARY, (dtype, shapes[0]), (other, shapes[1]))


@pytest.mark.sampled(7)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(3, 2), (3,), (), (1, 1)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_of_one_agree(dtype, shape):
    """Each function of one array, alone and with a Python number, agrees."""
    pairs = list(itertools.product(NUMBERS, BINARY[:15]))
    numbers = [lambda a, n=n, f=f: f(a, n) for n, f in pairs]
    numbers += [lambda a, n=n, f=f: f(n, a) for n, f in pairs]
    agree([*UNARY, *numbers], (dtype, shape))


@pytest.mark.sampled(10)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(60))
def test_expressions_agree(seed):
    """Compositions of functions agree, of arrays of any two dtypes, also without dimensions."""
    rng = np.random.default_rng(seed)
    shapes = SHAPES[rng.integers(len(SHAPES))]
    kinds = [(str(rng.choice(DTYPES)), shape) for shape in shapes]

    def one_of(some):
        return some[rng.integers(len(some))]

    def chain(a, b, steps):
        for unary, binary in steps:
            a, b = unary(a), binary(a, b)
        return a + b

    steps = [[(one_of(UNARY), one_of(BINARY)) for _ in range(2)] for _ in range(20)]
    agree([lambda a, b, some=some: chain(a, b, some) for some in steps], *kinds)


@pytest.mark.filterwarnings("ignore:compile. .* cannot be compiled")
def test_casts_agree():
    """Numbers may lie beyond what a dtype holds; no form warns, which would be an error here."""
    casts_agree()
