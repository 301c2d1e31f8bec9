"""Numba compiles here what other tests of generated code run as Python.

A function has many cases, which takes less time than a function for each.
"""

import dtype_cases
import index_cases
import numba
import numpy as np
import pytest
from case_runs import LOOK, RANDOM, close_in_dtype, split
from cases import CASES
from dtype_cases import DTYPES
from function_cases import FUNCTIONS, tensors
from random_programs import BINARY, UNARY, program

import minigrad as mg
from minigrad import functional as F
from minigrad import ops
from minigrad.kernels.jit import cache
from minigrad.kernels.jit.decorators import KERNELS

MANY = 30  # a primitive with more cases than this runs a quarter of them here
TOGETHER = 10


def by_numba(function, *makers):
    """Check that compiled calls agree with eager ones for each maker's data.

    The last call runs what Numba has compiled.
    """
    eager = [function(*make()) for make in makers]  # and what it imports on first use is there
    compiled = mg.compile(function)
    for make, expected in zip(makers, eager, strict=True):
        for a, b in zip(compiled(*make()), expected, strict=True):
            close_in_dtype(a, b, b.dtype if b.dtype.kind == "f" else np.float32)
    as_python = bool(numba.config.DISABLE_JIT)  # type: ignore[attr-defined]
    assert ("run as Python" in compiled.report()) == as_python


def table():
    """Return the cases of all primitives in groups.

    They are in float32 and float64 by turns. Cases with equal shapes are neighbours, since they
    share loops.
    """
    found = []
    for name, cases in CASES.items():
        for i, case in enumerate(cases[:: 4 if len(cases) > MANY else 1]):
            call, first, other = split(case, (np.float32, np.float64)[i % 2])
            if first and name not in RANDOM | LOOK:
                found.append((name, call, first, other))
    found.sort(key=lambda entry: max((a.ndim, a.shape) for a in entry[2]))
    return [found[i : i + TOGETHER] for i in range(0, len(found), TOGETHER)]


@pytest.mark.sampled(24)
@pytest.mark.filterwarnings("ignore:compile. .* cannot be compiled")
@pytest.mark.parametrize("group", table(), ids=lambda group: f"{group[0][0]}-{group[-1][0]}")
def test_each_primitive_agrees(group):
    """Each primitive and its derivative agree, as in test_table.py."""
    entries = [(call, len(first), ops.TABLE[name].differentiable) for name, call, first, _ in group]

    def run(*arrays):
        found = []
        for call, n, smooth in entries:
            inputs, arrays = arrays[:n], arrays[n:]
            y = call(*inputs)
            found.append(y)
            if smooth:
                weights = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)
                found += mg.grad((y * weights).sum(), inputs, allow_unused=True)
        return [y for y in found if y is not None]

    def leaves(k):
        return [mg.tensor(a, requires_grad=True) for entry in group for a in entry[k]]

    by_numba(run, *(lambda k=k: leaves(k) for k in (2, 2, 3)))


@pytest.mark.sampled(9)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_several_primitives_agree(name):
    """The functions of test_ops.py, which run as Python there, agree in machine code."""
    function, *makers = FUNCTIONS[name]
    by_numba(function, *(lambda seed=seed: tensors(makers, seed) for seed in (0, 0, 1)))


@pytest.mark.sampled(8)
@pytest.mark.parametrize("seed", range(8))
def test_random_programs_agree(seed):
    """Five random programs and their gradients agree."""
    rng = np.random.default_rng(seed)
    shapes = [(3, 4), (4,), ()]
    executables = []
    for _ in range(5):
        arities = rng.integers(1, 3, 6)
        which = [rng.integers(len(UNARY if n == 1 else BINARY)) for n in arities]
        executables.append(
            [(n, k, *rng.integers(0, 10, 2)) for n, k in zip(arities, which, strict=True)]
        )

    def run(*inputs):
        found = [program(steps, inputs) for steps in executables]
        given = [
            mg.grad((y * y).sum(), inputs, allow_unused=True) for y in found if y.requires_grad
        ]
        return [*found, *(g for some in given for g in some if g is not None)]

    def leaves(seed):
        rng = np.random.default_rng(seed)
        return [mg.tensor(rng.standard_normal(s), requires_grad=True) for s in shapes]

    by_numba(run, *(lambda seed=seed: leaves(seed) for seed in (100, 100, 101)))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("first", [5, 150, 1000])
def test_indices_agree(first):
    """A sample of all arrangements of an index agrees."""
    index_cases.agree(4, list(index_cases.arrangements(4))[first::120][:4])


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:compile. .* cannot be compiled")
def test_casts_agree():
    """The casts of test_dtypes.py, which run as Python there, agree in machine code."""
    dtype_cases.casts_agree()


@pytest.mark.exhaustive
def test_transposes_agree():
    """Loops, products, losses and reductions read transposes of three and more dimensions."""
    labels = np.array([[[0, 2], [1, 0]], [[2, 2], [1, 1]]])

    def run(x, w):
        logits = x.permute(0, 3, 1, 2)
        y = w.transpose(1, 2)
        mean, var = y.mean((0, 2), keepdims=True), y.var((0, 2), keepdims=True)
        normal = (y - mean) * mg.rsqrt(var + 1e-5)
        found = [
            (x.permute(0, 2, 1, 3) ** 2 * 1.0).sum(),
            mg.functional.cross_entropy(logits, labels),
            (normal * normal * normal).sum(),
            (x.permute(3, 2, 1, 0)[1:, 0] * 2).permute(2, 0, 1).sum(0).max(),
            (y @ y.transpose(1, 2)).sum(),
            (y * 2)[0][None].permute(1, 2, 0).reshape(-1).max(),
        ]
        return [*found, *mg.grad(sum(found), [x, w])]

    def leaves(seed):
        rng = np.random.default_rng(seed)
        shapes = (2, 2, 2, 3), (4, 3, 2)
        return [mg.tensor(rng.standard_normal(s), requires_grad=True) for s in shapes]

    by_numba(run, *(lambda seed=seed: leaves(seed) for seed in (0, 0, 1)))


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shift", [0, 4, 7])  # 0: functions of one
def test_functions_of_each_dtype_agree(shift):
    """Functions of one and of two arrays agree, of each dtype and one other."""
    pairs = list(zip(DTYPES, [*DTYPES[shift:], *DTYPES[:shift]], strict=True))
    given = dtype_cases.BINARY[:15] if shift else dtype_cases.UNARY[:18]

    def makes(seed):
        rng = np.random.default_rng(seed)
        return [mg.tensor(dtype_cases.data(rng, dtype, (3, 2))) for pair in pairs for dtype in pair]

    inputs = makes(0)
    works = [
        dtype_cases.those_that_work(given, *inputs[2 * i : 2 * i + (2 if shift else 1)])
        for i in range(len(pairs))
    ]

    def run(*inputs):
        found = []
        for functions in works:
            (a, b), inputs = inputs[:2], inputs[2:]
            found += [f(a, b) if shift else f(a) for f in functions]
        return found

    by_numba(run, *(lambda seed=seed: makes(seed) for seed in (0, 0, 1)))


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")  # type: ignore[attr-defined]
def test_generated_code_calls_kernels_with_the_types_of_eager_calls():
    """Otherwise Numba would compile a kernel twice."""
    x = mg.tensor(np.ones((4, 3), np.float32), requires_grad=True)
    labels = mg.tensor(np.array([0, 1, 2, 0]))

    def step():
        return mg.grad(F.cross_entropy(x, labels), x)

    step()
    mg.compile(step)()
    kernel = KERNELS["minigrad.kernels.softmax._label_cross_entropy_backward"]
    assert {signature[0] for signature in kernel.signatures} == {numba.float64}


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")  # type: ignore[attr-defined]
def test_a_step_that_compiles_counts_for_the_line_in_a_terminal(tmp_path, monkeypatch):
    """Generated code counts like a kernel; the line follows when both together take long."""
    begun = []
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache.LISTENER.message, "begin", lambda: begun.append("begin"))
    monkeypatch.setattr(cache.LISTENER.message, "end", lambda: begun.append("end"))
    step = mg.compile(lambda x: x * 7.0 - x / 3.0 + mg.exp(x * x - 5.0))
    step(np.ones(3))
    count = len(begun)
    assert count and begun.count("begin") == begun.count("end")
    step(np.ones(3))
    assert len(begun) == count
