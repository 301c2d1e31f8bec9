"""Each compiled kernel agrees, in ulps of its largest element, with itself run as Python.

They differ where LLVM may do what Python does not: fuse a multiplication with an addition, which
rounds once instead of twice, and in kernels that are not exact reorder sums (jit.FASTMATH); and
where Python computes in float32 what compiled code widens to float64. More than a few units would
be a kernel that says one thing and does another.

The limits are about twice what was found, since processors differ in the width of their vectors,
by which sums are reordered.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import pytest

import minigrad.warmup  # noqa: F401  imports every kernel
from minigrad.kernels import codegen_runtime
from minigrad.kernels.batchnorm import entry_points
from minigrad.kernels.jit.decorators import KERNELS
from minigrad.kernels.threading import blas, parallel_for, pool

Array = Any
Run = Callable[[Callable[..., Any]], list[Array]]  # from a kernel to what it leaves

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")

DTYPES = [np.float32, np.float64]
# Float32: found 1, and 2 in the gradient of cross-entropy by labels, whose Python sums in float32.
# Float64: found 1, and 4 in sums of 1100 terms, which are reordered.
ALONE_LIMIT = {"float32": 4.0, "float64": 8.0}
# Of y and dx; found 1 and 2.5, as rounding once instead of twice in two steps explains.
BATCH_NORM_LIMIT = {"float32": 2.0, "float64": 5.0}
# For sums in float64 of m terms: this times sqrt(m) units, as random rounding errors grow. Found
# 0.8: 50 units in the variance of 4100 values, since the mean that is taken for K differs, too.
SUM_LIMIT = 2.0
# The files of BatchNorm's kernels, which are compared together.
BATCH_NORM = (
    "batchnorm.entry_points",
    "batchnorm.channel",
    "batchnorm.planes",
    "batchnorm.rows",
    "batchnorm.small_rows",
)


def ulps(got: Array, expected: Array) -> float:
    """Return the largest difference, in units in the last place of the largest element."""
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    assert np.isfinite(expected).all()
    if not got.size:
        return 0.0
    return float(np.abs(got - expected).max() / np.spacing(np.abs(expected).max()))


def normal(dtype: Any, *shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


# --- kernels that stand alone -------------------------------------------------------------------

LABELS = np.random.default_rng(0).integers(0, 10, 70)
LABELS[::9] = -100


def sgd(dtype: Any, weight_decay: float, momentum: float, nesterov: bool, first: bool) -> Run:
    """Return parameters and buffer after a step."""
    p, g, buffer = (normal(dtype, 500 + i)[:500] for i in range(3))
    hyper = np.array([0.1, weight_decay, -1.0, momentum, 1.0 if first else 0.7, nesterov], dtype)

    def run(kernel: Callable[..., Any]) -> list[Array]:
        out, b = p.copy(), buffer.copy()
        kernel(out, g, *([b] if momentum else []), hyper, pool.current_pool())
        return [out, b]

    return run


def sgd_of_all(dtype: Any, momentum: float) -> Run:
    """Return the parameters and buffers of several sizes after a step, one of them of two
    dimensions."""
    shapes = (500,), (20, 25), ()
    hyper = np.array([0.1, 0.01, -1.0, momentum, 1.0, 0.0], dtype)

    def run(kernel: Callable[..., Any]) -> list[Array]:
        parts = 3 if momentum else 2  # p, g and the buffer
        arrays = [np.array(normal(dtype, 3, *s)[i]) for s in shapes for i in range(parts)]
        kernel(id(arrays), len(shapes), hyper)
        return arrays

    return run


def into(shape: Any, *arguments: Any, dtype: Any = None, copy: bool = False) -> Run:
    """Return what a kernel writes into its last argument: an array of a shape, or a given copy."""

    def run(kernel: Callable[..., Any]) -> list[Array]:
        out = shape.copy() if copy else np.full(shape, 0, dtype or arguments[0].dtype)
        kernel(*arguments, out)
        return [out]

    return run


def label_cross_entropy(dtype: Any, mean: bool) -> Run:
    def run(kernel: Callable[..., Any]) -> list[Array]:
        loss, p = np.zeros((), dtype), np.zeros((70, 10), dtype)
        assert kernel(3 * normal(dtype, 70, 10), LABELS, -100, mean, loss, p) == -1
        return [loss, p]

    return run


def running(dtype: Any) -> Run:
    def run(kernel: Callable[..., Any]) -> list[Array]:
        mean, var = normal(dtype, 40), normal(dtype, 40) ** 2
        kernel(mean, var, normal(np.float64, 41)[:40], normal(np.float64, 41)[:40] ** 2, 0.1, 1.01)
        return [mean, var]

    return run


def add_bias(dtype: Any) -> Run:
    def run(kernel: Callable[..., Any]) -> list[Array]:
        y = normal(dtype, 30, 17)
        kernel(y, normal(dtype, 17))
        return [y]

    return run


def linear(dtype: Any, bias: int, outputs: int = 12) -> Run:
    x, w, b = normal(dtype, 30, 17), normal(dtype, outputs, 17), normal(dtype, bias)

    def run(kernel: Callable[..., Any]) -> list[Array]:
        y = np.full((30, outputs), np.nan, dtype)
        kernel(x, w, b, y, blas.NO_LIMIT)
        return [y]

    return run


def linear_grad(dtype: Any, *wanted: bool) -> Run:
    g, x, w = normal(dtype, 30, 12), normal(dtype, 30, 17), normal(dtype, 12, 17)
    shapes: list[Any] = [x.shape, w.shape, (12,)]

    def run(kernel: Callable[..., Any]) -> list[Array]:
        made = [
            np.full(s if is_wanted else (0,) * len(s), 0, dtype)
            for s, is_wanted in zip(shapes, wanted, strict=True)
        ]
        kernel(g, x, w, *made, blas.NO_LIMIT)
        return made

    return run


def product(dtype: Any, m: int, inner: int, n: int, *threads: Any) -> Run:
    a, b = normal(dtype, inner, m), normal(dtype, inner, n)

    def run(kernel: Callable[..., Any]) -> list[Array]:
        out = np.full((m, n), np.nan, dtype)
        kernel(a, b, 1, 0, out, blas.NO_LIMIT, *threads)
        return [out]

    return run


def softmax(dtype: Any) -> Array:
    e = np.exp(normal(dtype, 70, 10))
    return e / e.sum(1, keepdims=True)


def tracked(dtype: Any) -> Run:
    def run(kernel: Callable[..., Any]) -> list[Array]:
        counter = np.array(7)

        def counting(mean: Array, var: Array, *batch: Any) -> None:
            kernel(mean, var, counter, *batch)

        return [*running(dtype)(counting), counter.astype(float)]

    return run


ALONE: dict[str, Callable[[Any], Run]] = {
    "inplace._sgd": lambda t: sgd(t, 0.0, 0.0, False, False),
    "inplace._sgd decay": lambda t: sgd(t, 0.01, 0.0, False, False),
    "inplace._sgd_momentum": lambda t: sgd(t, 0.0, 0.9, False, False),
    "inplace._sgd_momentum first": lambda t: sgd(t, 0.01, 0.9, False, True),
    "inplace._sgd_momentum nesterov": lambda t: sgd(t, 0.01, 0.9, True, False),
    "inplace._sgd_all": lambda t: sgd_of_all(t, 0.0),
    "inplace._sgd_momentum_all": lambda t: sgd_of_all(t, 0.9),
    "inplace._running": running,
    "inplace._tracked": tracked,
    "reductions._sum_rows": lambda t: into(9, 1 + normal(t, 1100, 9), 1.0),
    "reductions._sum_rows mean": lambda t: into(9, 1 + normal(t, 1100, 9), 1100.0),
    "reductions._sum_few_rows": lambda t: into(9, 1 + normal(t, 30, 9)),
    "reductions._mean_square_rows": lambda t: into(9, normal(t, 1100, 9)),
    "reductions._sum_along": lambda t: into(9, 1 + normal(t, 9, 1100), 1.0),
    "reductions._sum_between": lambda t: into((3, 9), 1 + normal(t, 3, 1100, 9), 1.0),
    "relu._relu": lambda t: into((30, 17), normal(t, 30, 17)),
    "relu._gate": lambda t: into((30, 17), normal(t, 30, 17), normal(t, 17, 30).T.copy()),
    "linear._add_bias": add_bias,
    "linear._linear_forward": lambda t: linear(t, 12),
    "linear._linear_forward without bias": lambda t: linear(t, 0),
    "linear._linear_backward": lambda t: linear_grad(t, True, True, True),
    "linear._linear_backward dx": lambda t: linear_grad(t, True, False, False),
    "linear._linear_backward dw, db": lambda t: linear_grad(t, False, True, True),
    "linear._linear_forward of many": lambda t: linear(t, 18, 18),
    "transpose._transpose": lambda t: into((19, 30), normal(t, 30, 19)),
    "transpose._transpose of a block": lambda t: into((8, 8), normal(t, 8, 8)),
    "transpose._transpose of odd sizes": lambda t: into((9, 31), normal(t, 31, 9)),
    "product._product": lambda t: product(t, 70, 17, 130),
    "product._product column": lambda t: product(t, 70, 17, 1),
    "product._product row": lambda t: product(t, 1, 17, 70),
    "product._large_product": lambda t: product(t, 70, 17, 130, parallel_for.SERIAL),
    "softmax._cross_entropy_forward": lambda t: into(70, 3 * normal(t, 70, 10), softmax(t)),
    "softmax._cross_entropy_backward": lambda t: into(
        (70, 10), normal(t, 70), 3 * normal(t, 70, 10), softmax(t), 7.0
    ),
    "softmax._cross_entropy_backward shared": lambda t: into(
        (70, 10), normal(t, 1), 3 * normal(t, 70, 10), softmax(t), 1.0
    ),
    "softmax._label_cross_entropy_forward": lambda t: label_cross_entropy(t, False),
    "softmax._label_cross_entropy_forward mean": lambda t: label_cross_entropy(t, True),
    "softmax._label_cross_entropy_backward": lambda t: into(
        (70, 10), 1.7, LABELS, softmax(t), -100, False, dtype=t
    ),
    "softmax._label_cross_entropy_backward mean": lambda t: into(
        (70, 10), 1.7, LABELS, softmax(t), -100, True, dtype=t
    ),
    "indexing._scatter_rows": lambda t: into(
        (10, 6), np.abs(LABELS) % 10, normal(t, 70, 6), dtype=t
    ),
    "indexing._find_outside": lambda t: into((70,), LABELS, 10, -100, True, dtype=np.int64),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ALONE)
def test_alone(name: str, dtype: Any) -> None:
    kernel = KERNELS[f"minigrad.kernels.{name.split()[0]}"]
    run = ALONE[name](dtype)
    compiled = run(kernel)
    with as_python():
        plain = run(kernel.py_func)
    for a, b in zip(compiled, plain, strict=True):
        assert ulps(a, b) <= ALONE_LIMIT[np.dtype(dtype).name]


def not_compared(kernels: Iterable[str]) -> list[str]:
    """Return those of minigrad's kernels that are neither in ALONE nor of BatchNorm.

    Workers of a pool do no arithmetic.
    """
    of_pool = (f"threading.parallel_for._{name}" for name in ("serve", "share"))
    alone = {name.split()[0] for name in (*ALONE, *of_pool)}
    own = [
        k.removeprefix("minigrad.kernels.") for k in kernels if k.startswith("minigrad.kernels.")
    ]
    return [k for k in own if k not in alone and k.rpartition(".")[0] not in BATCH_NORM]


def test_every_kernel_is_compared() -> None:
    assert not_compared(KERNELS) == []


@pytest.mark.parametrize("file", sorted({name.rpartition(".")[0] for name in ALONE}))
def test_a_new_kernel_must_be_compared(file: str) -> None:
    """No file is exempt, except those of BatchNorm."""
    assert not_compared([f"minigrad.kernels.{file}._new"]) == [f"{file}._new"]


def test_device_functions_count_no_references() -> None:
    """Two threads that counted references to one array would take turns."""
    planes = sys.modules["minigrad.kernels.batchnorm.planes"]
    x, sums, index = numba.float32[:, :, ::1], numba.float64[:, ::1], numba.int64
    signature = x, x, x, sums, sums, index, index
    planes.plane_dots.compile(signature)
    assert "call void @NRT_incref" not in planes.plane_dots.inspect_llvm(signature)


def test_generated_code_may_run_as_python() -> None:
    """Python must be able to enter whatever it calls, and a bare kernel would crash."""
    for name, value in vars(codegen_runtime).items():
        if isinstance(value, numba.core.registry.CPUDispatcher):
            assert not value.targetoptions["no_cpython_wrapper"], name


# --- BatchNorm ----------------------------------------------------------------------------------


@contextmanager
def as_python() -> Iterator[None]:
    """Replace the functions that kernels call by their Python code."""
    with pytest.MonkeyPatch.context() as patch:
        own = "inplace", "linear", "memory", "reductions", "relu", "product", "softmax", "transpose"
        for file in (*BATCH_NORM, *own):
            module = sys.modules[f"minigrad.kernels.{file}"]
            for name, value in list(vars(module).items()):
                python = getattr(value, "in_python", value)
                python = getattr(python, "py_func", python)
                if getattr(python, "__qualname__", "").endswith(".loop"):
                    python = parallel_for.serial_for(vars(module)[f"_{name}"])
                if python is not value:
                    patch.setattr(module, name, python)
        for kind, kernels in entry_points.KERNELS.items():
            plain = tuple([getattr(kernel, "py_func", kernel) for kernel in kernels])
            patch.setitem(entry_points.KERNELS, kind, plain)
        yield


def batch_norm(
    shape: Any, dtype: Any, training: bool, relu: bool, given: Any = None
) -> dict[str, Array]:
    """Return all that forward and backward leave. given: y and stats for the backward pass."""
    x, g = 0.5 + normal(dtype, *shape), normal(dtype, 1, *shape)[0]
    c = shape[1]
    gamma, beta, mean, var = (normal(dtype, c + i)[:c] for i in range(4))
    y, stats = np.empty_like(x), np.zeros((5, c))
    if training:
        entry_points.forward_train(x, gamma, beta, 1e-5, relu, y, stats)
    else:
        entry_points.forward_eval(x, gamma, beta, mean, var**2, 1e-5, relu, y, stats)
    first = {"y": y, "mean": stats[0] + stats[1], "inv_std": stats[2], "var": stats[3]}
    y, stats = given or (y, stats)
    dx, dgamma, dbeta = np.empty_like(x), np.empty_like(gamma), np.empty_like(beta)
    gates = y if relu else np.empty((0,) * x.ndim, dtype)
    entry_points.backward(g, x, gates, gamma, stats, training, dx, dgamma, dbeta)
    return {**first, "dx": dx, "dgamma": dgamma, "dbeta": dbeta, "given": (y, stats)}


# Rows: a block of narrow ones, two blocks, and long ones. Planes: short ones, and longer than a
# segment. Small: narrow and wide.
ROWS, PLANES = [(300, 5), (300, 66), (39, 1540)], [(3, 4, 50), (1, 2, 4100)]
SMALL = [(40, 5), (60, 130)]
CASES = [(shape, threaded) for shape in ROWS for threaded in (False, True)]
CASES += [(shape, False) for shape in PLANES + SMALL]  # threads take the same kernels in parts


@pytest.mark.parametrize(
    "training, relu", [(True, False), (True, True), (False, False), (False, True)]
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, threaded", CASES, ids=str)
def test_batch_norm(
    shape: Any, dtype: Any, training: bool, relu: bool, threaded: bool, monkeypatch: Any
) -> None:
    """Both backward passes use the same y and statistics, so that relu gates the same elements."""
    monkeypatch.setattr(pool, "THREADED", 1 if threaded else 1 << 60)
    compiled = batch_norm(shape, dtype, training, relu)
    given = compiled.pop("given")
    with as_python():
        plain = batch_norm(shape, dtype, training, relu, given)
    terms = int(np.prod(shape)) / shape[1]
    for name, a in compiled.items():
        b, limit = plain[name], BATCH_NORM_LIMIT[np.dtype(dtype).name]
        if name in ("mean", "var", "inv_std") and not training:
            a, b = a.astype(dtype), b.astype(dtype)  # Python adds eps to var in its dtype
        elif name not in ("y", "dx") and a.dtype == np.float64:
            limit = SUM_LIMIT * terms**0.5
        assert ulps(a, b) <= limit, name
