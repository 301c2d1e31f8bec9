"""Products are exact, their bits depend on shapes alone, and they restore BLAS's threads."""

import inspect
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from pool_loops import compiled, jit

import minigrad as mg
from minigrad import functional as F
from minigrad.errors import ShapeError
from minigrad.kernels import codegen_runtime, product
from minigrad.kernels.jit.blas import NAME
from minigrad.kernels.threading import blas, parallel_for, pool

from .test_forks import forks, in_a_child, quiet

# The rows, the inner size and the columns: for NumPy, for one call, and for panels, whose last may
# have a single row or column.
SHAPES = [
    (0, 3, 4),
    (3, 0, 4),
    (5, 7, 9),
    (64, 128, 64),
    (65, 128, 63),
    (129, 1000, 64),
    (64, 1000, 129),
    (64, 784, 256),
    (700, 90, 100),
    (1, 20_000, 1),
    (1, 300, 200),
    (200, 300, 1),
    (1, 1200, 1100),
    (1100, 1200, 1),
]
WAYS = {
    "C": lambda a: a,
    "F": lambda a: np.asfortranarray(a),
    "rows": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "fixed": lambda a: fixed(a),
    "unaligned": lambda a: unaligned(a),
}


def fixed(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def unaligned(a):
    out = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    out[...] = a
    return out


def factors(m, inner, n, dtype=np.float32, a_way="C", b_way="C"):
    rng = np.random.default_rng(m + n)
    a, b = rng.standard_normal((m, inner)), rng.standard_normal((inner, n))
    return WAYS[a_way](a.astype(dtype)), WAYS[b_way](b.astype(dtype))


def check(y, a, b):
    """Check that errors grow as random ones do, and less in products with a vector."""
    x, z = a.astype(np.longdouble), b.astype(np.longdouble)
    norms = np.outer(np.sqrt((x * x).sum(1)), np.sqrt((z * z).sum(0)))
    assert y.dtype == np.result_type(a, b)
    units = 0.5 if 1 in y.shape else 2.0
    assert (np.abs(y - x @ z) <= units * np.finfo(y.dtype).eps * norms).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_exact(shape, dtype):
    for a_way in ("C", "F"):
        for b_way in ("C", "F"):
            a, b = factors(*shape, dtype, a_way, b_way)
            check(product.dot(a, b), a, b)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(64, 128, 64), (64, 784, 256), (200, 300, 1)])
def test_memory_of_any_kind(shape, way):
    a, b = factors(*shape, np.float32, way, way)
    before = a.copy(), b.copy()
    check(product.dot(a, b), a, b)
    check(product.dot(b.T, a.T), b.T, a.T)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


def test_dtypes():
    """The dtypes are mixed, foreign or integers."""
    a, b = factors(64, 784, 256)
    check(product.dot(a, b.astype(np.float64)), a, b.astype(np.float64))
    swapped = a.astype(">f4")
    check(product.dot(swapped, b), a, b)
    other = b.astype(swapped.dtype)
    assert other.dtype is swapped.dtype
    check(product.dot(swapped, other), a, b)
    whole = np.arange(64 * 784).reshape(64, 784) % 7
    np.testing.assert_array_equal(product.dot(whole, whole.T), np.einsum("ik,jk", whole, whole))


def test_stacks_and_vectors():
    rng = np.random.default_rng(0)
    for a_shape, b_shape in [
        ((3, 64, 100), (100, 80)),
        ((64, 100), (3, 100, 80)),
        ((2, 1, 70, 200), (3, 200, 90)),
        ((20_000,), (20_000,)),
        ((300,), (2, 300, 200)),
        ((2, 200, 300), (300,)),
    ]:
        a = rng.standard_normal(a_shape).astype(np.float32)
        b = rng.standard_normal(b_shape).astype(np.float32)
        y = mg.matmul(a, b).data
        expected = np.matmul(a.astype(float), b.astype(float))
        assert (y.shape, y.dtype) == (expected.shape, np.float32)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("a_shape", "b_shape", "why"),
    [
        ((), (), "a scalar has no matrix product"),
        ((), (300, 300), "a scalar has no matrix product"),
        ((300, 300), (), "a scalar has no matrix product"),
        ((0, 300, 300), (200, 300), "inner sizes differ"),
        ((300, 300), (0, 200, 300), "inner sizes differ"),
        ((2, 300, 300), (2, 200, 300), "inner sizes differ"),
        ((300, 300), (200,), "inner sizes differ"),
        ((2, 300, 300), (3, 300, 300), "the batch dimensions do not broadcast"),
    ],
)
def test_shapes_without_a_product(a_shape, b_shape, why):
    a, b = np.ones(a_shape, np.float32), np.ones(b_shape, np.float32)
    with pytest.raises(ShapeError, match=f"matmul: {why}"):
        mg.matmul(a, b)


def test_stacks_without_matrices():
    assert mg.matmul(np.ones((2, 0, 300, 400)), np.ones((400, 200))).shape == (2, 0, 300, 200)


def test_poison_stays_in_its_row_and_column():
    a, b = factors(64, 784, 256)
    a[3, 5] = np.nan
    y = product.dot(a, b)
    assert np.isnan(y[3]).all()
    assert np.isfinite(np.delete(y, 3, axis=0)).all()


def large(a, b, threads):
    out = np.full((a.shape[0], b.shape[1]), np.nan, a.dtype)
    (x, x_trans), (y, y_trans) = product._oriented(a, a.dtype), product._oriented(b, b.dtype)
    product.large_product(x, y, x_trans, y_trans, out, blas.blas_limit(), threads)
    return out


@pytest.mark.parametrize("shape", [s for s in SHAPES if product.panels(*(s[0], s[2], s[1])) > 1])
def test_bits_do_not_depend_on_threads(shape):
    before = pool.get_num_threads()
    try:
        for a_way in ("C", "F"):
            a, b = factors(*shape, np.float32, a_way, "C")
            expected = large(a, b, parallel_for.SERIAL)
            check(expected, a, b)
            for n in (1, 2, 3):
                pool.set_num_threads(n)
                for _ in range(5):
                    pool.current_pool()[parallel_for.QUIET :][:1] = 0  # workers are woken
                    assert large(a, b, pool.current_pool()).tobytes() == expected.tobytes()
    finally:
        pool.set_num_threads(before)


@compiled
def test_panels_cover_the_product_in_python():
    """The functions of panels, run as Python, compute the whole product."""
    names = {name: getattr(x, "in_python", x) for name, x in vars(product).items()}
    names["multiply"] = type(large)(product._multiply.__code__, names)
    panel = type(large)(product._panel.__code__, names)
    for m, inner, n in [(33, 20, 10), (10, 20, 33), (33, 20, 1), (1, 20, 33)]:
        for way in (0, 1):
            a, b = factors(m, inner, n, np.float64)
            x, y = (np.ascontiguousarray(a.T), np.ascontiguousarray(b.T)) if way else (a, b)
            out = np.zeros((m, n))
            given = x.ctypes.data, x.shape[1], way, y.ctypes.data, y.shape[1], way, out.ctypes.data
            for part in range(3):
                panel(part, 0, 8, m, n, inner, *given, 16)
            check(out, a, b)


def test_a_blas_that_cannot_be_controlled_is_left_alone(monkeypatch):
    monkeypatch.setattr(product, "blas_limit", lambda: blas.NO_LIMIT)
    for shape in SHAPES:
        a, b = factors(*shape)
        check(product.dot(a, b), a, b)
    assert not blas.NO_LIMIT.any()


@compiled
def test_a_blas_that_cannot_be_controlled_gets_one_call():
    parts = []
    names = {name: getattr(x, "py_func", x) for name, x in vars(product).items()}
    names |= {"enter": list, "leave": list, "address": id}
    names["panel"] = lambda _pool, n, *_: parts.append(n)
    python = type(large)(product._large_product.__code__, names)
    a, b = factors(64, 784, 256)
    for limit in (blas.NO_LIMIT, np.ones_like(blas.NO_LIMIT)):
        python(a, b, 0, 0, np.zeros((64, 256), np.float32), limit, parallel_for.SERIAL)
    assert parts == [1, 4]


# --- the number of threads of OpenBLAS ------------------------------------------------------------

blas.blas_limit()
FOUND = blas._functions
controlled = pytest.mark.skipif(not FOUND, reason="SciPy's BLAS cannot be controlled")


@pytest.fixture
def three():
    """Give OpenBLAS three threads; the test leaves it with as many."""
    before = FOUND["get_num_threads"]()
    FOUND["set_num_threads"](3)
    yield
    assert FOUND["get_num_threads"]() == 3
    assert blas.blas_limit()[blas.USERS] == 0
    FOUND["set_num_threads"](before)


enter, leave, number = blas.enter, blas.leave, parallel_for.call_number
SET, GET = blas.SET, blas.GET
change = parallel_for.call_address


@jit
def nested(limit, seen):
    """Note the number of threads within two uses, within one, and after both."""
    enter(limit)
    enter(limit)
    seen[0] = number(limit[GET])
    leave(limit)
    seen[1] = number(limit[GET])
    leave(limit)
    seen[2] = number(limit[GET])


@jit
def changed_within(limit, n):
    """Set the number of threads as another part of the program may do it meanwhile."""
    enter(limit)
    change(limit[SET], n, 0)
    leave(limit)


@jit
def enter_only(limit):
    enter(limit)


@jit
def leave_only(limit):
    leave(limit)


@compiled
@controlled
def test_one_thread_until_the_last_use_ends(three):
    seen = np.zeros(3, np.int64)
    nested(blas.blas_limit(), seen)
    assert seen.tolist() == [1, 1, 3]


@compiled
@controlled
def test_a_number_that_somebody_sets_meanwhile_stays(three):
    changed_within(blas.blas_limit(), 2)
    assert FOUND["get_num_threads"]() == 2
    FOUND["set_num_threads"](3)


@compiled
@controlled
@pytest.mark.parametrize("shape", [(64, 128, 64), (64, 784, 256), (1, 300, 200)])
def test_larger_products_use_the_limit(three, shape):
    limit = blas.blas_limit()
    limit[blas.BEFORE] = 0
    product.dot(*factors(*shape))
    assert limit[blas.BEFORE] == 3


@controlled
def test_restored_after_an_error(three):
    a, b = factors(64, 784, 256)
    with pytest.raises(ShapeError):
        mg.matmul(a, b.T)

    def step(x):
        y = mg.matmul(x, b)
        raise RuntimeError(str(y.shape))

    with pytest.raises(RuntimeError):
        step(a)
    assert FOUND["get_num_threads"]() == 3


@compiled
@controlled
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_restored_after_interrupts(three):
    a, b = factors(64, 784, 256)
    product.dot(a, b)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for k in range(40):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-3 + 5e-5 * k)
                while True:
                    product.dot(a, b)
            except KeyboardInterrupt:
                pass
            assert FOUND["get_num_threads"]() == 3
            assert blas.blas_limit()[blas.USERS] == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@compiled
@controlled
def test_restored_by_threads_that_run_at_the_same_time(three):
    a, b = factors(64, 784, 256)
    small, other = factors(64, 128, 64)
    expected = product.dot(a, b).tobytes(), product.dot(small, other).tobytes()
    start = threading.Barrier(4)

    def work(_):
        start.wait()
        return {
            (product.dot(a, b).tobytes(), product.dot(small, other).tobytes()) for _ in "x" * 99
        }

    with ThreadPoolExecutor(4) as threads:
        assert set().union(*threads.map(work, range(4))) == {expected}


@compiled
@controlled
@forks
@quiet
def test_restored_in_a_child_that_is_forked_within_a_product(three):
    def check_child():
        assert FOUND["get_num_threads"]() == 3
        assert blas.blas_limit()[blas.USERS] == 0
        a, b = factors(64, 784, 256)
        check(product.dot(a, b), a, b)
        assert FOUND["get_num_threads"]() == 3

    limit = blas.blas_limit()
    enter_only(limit)
    in_a_child(check_child)
    assert FOUND["get_num_threads"]() == 1
    leave_only(limit)


@compiled
@controlled
@forks
@quiet
def test_forks_while_other_threads_multiply(three):
    a, b = factors(64, 784, 256)
    expected = product.dot(a, b).tobytes()
    ended = threading.Event()

    def multiply(_):
        while not ended.is_set():
            assert product.dot(a, b).tobytes() == expected

    def check_child():
        assert product.dot(a, b).tobytes() == expected
        assert FOUND["get_num_threads"]() == 3

    with ThreadPoolExecutor(2) as threads:
        found = threads.map(multiply, range(2))
        try:
            for _ in range(9):
                in_a_child(check_child)
        finally:
            ended.set()
        list(found)


def test_openblas_of_other_modules():
    assert blas.openblas_of("no.such.module") == {}
    assert blas.openblas_of("minigrad") == {}  # its file is no library
    assert blas.openblas_of("_ctypes") == {}  # which calls no BLAS


def test_windows_finds_openblas_beside_its_package(monkeypatch, tmp_path):
    extension = tmp_path / "some" / "linalg" / "extension.pyd"
    module = SimpleNamespace(__file__=str(extension))
    (tmp_path / "some.libs").mkdir()
    (tmp_path / "some.libs" / "libscipy_openblas-1.dll").touch()
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "some.extension", module)
    monkeypatch.setitem(sys.modules, "_alone", module)  # an extension that is in no package
    tried = []
    monkeypatch.setattr(blas, "_library", tried.append)
    for name in ("some.extension", "_alone"):
        assert blas.openblas_of(name) == {}
    assert [path.name for path in tried] == [
        *("extension.pyd", "libscipy_openblas-1.dll", "extension.pyd")
    ]


@compiled
@pytest.mark.parametrize("kind", [0, 1, blas.OPENMP])
def test_openmp_is_left_alone(kind, monkeypatch):
    """OpenMP has a number of threads for each calling thread."""
    found = {"get_parallel": lambda: kind}
    monkeypatch.setattr(blas, "openblas_of", lambda module: found)
    assert blas._controllable() == ({} if kind == blas.OPENMP else found)


def test_compiled_steps_limit_blas_in_each_kernel_that_calls_it():
    def takes_limit(name):
        function = getattr(codegen_runtime, name)
        function = getattr(function, "in_python", function)
        python = getattr(function, "py_func", getattr(function, "__wrapped__", function))
        return callable(python) and "limit" in inspect.signature(python).parameters

    assert set(filter(takes_limit, codegen_runtime.OFFERED)) == codegen_runtime.PRODUCTS
    w = mg.tensor(np.ones((3, 2), np.float32))
    for function in (lambda x: F.linear(x, w), lambda x: x @ w.T):
        compiled = mg.compile(function)
        compiled(np.ones((4, 2), np.float32))
        assert compiled._latest()._blas is blas.blas_limit()


LOADED = f"""
import sys
import numpy as np
import minigrad as mg
x = np.ones((32, 64), np.float32)
w = mg.tensor(np.ones((64, 64), np.float32), requires_grad=True)
(x @ w).sum().backward()
@mg.compile
def step(y): return (y * 2).sum()
step(mg.tensor(x))
print({NAME!r} in sys.modules)
mg.matmul(np.ones((64, 128)), np.ones((128, 64)))
print({NAME!r} in sys.modules)
"""


@compiled
def test_only_larger_products_load_the_blas_of_scipy():
    for _ in range(2):  # what is compiled first is then loaded; the compiler loads BLAS, too
        found = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True)
    assert found.stdout.split() == ["False", "True"], found.stderr
