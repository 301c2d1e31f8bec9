"""Compiled functions tell calls apart by their arguments, and refuse some with an error.

Generated functions run as Python.
"""

import array
import collections
import ctypes
import dataclasses
import keyword
import os
import re
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad.compiler.runtime.trace_cache import MOST_ALIKE
from minigrad.engine.tracer import tracing
from minigrad.errors import DtypeError, TraceError

pytestmark = pytest.mark.usefixtures("as_python")


X = np.arange(1.0, 4.0)


@pytest.mark.parametrize("kind", [float, np.float32, np.float64, complex, lambda x: (x, 1)])
def test_static_zeros_are_two_and_nans_are_one(kind):
    """0.0 and -0.0 are two arguments, and all NaNs are one."""
    first = lambda n: (n[0] if isinstance(n, tuple) else n).real  # noqa: E731
    f = mg.compile(lambda x, n: x * float(first(n)))
    for n in (0.0, -0.0, 0.0, -0.0, float("nan"), float("nan"), np.nan):
        got = f(X, kind(n)).data
        np.testing.assert_array_equal(got, X * n)
        np.testing.assert_array_equal(
            np.signbit(got[~np.isnan(got)]), np.signbit((X * n)[X * n == 0])
        )
    assert f.traces in (3, 4)  # a NaN's sign may tell


@pytest.mark.parametrize(
    "wrap",
    [np.matrix, lambda a: np.ma.array(a, mask=[[0, 1]])],
    ids=["matrix", "masked"],
)
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_arrays_of_other_classes_are_read_as_arrays(wrap):
    """They are read as plain arrays, in the calls after the traced one as well."""
    double = mg.compile(lambda x: x * 2)
    for _ in range(3):
        np.testing.assert_array_equal(double(wrap([[1.0, 2.0]])).data, [[2.0, 4.0]])


def test_infinities_are_numpys_where_nothing_is_compiled():
    """Results are those of NumPy, where Python's functions of numbers would raise."""
    code = (
        "import numpy as np, minigrad as mg\n"
        "f = mg.compile(lambda x: (mg.exp(x), mg.log(x), mg.sqrt(x)))\n"
        "x = np.array([1e4, 0.0, -1.0])\n"
        "for _ in range(2): found = [y.data for y in f(x)]\n"
        "np.testing.assert_array_equal(np.isinf(found), [[1, 0, 0], [0, 1, 0], [0, 0, 0]])\n"
        "np.testing.assert_array_equal(np.isnan(found), [[0, 0, 0], [0, 0, 1], [0, 0, 1]])\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def test_a_static_argument_that_always_changes_is_told_of(executables):
    """The warning comes once, and only the latest traces are kept."""
    f, count = mg.compile(lambda x, i: x * i[0]), MOST_ALIKE + 24
    with pytest.warns(RuntimeWarning, match=f"traced more than {MOST_ALIKE} times") as caught:
        for i in range(count):
            np.testing.assert_array_equal(f(X, (i,)).data, X * i)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert f.traces == MOST_ALIKE
    f(X, (count - 1,)), f(X, (count - MOST_ALIKE,))
    assert len(executables) == count  # the latest traces are there still


def test_traces_for_other_shapes_are_not_counted():
    f = mg.compile(lambda x, i: x * i)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(MOST_ALIKE + 8):
            f(np.ones(n), 1)
    assert f.traces == MOST_ALIKE + 8


def test_requires_grad_of_an_argument_tells():
    """A trace for an argument that is a constant does not run for one that requires grad."""
    f = mg.compile(lambda x: mg.grad((x * x).sum(), [x])[0] if x.requires_grad else x * 1.0)
    x = mg.tensor(X)
    for requires_grad in (False, True, False, True):
        x.requires_grad = requires_grad
        np.testing.assert_array_equal(f(x).data, X * (2 if requires_grad else 1))


def test_arrays_for_an_inner_compiled_function_are_tensors():
    """The inner function sees Tensors, whichever way the arrays are passed."""
    inner = mg.compile(lambda a, *, b: a.exp() + b.exp())
    outer = mg.compile(lambda x: inner(X, b=X) * x)
    for x in (X, X + 1):
        np.testing.assert_allclose(outer(x).data, 2 * np.exp(X) * x)


class Wrapped:
    def __init__(self, data):
        self.data = data

    def __array__(self, dtype=None, copy=None):
        return np.array(self.data, dtype)


class Interface:
    def __init__(self, data):
        self.data = np.array(data)

    __array_interface__ = property(lambda self: self.data.__array_interface__)


def torch_tensor(values):
    return pytest.importorskip("torch").tensor(values, dtype=pytest.importorskip("torch").float64)


LIKE = {
    "memoryview": lambda a: memoryview(np.array(a)),
    "memoryview of bytes": lambda a: memoryview(np.array(a).tobytes()).cast("d"),
    "read-only memoryview": lambda a: memoryview(np.array(a).tobytes()).toreadonly().cast("d"),
    "array.array": lambda a: array.array("d", a),
    "ctypes": lambda a: (ctypes.c_double * len(a))(*a),
    "__array__": Wrapped,
    "__array_interface__": Interface,
    "torch": torch_tensor,
    "matrix": lambda a: np.asmatrix(a)[0, :],
    "masked": np.ma.array,
    "big-endian": lambda a: np.array(a, ">f8"),
    "not contiguous": lambda a: np.repeat(a, 2)[::2],
    "big-endian in __array__": lambda a: Wrapped(np.array(a, ">f8")),
}


@pytest.mark.parametrize("kind", LIKE)
@pytest.mark.parametrize("way", ["positional", "keyword", "inside another"])
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_what_is_like_an_array_is_taken_as_one(kind, way):
    """It is taken as an array: each call reads its values, and other values cause no new trace."""
    if (kind, way) == ("not contiguous", "inside another"):
        pytest.skip("what a trace captures has to lie in C order")
    compiled = mg.compile(lambda x: x * 2.0 + 1.0)
    call = compiled
    if way == "keyword":
        call = lambda x: compiled(x=x)  # noqa: E731
    elif way == "inside another":
        call = lambda x: mg.compile(lambda y: compiled(x) + y * 0.0)(np.zeros(3))  # noqa: E731
    for k in (1.0, 1.0, 2.0, 3.0):
        values = [k, 2.0 * k, 3.0 * k]
        found = call(LIKE[kind](values)).data
        np.testing.assert_array_equal(found.reshape(-1), np.array(values) * 2.0 + 1.0)
    assert compiled.traces == (0 if way == "inside another" else 1)


def test_an_array_like_is_read_in_each_call():
    values = array.array("d", [1.0, 2.0])
    compiled = mg.compile(lambda x: x * 2.0)
    for values[1] in (2.0, 3.0, 4.0):
        np.testing.assert_array_equal(compiled(values).data, [2.0, values[1] * 2.0])


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", [repr, str, lambda x: f"{x}", "{}".format, print], ids=range(5))
def test_the_text_of_a_tensor_is_its_value(text):
    """A compiled step may not show it; another trace, and eager code, may."""
    outside = mg.tensor(X)
    for looked in (lambda x: x, lambda x: x.exp(), lambda x: outside):
        with pytest.raises(TraceError, match=r"the text of a Tensor .* looks at a value"):
            mg.compile(lambda x, looked=looked: (text(looked(x)), x.exp())[1])(X)
    w = mg.tensor(X, requires_grad=True)
    loss = (w * w).sum()
    with tracing(types.SimpleNamespace(runs_again=False)):
        text(loss)
    text(loss)


def look(x):
    return float(x)  # this line is named


@pytest.mark.parametrize("way", [look, lambda x: np.array(x), lambda x: np.argsort(x)])
def test_a_look_at_a_value_is_told_with_its_line(way):
    """The error names the line of the user's code, also where NumPy reads the value."""
    line = way.__code__.co_firstlineno + (way is look)
    with pytest.raises(TraceError, match=rf"in {re.escape(__file__)}, line {line}, looks at"):
        mg.compile(lambda x: (way(x), x * 2)[1])(X[:1])


def test_a_refused_step_has_drawn_nothing():
    mg.manual_seed(0)
    expected = [F.dropout(mg.tensor(X), 0.5).tolist() for _ in range(3)]

    def step(x):
        y = F.dropout(x, 0.5)
        return y * (y.sum().item() if looks else 1.0)

    mg.manual_seed(0)
    compiled, looks = mg.compile(step), True
    got = [F.dropout(mg.tensor(X), 0.5).tolist()]
    with pytest.raises(TraceError, match="looks at a value"):
        compiled(X)
    looks = False
    got += [compiled(X).tolist(), compiled(X).tolist()]
    assert got == expected


def test_a_step_that_seeds_is_refused():
    mg.manual_seed(0)
    expected = F.dropout(mg.tensor(np.ones(50)), 0.5).tolist()
    mg.manual_seed(0)
    with pytest.raises(TraceError, match=r"mg\.manual_seed, in .*, line .* seed before the step"):
        mg.compile(lambda x: (mg.manual_seed(3), F.dropout(x, 0.5))[1])(X)
    assert F.dropout(mg.tensor(np.ones(50)), 0.5).tolist() == expected


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (([1], X), {}, "a is a list; put"),
        ((1, (2, (X, 3))), {}, "b has a ndarray in it; put"),
        ((1, (2, memoryview(b"abc"))), {}, "b has a memoryview in it; put"),
        ((1, (Wrapped([1.0]), 3)), {}, "b has a Wrapped in it; put"),
        (({1}, 2), {}, "a is a set; put"),
        ((1, 2, {}), {"named": ([],)}, "rest is a dict, named has a list in it; put"),
    ],
    ids=range(6),
)
def test_the_argument_that_cannot_be_hashed_is_named(args, kwargs, message):
    f = mg.compile(lambda a, b, *rest, named=None: 0)
    with pytest.raises(DtypeError, match=message):
        f(*args, **kwargs)


class Unreadable:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("it is elsewhere")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            Unreadable(),
            r"an argument is a .*\.Unreadable, which .*: it is elsewhere; pass a Tensor",
        ),
        (Wrapped(["text"]), r"a .*\.Wrapped, which .* not supported; convert.* pass a Tensor"),
        (memoryview(b"abc").cast("c"), r"a builtins\.memoryview, which cannot be read as an array"),
    ],
    ids=["raises", "texts", "characters"],
)
def test_array_likes_that_cannot_be_read_are_refused(x, message):
    compiled = mg.compile(lambda x: 0)
    for _ in range(2):
        with pytest.raises(DtypeError, match=message):
            compiled(x)


# --- names, equality and results -----------------------------------------------------------------


Pair = collections.namedtuple("Pair", "one two")


@pytest.mark.parametrize(
    "made",
    [
        lambda x: Pair(x * 2, [x + 1, "text"]),
        lambda x: {"one": x * 2, "two": (x + 1, None)},
        lambda x: collections.OrderedDict(two=x * 2, one=x + 1),
        lambda x: collections.defaultdict(list, one=x * 2),
    ],
    ids=["namedtuple", "dict", "OrderedDict", "defaultdict"],
)
def test_results_are_of_the_class_that_was_returned(made):
    """Each call returns new containers."""
    compiled, wanted = mg.compile(made), made(mg.tensor(np.full(3, 5.0)))
    first, *others = [compiled(np.full(3, value)) for value in (1.0, 5.0, 5.0)]
    for found in others:
        assert type(found) is type(wanted) and repr(found) == repr(wanted) != repr(first)
    assert others[0] is not others[1]


@pytest.mark.exhaustive
def test_arguments_may_have_any_name():
    """A name may be one that generated code uses, such as that of an index or a batch."""
    source = """
def step({0}, {1}):
    h = (x * 2.0 + {0}).sum(1) + {0}[0].sum() + mg.concat([{0}, {0}], 0).sum()
    return (h * {1}).mean() + mg.exp({0})[1:, {2}].sum()
"""
    rng = np.random.default_rng(0)
    given = x, y = rng.standard_normal((6, 3)), rng.standard_normal(6)
    index = np.array([1, 0])

    def made(*names):
        found = {"mg": mg, "x": mg.tensor(rng.standard_normal(3)), "index": index}
        exec(source.format(*names, "index"), found)
        return mg.compile(found["step"]), found["step"]

    first = made("a", "b")[0]
    first(*given), first.epoch(*given, batch_size=3)
    words = {w for w in re.findall(r"\w+", first.source) if w.isidentifier()}
    words -= {*keyword.kwlist, "mg", "x", "h", "index", "b"}
    assert {"i", "i0", "i1", "rows", "turn", "values", "step", "epoch", "places"} <= words
    for word in sorted(words):
        for names in ((word, "b"), ("b", word)):
            compiled, eager = made(*names)
            compiled(*given)
            np.testing.assert_allclose(
                compiled(*given).data, eager(*map(mg.tensor, given)).data, rtol=1e-12
            )
            losses = compiled.epoch(*given, batch_size=3).data
            wanted = [eager(mg.tensor(x[k : k + 3]), mg.tensor(y[k : k + 3])) for k in (0, 3)]
            np.testing.assert_allclose(losses, [w.item() for w in wanted], rtol=1e-12)


@dataclasses.dataclass(frozen=True)
class Scaled:
    scale: float
    other: float = dataclasses.field(default=1.0, compare=False)


class Named:
    """A Named is equal to every Named of its name."""

    def __init__(self, name, scale):
        self.name, self.scale, self.other = name, scale, 1.0

    def __eq__(self, other):
        return isinstance(other, Named) and self.name == other.name

    def __hash__(self):
        return hash(self.name)


def test_static_arguments_that_are_equal_are_told_apart():
    compiled = mg.compile(lambda x, c: x * (c.scale * c.other))
    x = np.arange(3)
    for c in (Scaled(1), Scaled(1.0), Scaled(1, 2), Scaled(1, 3), Named("a", 2), Named("a", 3)):
        for _ in range(2):
            found, wanted = compiled(x, c).data, x * (c.scale * c.other)
            assert found.dtype == (np.float32 if wanted.dtype.kind == "f" else wanted.dtype)
            np.testing.assert_array_equal(found, wanted)
    before = compiled.traces
    compiled(x, Scaled(1, 3))
    assert compiled.traces == before


def test_any_name_of_a_keyword_is_taken():
    """Python reads \ufb01 as fi; other keys are no names at all, or more than a line of source."""
    t = {"\ufb01": mg.tensor([1.0, 2.0]), "fi": mg.tensor([10.0, 20.0])}
    t |= {name: mg.tensor([i, 1.0]) for i, name in enumerate(["\u00b2", "a\nb", "\ud800", "a\0b"])}

    def step(x, **named):
        total = x * t["\ufb01"] + t["fi"]
        for name in t:
            total = total * 2.0 + t[name] * named["\ufb01"]
        return total

    step.__name__ = 'a"""b\\N{x}\ud800\0'
    compiled = mg.compile(step)
    for x in (np.ones(2), np.full(2, 3.0)):
        named = {"\ufb01": x, "fi": x + 1.0, "\uff46loat64": x + 2.0}
        found, wanted = compiled(x, **named), step(mg.tensor(x), **named)
        np.testing.assert_array_equal(found.data, wanted.data)


class Attributed(dict):
    def __init__(self, **items):
        super().__init__(**items)
        self.__dict__ = self


@pytest.mark.parametrize("kind", [Attributed, type("Own", (dict,), {}), collections.Counter])
def test_results_that_cannot_be_made_anew_are_refused(kind):
    """Attributes of such results would be those of the trace."""
    with pytest.raises(TraceError, match=f"returns a {kind.__name__}; .* outside"):
        mg.compile(lambda x: kind(y=x * 2))(X)


def test_a_call_within_a_call_shares_no_memory(monkeypatch):
    """A call that interrupts another, as a signal handler does, uses none of the other's memory."""
    compiled = mg.compile(lambda x: x * 2.0 + 1.0)
    large, other = np.ones((200, 200)), np.zeros((200, 200))
    compiled(large)
    executable = compiled._latest()
    within, code = [], executable._entries["step"]

    def interrupted(*given):
        within.append(compiled(other))
        return code(*given)

    monkeypatch.setitem(executable._entries, "step", interrupted)
    executable._rewrite()
    found = compiled(large)
    np.testing.assert_array_equal(found.data, 3.0)
    np.testing.assert_array_equal(within[0].data, 1.0)
    assert len(within) == 1
