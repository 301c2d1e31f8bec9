"""Compiled calls hand large results over, share one block of memory, and let go of the rest."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad.compiler.runtime import backend
from minigrad.compiler.runtime.trace_cache import MOST_EXECUTABLES
from minigrad.errors import OutOfRangeError

X = np.arange(4, dtype=np.float32).reshape(2, 2)


def test_large_results_are_computed_where_the_caller_has_them(executables: Any) -> None:
    """Each result has its own array, which no later call writes; views and repeats have, too."""

    def several(x: Any) -> Any:
        y = x * 2.0
        return y, y, y.T, y.sum(), mg.exp(y)

    compiled = mg.compile(several)
    first, second = (np.full((200, 300), value) for value in (1.0, 2.0))
    compiled(first)
    (executable,) = executables
    assert (buffers := executable.buffer_bytes) < first.nbytes, buffers
    calls = [(x, compiled(x)) for x in (first, second, first)]
    for x, found in calls:
        for a, b in zip(found, several(mg.tensor(x)), strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    assert calls[-1][1][0].data.ctypes.data in executable.memory.places  # nothing was copied
    arrays = [y.data for _, found in calls for y in found]
    for i, a in enumerate(arrays):
        assert not any(np.shares_memory(a, b) for b in arrays[:i])
    again = compiled(compiled(second)[0])  # as an argument, it is not copied, nor written
    np.testing.assert_array_equal(again[0].data, 8.0)


def test_large_results_that_something_else_has_are_copied() -> None:
    """These are gradients, arguments and parameters; random results differ in each call."""
    w = mg.tensor(np.ones((200, 300)), requires_grad=True)

    @mg.compile
    def step(x: Any) -> Any:
        w.grad = None
        loss = (w * x).sum()
        loss.backward()
        return w.grad, F.dropout(x, 0.5), x, w

    x = np.full((200, 300), 3.0)
    step(x)
    one, two = step(x), step(x * 2)
    for a, b in zip(one, two, strict=True):
        assert not np.shares_memory(a.data, b.data)
    for a, b in zip((two[0].data, one[2].data, one[3].data), (w.grad.data, x, w.data), strict=True):
        assert not np.shares_memory(a, b)
    np.testing.assert_array_equal(one[0].data, x)
    np.testing.assert_array_equal(w.grad.data, x * 2)
    assert (one[1].data != two[1].data).any()


def test_a_large_result_of_a_refused_call_is_let_go(executables: Any) -> None:
    @mg.compile
    def chosen(x: Any, i: Any) -> Any:
        return x * 2.0, x[0].sum() + F.embedding(i, x).sum()

    x = np.ones((200, 300))
    chosen(x, np.array([1, 2]))
    with pytest.raises(OutOfRangeError):
        chosen(x, np.array([1, 200]))
    ((memory, program),) = [(each.memory, each.program) for each in executables]
    large = [v for v in program.results if memory.hands_over(v)]
    assert large and all(memory.find(v) is None for v in large)
    np.testing.assert_array_equal(chosen(x, np.array([1, 2]))[0].data, 2.0)


def test_a_refused_call_leaves_no_large_gradient() -> None:
    """A result that was such a gradient keeps the values of the call before."""
    w = mg.tensor(np.ones((256, 160), np.float32), requires_grad=True)

    @mg.compile
    def step(x: Any, labels: Any) -> Any:
        w.grad = None
        F.cross_entropy(x * w, labels).backward()
        return w.grad

    x, labels = np.ones((256, 160), np.float32), np.arange(256) % 160
    first, second = step(x, labels), step(x, labels)
    np.testing.assert_array_equal(first.data, second.data)
    labels[0] = 160
    with pytest.raises(OutOfRangeError):
        step(x, labels)
    assert w.grad is None
    np.testing.assert_array_equal(first.data, second.data)


def test_traces_of_many_shapes_share_one_block(executables: Any) -> None:
    """The block is as large as the largest trace needs, and the oldest traces go."""
    w = mg.tensor(np.ones((3, 4), np.float32), requires_grad=True)

    @mg.compile
    def step(x: Any) -> Any:
        w.grad = None
        loss = ((x @ w).tanh() ** 2).sum()
        loss.backward()
        return loss, w.grad

    lengths = [*range(1, 200), 3000, *range(200, 150, -1)]
    gradients = set()
    for n in lengths:
        x = np.full((n, 3), 0.1, np.float32)
        loss, g = step(x)
        y = np.tanh(x @ w.data)
        np.testing.assert_allclose(loss.data, (y * y).sum(), rtol=1e-5)
        np.testing.assert_allclose(g.data, x.T @ (2 * y * (1 - y * y)), rtol=1e-4)
        gradients.add(id(w.grad.data))  # type: ignore[union-attr]
    assert step.traces == MOST_EXECUTABLES < len(executables)
    assert len(gradients) == 1
    sizes = [executable.buffer_bytes for executable in executables]
    (block,) = {id(each.workspace.block): each.workspace.block for each in executables}.values()
    assert max(sizes) <= block.size < 2 * max(sizes)


def test_a_gradient_outlives_a_call_that_makes_another_thing() -> None:
    """Traces of one function share memory, but not that of gradients."""
    w = mg.tensor(np.ones(50, np.float32), requires_grad=True)

    @mg.compile
    def step(x: Any, what: str) -> Any:
        if what == "gradient":
            w.grad = None
            (w * x).sum().backward()
            return None
        y = ((x * 3.0).exp() + x).tanh().sum()
        return y * w.grad if what == "use" else y

    for k in range(3):
        x = np.full(50, 0.1 * k, np.float32)
        step(x, "gradient")
        step(np.full(70, 5.0, np.float32), "other")
        np.testing.assert_array_equal(w.grad.data, x)  # type: ignore[union-attr]
        expected = np.tanh(np.exp(x * 3) + x).sum() * x
        np.testing.assert_allclose(step(x, "use").data, expected, rtol=1e-5)


def test_modules_are_let_go() -> None:
    """They go with the compiled function that used them."""
    compiled = mg.compile(lambda x: (x + 12.25).exp().sum(0) * 7.5 - x)
    compiled(X)
    module, _ = backend.load(compiled.source, "<lambda>")
    assert vars(module)["__name__"] == compiled.path.stem
    gone = weakref.ref(compiled), weakref.ref(module)
    del compiled, module
    gc.collect()
    assert [made() for made in gone] == [None, None]
