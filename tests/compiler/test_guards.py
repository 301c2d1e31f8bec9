"""Guards tell threads and contexts apart, and cover what a step reads and nothing else.

Libraries are frozen, profilers go on, and elements of arrays are guarded if Python reads them.
Generated functions run as Python.
"""

import contextlib
import contextvars
import cProfile
import importlib
import sys
import threading
import time

import numpy as np
import pytest
from guarded import Rated, Scaled, X, agree

import minigrad as mg

pytestmark = pytest.mark.usefixtures("as_python")


# --- threads and contexts -----------------------------------------------------------------------

held = threading.local()
current = contextvars.ContextVar("current")


class Locals(threading.local):
    rate = 2.0


def through_local(x):
    return held.model(x) * getattr(held, "rate", 1.0)


def through_context(x):
    return current.get()(x)


def in_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    (result,) = found
    return result


def test_each_thread_has_its_own_state():
    compiled = mg.compile(through_local)

    def work(value):
        held.model = Scaled()
        held.model.scale = value
        agree(compiled, through_local)
        held.rate = 3.0
        agree(compiled, through_local)
        held.model.scale = value + 1
        agree(compiled, through_local)
        del held.rate
        agree(compiled, through_local)
        return compiled(X).data

    first, second = work(2.0), in_thread(lambda: work(7.0))
    np.testing.assert_array_equal(first, X * 3)
    np.testing.assert_array_equal(second, X * 8)
    agree(compiled, through_local)  # the first thread's again


def test_attributes_of_thread_locals_are_guarded():
    local = Locals()
    function = lambda x: x * local.rate  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    local.rate = 3.0
    agree(compiled, function)
    in_thread(lambda: agree(compiled, function))
    agree(compiled, function)


def test_each_context_has_its_own_state():
    compiled = mg.compile(through_context)

    def work(value):
        model = Scaled()
        model.scale = value
        current.set(model)
        agree(compiled, through_context)

    contexts = [contextvars.copy_context() for _ in range(2)]
    for context, value in zip(contexts, (2.0, 7.0), strict=True):
        context.run(work, value)
    for context in contexts:
        context.run(agree, compiled, through_context)
    with pytest.raises(LookupError):
        compiled(X)


# --- libraries, profilers -----------------------------------------------------------------------


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Yield an installed package of many functions."""
    place = tmp_path / "site-packages"
    package = place / "a_large_library"
    package.mkdir(parents=True)
    functions = "\n".join(
        f"def f{i}(x, c=None):\n    return g{i % 7} if c else f{(i + 1) % 3000}(x) * RATE{i}\n"
        f"RATE{i} = 2.0"
        for i in range(3000)
    )
    package.joinpath("__init__.py").write_text(
        functions + "\nclass Kind:\n    rate = 2.0\nRATE = 2.0\n"
        "def scaled(x, function=None):\n    return (function(x) if function else x) * RATE\n"
    )
    monkeypatch.syspath_prepend(str(place))
    yield importlib.import_module("a_large_library")
    del sys.modules["a_large_library"]


def test_libraries_are_frozen(library, executables):
    """Guards do not follow a library, however large, but follow what the user passes to it."""
    config = Rated()
    function = lambda x: library.scaled(x, lambda y: y * config.rate)  # noqa: E731
    compiled = mg.compile(function)
    agree(compiled, function)
    config.rate = 3.0
    agree(compiled, function)
    library.RATE = 5.0
    np.testing.assert_array_equal(compiled(X).data, X * 6)
    assert len(executables[-1].captures.guards) < 50


def test_guards_cover_what_runs(executables):
    """Guards cover the functions that run, not all that could."""
    names = {f"f{i}": None for i in range(300)}
    source = "\n".join(f"def f{i}(x):\n    return f{(i + 1) % 300}(x) * c.rate" for i in range(300))
    c = Rated()
    exec(source, names | {"c": c}, names)
    space = {**names, "c": c, "mg": mg}
    exec(source + "\ndef step(x):\n    return x * c.rate if x is not None else f0(x)", space)
    compiled = mg.compile(space["step"])
    agree(compiled, space["step"])
    assert len(executables[-1].captures.guards) < 50


@pytest.mark.parametrize("raising", [False, True])
def test_a_profiler_goes_on(raising):
    """The profiler sees what the step calls, and is still set afterwards."""
    entered = []

    def profiler(frame, event, arg):
        entered.append(frame.f_code.co_name)

    def seen_by_both(x):
        if raising:
            raise ValueError
        return x * 2.0

    compiled = mg.compile(seen_by_both)
    before = sys.getprofile()
    sys.setprofile(profiler)
    try:
        with contextlib.suppress(ValueError):
            compiled(X)
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(before)
    assert "seen_by_both" in entered


def test_a_step_is_traced_within_a_profile():
    function = lambda x: x * 2.0  # noqa: E731
    compiled = mg.compile(function)
    profile = cProfile.Profile()
    profile.enable()
    try:
        compiled(X)
        time.sleep(0)
    finally:
        profile.disable()
    agree(compiled, function)
    assert any("sleep" in str(entry.code) for entry in profile.getstats())


# --- elements of arrays -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda x, v: x * v[0],
        lambda x, v: x * (v * 2.0),
        lambda x, v: x * v.sum(),
        lambda x, v: x * v.astype(np.float64),
        lambda x, v: x * float(v[-1]),
        lambda x, v: x * 2.0 if v[0] > 1.0 else x,
    ],
)
def test_elements_that_python_reads_are_guarded(use):
    """The elements of an array that is changed in place between calls are guarded."""
    v = np.ones(3, np.float32)
    function = lambda x: use(x, v)  # noqa: E731
    compiled = mg.compile(function)
    for i in range(1, 4):
        v[...] = i
        agree(compiled, function)
    assert compiled.traces == 3


def test_elements_that_the_step_changes_are_read_in_each_call():
    """Each call sees the elements that the call before has left."""

    def make():
        count = np.zeros(1)

        def step(x):
            count[0] += 1.0
            return x * float(count[0])

        return step

    compiled, function = mg.compile(make()), make()
    agree(compiled, function)


def test_operands_are_not_traced_anew():
    v = np.ones(3)
    function = lambda x: x * v + v[::-1]  # noqa: E731
    compiled = mg.compile(function)
    for i in range(3):
        v[0] = i
        agree(compiled, function)
    assert compiled.traces == 1
