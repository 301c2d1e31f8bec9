"""Inputs, attributes and an oracle for every primitive in `minigrad.ops.TABLE`.

The oracles use NumPy and SciPy alone; if a primitive is one call of NumPy, its oracle is another.
Inputs lie away from kinks and ties, which kinks.py has, so that finite differences hold.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from case_oracles import (
    BETA,
    GAMMA,
    np_batch_norm,
    np_batch_norm_grad,
    np_binary_cross_entropy,
    np_cross_entropy,
    np_cross_entropy_grad,
    np_label_cross_entropy,
    np_label_cross_entropy_grad,
    np_linear,
    np_linear_grad,
    np_matmul,
    np_scatter,
    np_ties,
    np_var,
)
from scipy import special

import minigrad as mg
from minigrad import functional as F
from minigrad import ops
from minigrad.ops.shapes import normalize_axes

T = ops.TABLE


class Case(NamedTuple):
    """A Case says that call(*inputs, **attributes) on Tensors equals the oracle's result.

    Arrays of float64 among the inputs are differentiated; all other inputs are constant.
    """

    call: Callable[..., Any]
    oracle: Callable[..., Any]
    inputs: tuple[Any, ...]
    attributes: dict[str, Any]
    flat: bool = False  # the gradient is zero everywhere
    differences: bool = True  # finite differences apply


def case(call: Any, oracle: Any, *inputs: Any, flat: bool = False, **attributes: Any) -> Case:
    """Return a Case, with its inputs and attributes written as in the call."""
    return Case(call, oracle, inputs, attributes, flat)


def real(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> np.ndarray:
    """Return distinct numbers in random order, none of them 0 or a number of another seed."""
    n = int(np.prod(shape))
    values = (np.linspace(low, high, n) if n > 1 else np.full(n, 0.6 * high)) + 0.0137
    values += 0.00713 * seed
    return np.random.default_rng([n, seed]).permutation(values).reshape(shape)


RUNNING = np.array([0.5, -0.2, 0.1]), np.array([0.8, 1.5, 0.3])
BATCH_NORMS: list[tuple[tuple[int, ...], Any, Any, bool]] = [
    ((4, 3), (GAMMA, BETA), None, False),
    ((4, 3), (None, BETA), None, True),
    ((3, 3, 2), (GAMMA, BETA), None, True),
    ((2, 3, 2, 2), (GAMMA, BETA), None, False),
    ((4, 3), (GAMMA, BETA), RUNNING, True),
    ((2, 3, 2, 2), (None, None), RUNNING, False),
]
LABELS = [np.array([2, 0, 1, 0]), np.array([2, 2, 0, 2])]  # class 1 is ignored
SHAPES = [(2, 3), (), (1,), (3, 0), (2, 1, 3)]
PAIRS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((3,), (2, 3)),
    ((2, 1), (1, 3)),
    ((), (2,)),
    ((3, 1, 2), (2, 1)),
    ((1,), ()),
    ((0, 3), (0, 1)),
]
CHOICE = np.array([[True, False, True], [False, False, True]])
MIXED = np.float32([[0.5, 0.0, -2.0], [3.0, 0.0, -1.0]])


def unary(call: Any, oracle: Any, flat: bool = False, **limits: float) -> list[Case]:
    """Return the cases of an elementwise function of one array."""
    return [case(call, oracle, real(*s, **limits), flat=flat and 0 not in s) for s in SHAPES]


def binary(call: Any, symbol: Any, oracle: Any, **limits: float) -> list[Case]:
    """Return cases of broadcasting, of numbers on either side, and of a constant array."""
    x = real(2, 3, **limits)
    numbers = [case(symbol, oracle, x, n) for n in (2, 0.5, True)]
    numbers += [case(symbol, oracle, n, x) for n in (2, 1.5)]
    integers = case(symbol, oracle, x, np.array([1, 2, 3]))
    pairs = [case(call, oracle, real(*s, **limits), real(*t, seed=1, **limits)) for s, t in PAIRS]
    return [*pairs, *numbers, integers]


def compared(call: Any, symbol: Any, oracle: Any) -> list[Case]:
    """Return cases of a comparison, with equal elements, NaN and infinity."""
    a, b = np.array([[1.0, 2.0, np.nan], [0.0, -1.0, np.inf]]), np.array([1.0, -1.0, np.inf])
    pairs = [case(call, oracle, *p) for p in ((a, b), (b, a), (a, a), (a[:, :1], b), (a, a[0, 0]))]
    integers = case(call, oracle, np.array([1, 2]), np.array([2, 2]))
    return [*pairs, integers, *(case(symbol, oracle, *p) for p in ((a, 1), (1.0, a), (b, True)))]


def mean_square(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Apply the primitive, which takes normalised axes only."""
    axes = normalize_axes("mean_square", np.ndim(x), axis)
    return ops.mean_square(x, axis=axes, keepdims=keepdims)


def reduced(call: Any, oracle: Any, **attributes: Any) -> list[Case]:
    """Return cases of a reduction over all kinds of axes; the oracle takes NumPy's arguments."""
    x = real(2, 3, 4)
    axes: list[Any] = [None, 0, 1, -1, (0, 1), (0, 2), (-1, 0), (1, 2), (0, 1, 2), [2]]
    return (
        [
            case(call, oracle, x, axis=axis, keepdims=keepdims, **attributes)
            for axis in axes
            for keepdims in (False, True)
        ]
        + [
            case(call, oracle, real(*shape), axis=axis, **attributes)
            for shape in ((3, 1), (1, 3), (2, 1, 3), (2, 3, 1))
            for axis in (0, 1, -1)
            if shape[axis] > 1 or call is not mg.var  # its gradient is then 0
        ]
        + [case(call, oracle, real(3), **attributes), case(call, oracle, real(), **attributes)]
    )


def with_tuple(function: Any) -> Any:
    """Return NumPy's reduction `function`, which then takes a list of axes as well."""
    return lambda a, axis=None, **rest: function(
        a, axis=tuple(axis) if isinstance(axis, list) else axis, **rest
    )


def batch_norm(x: Any, gamma: Any, beta: Any, statistics: Any, **how: Any) -> Any:
    """Return the primitive's first output."""
    return T["batch_norm"](x, gamma, beta, *(statistics or (None, None)), **how)[0]


def batch_norm_grad(g: Any, x: Any, gamma: Any, statistics: Any, relu: bool, eps: float) -> Any:
    """Return dx by the primitive, which also takes the residuals of batch_norm."""
    how = {"eps": eps, "relu": relu}
    with mg.no_grad():
        _, (stats, gate) = T["batch_norm"](x, gamma, BETA, *(statistics or (None, None)), **how)
    given = gate, stats, *(statistics or ())
    how = {"batch": statistics is None, "wanted": (True, True, True), "eps": eps}
    return T["batch_norm_grad"](g, x, gamma, *given, **how)[0]


def linear_grad(g: Any, x: Any, w: Any, which: int) -> Any:
    """Return one of the primitive's outputs."""
    return T["linear_grad"](g, x, w, wanted=(True, True, True))[which]


def label_cross_entropy_grad(g: Any, a: Any, labels: Any, **how: Any) -> Any:
    """Apply the primitive, which also takes the softmax."""
    return T["label_cross_entropy_grad"](g, a, labels, F.softmax(a.detach(), 1), **how)


def indexed(x: Any, index: Any) -> Any:
    """Return x[index], of a Tensor or an array."""
    return x[index]


def scatter(g: Any, index: Any, shape: Any) -> Any:
    """Apply the primitive, which takes the arrays of an index as inputs."""
    arrays = [i for i in index if isinstance(i, np.ndarray)]
    places = tuple("array" if isinstance(i, np.ndarray) else i for i in index)
    return T["scatter"](g, *arrays, index=places, shape=shape)


def permuted(x: Any, axes: Any) -> Any:
    """Return x with its axes permuted, by np.moveaxis."""
    return np.moveaxis(x, [i % x.ndim for i in axes], range(x.ndim))


MASK = np.array([True, False, True])
INDICES: list[Any] = [
    0, -1, np.int64(1), (), Ellipsis, None, True, slice(1, 3), slice(None, None, -1),
    slice(2, 0, -2), slice(5, 9), (slice(None), 1), (0, Ellipsis), (None, Ellipsis, 0), (1, 2, 3),
    (slice(None), None, 1), [0, 2, 2], [-1, 0], [], np.array(2), np.array([[0, 1], [2, -1]]),
    np.array([2, 2, 1], np.uint8), ([0, 1, 0], [1, 2, 1]), (slice(None), [0, 0, 1]),
    ([0, 1], slice(None), [3, 3]), (np.array([[0], [1]]), [0, 2]), (1, [0, 0]), ([1, 1], 0),
    (Ellipsis, [3, 0, 3]), MASK, MASK & False, (slice(None), MASK), (MASK, 0), (MASK, [1, 1]),
    real(3, 3, 4) > 0.5, (None, MASK), (MASK, slice(None), [True, False, False, True]),
]  # fmt: skip
SCATTERS: list[tuple[tuple[int, ...], Any, tuple[int, ...]]] = [
    ((2, 4), (slice(0, 2),), (3, 4)),
    ((4,), (0,), (3, 4)),
    ((3, 4), (np.array([1, 1, -3]),), (3, 4)),
    ((2, 2), (np.array([[0, 1], [1, 1]]),), (3,)),
    ((3,), (np.array([0, 2, 0]), np.array([1, 1, 1])), (3, 2)),
    ((2, 2), (MASK,), (3, 2)),
    ((0, 3), (np.array([], np.int64),), (2, 3)),
    ((0, 3), (np.array([], np.int64),), (0, 3)),
    ((2, 0), (np.array([1, 1]),), (3, 0)),
]
PRODUCTS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((1, 1), (1, 1)),
    ((2, 2, 3), (3, 4)), ((2, 3), (2, 3, 2)), ((2, 1, 2, 3), (3, 3, 2)), ((1, 2, 3), (2, 3, 1)),
    ((3,), (2, 3, 2)), ((2, 2, 3), (3,)), ((2, 0), (0, 3)), ((0, 3), (3, 0)),
]  # fmt: skip
ROWS = np.array([[1.0, 3.0, 3.0], [np.nan, 2.0, np.nan], [5.0, 5.0, 5.0]])
Q = np.array([[0.2, 0.5, 0.3], [0.9, 0.3, 0.4]])
EXACT = np.array([[0.25, 0.5, 0.25], [0.5, 0.0, 1.0]], np.float32)  # a constant beside float64

CASES: dict[str, list[Case]] = {
    "add": binary(ops.add, operator.add, np.add),
    "sub": binary(ops.sub, operator.sub, np.subtract),
    "mul": binary(ops.mul, operator.mul, np.multiply),
    "div": binary(ops.div, operator.truediv, np.divide, low=0.5),
    "pow": binary(ops.pow, operator.pow, np.power, low=0.5)
    + [case(operator.pow, np.float_power, real(2, 3), n, flat=n == 0)
       for n in (0, 1, 2, 3, -1, -2, 2.0, True)]
    + [case(operator.pow, np.power, real(2, 3, low=0.1), n) for n in (0.5, -1.5, 1.0)]
    + [case(operator.pow, np.float_power, n, real(2, 3)) for n in (0.3, 2.0)],
    "square": unary(ops.square, lambda a: a * a),
    "neg": unary(operator.neg, lambda a: 0.0 - a),
    "sign": unary(mg.sign, lambda a: np.where(a > 0, 1.0, -1.0), flat=True),
    "abs": unary(operator.abs, lambda a: np.sqrt(a * a)),
    "exp": unary(mg.exp, lambda a: np.power(np.e, a)),
    "log": unary(mg.log, lambda a: np.log2(a) * np.log(2.0), low=0.1),
    "sqrt": unary(mg.sqrt, lambda a: np.power(a, 0.5), low=0.1),
    "inv_std": [case(T["inv_std"], lambda a, eps: np.power(a + eps, -0.5), real(2, 3, low=0.1),
                     eps=eps) for eps in (0, 1e-5, 0.5)],
    "rsqrt": unary(T["rsqrt"], lambda a: np.power(a, -0.5), low=0.1),
    "tanh": unary(mg.tanh, lambda a: 2.0 / (1.0 + np.exp(-2.0 * a)) - 1.0),
    "erf": unary(ops.erf, lambda a: 1.0 - special.erfc(a)),
    "sigmoid": unary(mg.sigmoid, special.expit, low=-6.0, high=6.0),
    "softplus": unary(mg.softplus, lambda a: np.logaddexp(0.0, a), low=-6.0, high=6.0),
    "gelu": unary(F.gelu, lambda a: a * special.ndtr(a), low=-5.0, high=5.0),
    "binary_cross_entropy": [
        case(ops.binary_cross_entropy, np_binary_cross_entropy, *given)
        for x, t in ((real(2, 3), real(2, 3, low=0.1, high=0.9, seed=1)), (real(3), CHOICE * 1.0))
        for given in ((x, t, 1.0, 1.0), (x, t, real(3, low=0.5), 1.0),
                      (x, t, real(2, 3, low=0.5, seed=2), real(2, 1, low=0.5, seed=3)))],
    "relu": unary(mg.relu, lambda a: (a + np.abs(a)) / 2),
    "leaky_relu": unary(F.leaky_relu, lambda a: np.maximum(a, 0.01 * a))
    + [case(F.leaky_relu, lambda a, negative_slope: np.where(a < 0, negative_slope * a, a),
            real(2, 3), negative_slope=slope) for slope in (0.0, 0.3, -0.5, 1.5)],
    "gated": [case(T["gated"], lambda a, b: a * (b > 0), real(*s), real(*s, seed=1))
              for s in SHAPES],
    "maximum": binary(mg.maximum, mg.maximum, lambda a, b: np.where(np.greater(a, b), a, b)),
    "minimum": binary(mg.minimum, mg.minimum, lambda a, b: np.where(np.greater(a, b), b, a)),
    "where": [case(mg.where, lambda c, a, b: np.choose(c, (b, a)), c, a, b) for c, a, b in (
        (CHOICE, real(2, 3), real(2, 3, seed=1)), (CHOICE, real(3), real(2, 1, seed=1)),
        (CHOICE[0], real(2, 3), real(seed=1)), (CHOICE, real(2, 3), 0.5), (CHOICE, 2, real(3)),
        (CHOICE[:, :1], real(4), real(2, 1)), (CHOICE * 1, real(2, 3), -1.0))],
    "clip": [case(mg.clip, lambda a, min, max: np.clip(a, min, max), real(2, 3), min=m, max=n,
                  flat=m == 1.0)
             for m, n in ((-1.0, 1.0), (None, 1), (0, None), (None, None), (1.0, -1.0))],
    "equal": compared(mg.equal, operator.eq, np.equal),
    "not_equal": compared(mg.not_equal, operator.ne, np.not_equal),
    "less": compared(mg.less, operator.lt, np.less),
    "less_equal": compared(mg.less_equal, operator.le, np.less_equal),
    "greater": compared(mg.greater, operator.gt, np.greater),
    "greater_equal": compared(mg.greater_equal, operator.ge, np.greater_equal),
    "logical_and": [case(f, np.logical_and, CHOICE, b) for f in (mg.logical_and, operator.and_)
                    for b in (CHOICE[0], True)]
                   + [case(mg.logical_and, np.logical_and, CHOICE, MIXED)],
    "logical_or": [case(f, np.logical_or, CHOICE, b) for f in (mg.logical_or, operator.or_)
                   for b in (CHOICE[0], True)]
                  + [case(mg.logical_or, np.logical_or, CHOICE, MIXED)],
    "logical_not": [case(mg.logical_not, np.logical_not, np.float32([0.0, 2.0]))]
                   + [case(f, np.logical_not, CHOICE) for f in (mg.logical_not, operator.invert)],
    "isnan": [case(mg.isnan, lambda a: a != a, ROWS), case(mg.isnan, lambda a: a != a, CHOICE)],
    "astype": [case(ops.astype, lambda a, dtype: a.astype(dtype), real(2, 3), dtype=np.float64),
               Case(ops.astype, lambda a, dtype: a.astype(dtype), (real(2, 3),),
                    {"dtype": np.float32}, differences=False)],
    "getitem": [case(indexed, lambda x, index: np.array(x[index]), real(3, 3, 4), index=i,
                     flat=real(3, 3, 4)[i].size == 0) for i in INDICES]
    + [case(indexed, indexed, real(*s), index=[]) for s in ((0, 3), (3, 0))]
    + [case(indexed, indexed, real(3, 0), index=[0, 1, 1])],
    "scatter": [case(scatter, np_scatter, real(*g), index=i, shape=s) for g, i, s in SCATTERS],
    "in_range": [case(T["in_range"], lambda a, **_: a.astype(np.int64), np.array([[2, 0], [1, 2]]),
                      name="it", n=3, ignore_index=i) for i in (None, 1)],
    "matmul": [case(operator.matmul, np_matmul, real(*s), real(*t, seed=1)) for s, t in PRODUCTS],
    "linear": [case(F.linear, np_linear, real(*s), real(2, 3, seed=1), b)
               for s in ((4, 3), (3,), (2, 2, 3), (1, 3)) for b in (None, real(2, seed=2))],
    "linear_grad": [case(linear_grad, np_linear_grad, real(*s, 2), real(*s, 3, seed=1),
                         real(2, 3, seed=2), which=which)
                    for s in ((4,), (), (2, 3)) for which in (0, 1, 2)],
    "keep_mask": [case(T["keep_mask"], lambda a, p: np.full(a.shape, 1.0 - p), real(2, 3), p=p)
                  for p in (0.0, 1.0)],
    "reshape": [case(mg.reshape, lambda a, shape: np.array(a.ravel().tolist()).reshape(shape),
                     real(2, 3), shape=s) for s in (6, (3, 2), (-1,), (1, 2, -1, 1))]
    + [case(mg.squeeze, lambda a, axis=None: np.squeeze(a, axis), real(1, 2, 1), **kw)
       for kw in ({}, {"axis": 0}, {"axis": (0, -1)})]
    + [case(mg.unsqueeze, np.expand_dims, real(2, 3), axis=i) for i in (0, 1, 2, -1, -3)]
    + [case(mg.flatten, lambda a, **_: a.reshape(2, -1), real(2, 3, 2), start_dim=1),
       case(mg.flatten, np.ravel, real(2, 3)), case(mg.flatten, np.ravel, real())],
    "permute": [case(mg.permute_dims, permuted, real(2, 3, 4), axes=p)
                for p in ((0, 1, 2), (2, 0, 1), (1, 2, 0), (-1, 1, 0))]
    + [case(mg.transpose, np.swapaxes, real(2, 3, 4), 0, -1)],
    "broadcast_to": [case(mg.broadcast_to, lambda a, shape: a * np.ones(shape), real(*s), shape=t)
                     for s, t in (((3,), (2, 3)), ((2, 1), (2, 3)), ((), (2, 2)), ((1,), (2,)))],
    "concat": [case(lambda *x, axis: mg.concat(x, axis), lambda *x, axis: np.concatenate(x, axis),
                    real(2, 3), real(2, n, seed=1), real(2, 1, seed=2), axis=i)
               for n in (2, 0) for i in (1, -1)]
    + [case(lambda *x, axis: mg.stack(x, axis), lambda *x, axis: np.stack(x, axis),
            real(2, 3), real(2, 3, seed=1), axis=i) for i in (0, 1, 2, -1)],
    "sum": [*reduced(mg.sum, with_tuple(np.sum)), case(mg.sum, np.sum, real(2, 0), axis=0)],
    "mean": reduced(mg.mean, with_tuple(np.mean)),
    "mean_square": reduced(mean_square, with_tuple(lambda a, **how: np.mean(a * a, **how))),
    "var": [*reduced(mg.var, with_tuple(np_var))[:-1],
            *reduced(mg.var, with_tuple(np_var), correction=1)[:-1],
            case(mg.var, np_var, real(4), correction=0.5)],
    "max": reduced(mg.max, with_tuple(lambda a, axis, **k: -np.min(-a, axis, **k))),
    "min": reduced(mg.min, with_tuple(lambda a, axis, **k: -np.max(-a, axis, **k))),
    "ties": [case(T["ties"], np_ties, ROWS, ROWS.max(axis, keepdims=True), axis=axis)
             for axis in ((1,), (0,), (0, 1))],
    "argmax": [case(mg.argmax, np.argmax, a, axis=i) for a in (real(3, 4), ROWS)
               for i in (None, 0, 1, -1)],
    "argmin": [case(mg.argmin, np.argmin, a, axis=i) for a in (real(3, 4), ROWS)
               for i in (None, 0, 1, -1)],
    "softmax": [case(F.softmax, special.softmax, real(2, 3, 4), axis=i) for i in (0, 1, 2, -1)],
    "log_softmax": [case(F.log_softmax, special.log_softmax, real(2, 3, 4), axis=i)
                    for i in (0, 1, 2, -1)],
    "cross_entropy": [
        case(T["cross_entropy"], np_cross_entropy, real(2, 3), q, d, per_row=p)
        for p, d in ((False, 1.0), (True, 1.0), (False, 2.5)) for q in (Q, Q[:, ::-1], EXACT)],
    "cross_entropy_grad": [
        case(T["cross_entropy_grad"], np_cross_entropy_grad, g, real(2, 3), q, d, per_row=p)
        for g, p in ((real(2), True), (real(), False)) for d, q in ((1.0, Q), (2.5, EXACT))],
    "batch_norm": [
        case(batch_norm, np_batch_norm, real(*shape), *affine,
             statistics=given, eps=0.1, relu=relu)
        for shape, affine, given, relu in BATCH_NORMS],
    "batch_norm_grad": [
        case(batch_norm_grad, np_batch_norm_grad, real(*shape, seed=3), real(*shape), affine[0],
             statistics=given, relu=relu, eps=0.1)
        for shape, affine, given, relu in BATCH_NORMS],
    "label_cross_entropy": [
        case(lambda *x, **how: T["label_cross_entropy"](*x, **how)[0], np_label_cross_entropy,
             real(4, 3), labels, ignore_index=1, mean=mean)
        for mean in (True, False) for labels in LABELS],
    "label_cross_entropy_grad": [
        case(label_cross_entropy_grad, np_label_cross_entropy_grad,
             real(), real(4, 3), labels, ignore_index=1, mean=mean)
        for mean in (True, False) for labels in LABELS],
}  # fmt: skip
