"""Indices of every kind, and a check that compiled reads and gradients are NumPy's."""

import itertools

import numpy as np

import minigrad as mg

SIZES = (4, 5, 6, 7)


KINDS = ("slice", "integer", "array", "new", "ellipsis", "mask")


WIDTH = {"new": 0, "ellipsis": 0}  # the dimensions that each stands at; 1 by default


# Three elements of each, as an array of shape (3,) has.
MASKS = {n: np.isin(np.arange(n), (0, 2, n - 1)) for n in SIZES}


PLACES = np.array([3, 0, -4])


def arrangements(ndim):
    """Yield the tuples of kinds that index an array of `ndim` dimensions."""
    for places in range(1, 5):
        for kinds in itertools.product(KINDS, repeat=places):
            taken = sum(WIDTH.get(kind, 1) for kind in kinds)
            if taken <= ndim and kinds.count("ellipsis") <= 1:
                yield kinds


def index_of(kinds, ndim, places):
    """Return the index of these kinds for an array of shape SIZES[:ndim].

    The arrays in it are `places`; the second of them gets the shape of a column.
    """
    index, axis = [], 0
    columns = itertools.cycle([(), (slice(None), None)])
    for kind in kinds:
        match kind:
            case "slice":
                index.append(slice(None, 0, -2))
            case "integer":
                index.append(-2)
            case "array":
                index.append(places[next(columns)])
            case "new":
                index.append(None)
            case "ellipsis":
                index.append(Ellipsis)
                axis += ndim - sum(WIDTH.get(other, 1) for other in kinds)
            case "mask":
                index.append(MASKS[SIZES[axis]])
        axis += WIDTH.get(kind, 1)
    return tuple(index)


def whole_numbers(seed, shape):
    """Return whole numbers, whose sums are exact."""
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float64)


def agree(ndim, cases):
    """Check x[index] for each index, and the gradient of a functional, in one function."""
    x = whole_numbers(0, SIZES[:ndim])
    expected, weights, gradients = [], [], []
    for i, kinds in enumerate(cases):
        index = index_of(kinds, ndim, PLACES)
        expected.append(x[index])
        weights.append(whole_numbers(i, expected[-1].shape))
        gradients.append(np.zeros_like(x))
        np.add.at(gradients[-1], index, weights[-1])

    @mg.compile
    def read(x, places, *weights):
        found = [x[index_of(kinds, ndim, places)] for kinds in cases]
        given = [mg.grad(y, x, w)[0] for y, w in zip(found, weights, strict=True)]
        return found, given

    for _ in range(2):
        found, given = read(mg.tensor(x, requires_grad=True), PLACES, *weights)
        for kinds, y, a, g, b in zip(cases, found, expected, given, gradients, strict=True):
            assert y.shape == a.shape, kinds
            np.testing.assert_array_equal(y.data, a, err_msg=str(kinds))
            np.testing.assert_array_equal(g.data, b, err_msg=str(kinds))
