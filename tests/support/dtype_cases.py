"""Functions of arrays of any dtype, numbers for each dtype, and a check of casts."""

import operator

import numpy as np

import minigrad as mg
from minigrad import errors
from minigrad.functional import leaky_relu

DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64"),
]


BINARY = [
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.pow),
    *(mg.maximum, mg.minimum, mg.logical_and, mg.logical_or),
    *(operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge),
    lambda a, b: mg.where(a, a, b),
    lambda a, b: mg.where(b > a, b * 0.5, a),
    lambda a, b: (a + b).sum() * b,
    lambda a, b: (a * 0.5).mean() + b,
]


UNARY = [
    *(operator.neg, operator.abs, operator.invert, mg.sign, mg.square, mg.isnan, mg.logical_not),
    *(mg.exp, mg.tanh, mg.sigmoid, mg.softplus, mg.relu, mg.erf, leaky_relu),
    lambda a: mg.sqrt(mg.abs(a)),
    lambda a: mg.log(mg.abs(a) + 1),
    lambda a: mg.clip(a, -1, 1),
    lambda a: mg.clip(a, None, 2),
    lambda a: mg.clip(a, 0.5, None),
    lambda a: 2**a,
    lambda a: 0.5 - a,
    lambda a: 1 / (a + 2.5),
    *(mg.sum, mg.mean, mg.max, mg.min, mg.var, mg.argmax, mg.argmin),
    lambda a: mg.sum(a, -1),
    lambda a: mg.mean(a, -1, keepdims=True),
    lambda a: mg.max(a, -1),
    lambda a: a.sum() * 0.5 + a.mean(),
    lambda a: (a == a).sum() / 2,
    lambda a: (a > 0).mean() * 3,
    lambda a: a.mean() * a.sum(),
    lambda a: a.reshape(-1)[0] * 0.5,
    *(lambda a, dtype=dtype: a.astype(dtype) for dtype in DTYPES),
    *(lambda a, dtype=dtype: (a * 1.5).astype(dtype) + 1 for dtype in DTYPES),
]


CASTS = [
    *(lambda a, dtype=dtype: a.astype(dtype) for dtype in DTYPES),
    *(lambda a, dtype=dtype: (a + a).astype(dtype) + 1 for dtype in DTYPES if dtype != "bool"),
]


def edges():
    """Return an array of each dtype with the limits of all, and for floats NaN and infinities.

    The arrays are long enough for NumPy's vector code.
    """
    ends = [sign * 2**bits + more for bits in (0, 7, 8, 15, 16, 31, 32, 40, 62, 63, 64, 70)
            for sign in (1, -1) for more in (-1, 0, 1, 300)]  # fmt: skip
    found = []
    for dtype in DTYPES:
        if dtype.startswith("f"):
            values = [*ends, *(x + 0.5 for x in ends), 0.0, -0.0, np.inf, -np.inf, np.nan]
            found.append(np.array([float(x) for x in values], dtype))
        elif dtype == "bool":
            found.append(np.array([False, True] * 20))
        else:
            low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
            found.append(np.array([x for x in ends if low <= x <= high], dtype))
    return found


def data(rng, dtype, shape):
    """Return small numbers; negative ones wrap in unsigned integers, near the largest."""
    eighths = np.asarray(rng.integers(-24, 25, shape) / 8)
    return (eighths if np.dtype(dtype).kind == "f" else eighths.astype(np.int64)).astype(dtype)


def those_that_work(functions, *inputs):
    """Return the functions that eager minigrad accepts for these inputs."""
    works = []
    for function in functions:
        try:
            function(*inputs)
        except errors.MinigradError:
            continue
        works.append(function)
    return works


def casts_agree():
    """Check compiled casts from each dtype to each, alone and in an expression."""
    compiled = mg.compile(lambda *arrays: [cast(x) for x in arrays for cast in CASTS])
    for _ in range(2):
        found = iter(compiled(*edges()))
        for x in edges():
            for cast in CASTS:
                expected, got = cast(mg.tensor(x)), next(found)
                assert got.dtype == expected.dtype
                np.testing.assert_array_equal(got.data, expected.data, err_msg=str(x.dtype))
