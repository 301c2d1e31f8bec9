"""mg.primitive makes operations that are differentiated, explained, and run in compiled steps.

NumPy runs their forward there. What is wrong in a declaration or a vjp is an error that says so.
"""

import itertools

import numpy as np
import pytest
from leaves import leaf

import minigrad as mg
from minigrad import ops
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.explainer import evaluate
from minigrad.explainer.derive.evaluate import FUNCTIONS

NUMBERS = itertools.count()
X = np.array([0.3, -1.2, 2.0])


@pytest.fixture(autouse=True)
def table():
    """Keep a test's declarations from later tests, and those of others from the test."""
    before = dict(ops.TABLE)
    ops.TABLE.clear()
    ops.TABLE.update(ops.BUILTIN)
    yield
    ops.TABLE.clear()
    ops.TABLE.update(before)


def swish(formula="a / (1 + exp(-a))"):
    def vjp(g, y, a):
        s = mg.sigmoid(a)
        return (g * (s + y * (1.0 - s)),)

    return mg.primitive("swish", lambda a: a / (1.0 + np.exp(-a)), vjp, formula)


def scaled():
    """Declare a primitive with two broadcast inputs, a rule for each, and an attribute."""
    rules = (lambda g, _y, _a, b, by: g * b * by, lambda g, _y, a, _b, by: g * a * by)
    return mg.primitive("scaled", lambda a, b, by: a * b * by, rules, formula="a * b * by")


def test_it_takes_what_functions_of_minigrad_take():
    f = swish()
    assert isinstance(f([1.0, 2.0]), mg.Tensor)
    assert f(np.float32([1, 2])).dtype == np.float32
    assert f(mg.tensor([1, 2])).dtype == np.float32
    assert f.__name__ == "swish" and "a / (1 + exp(-a))" in f.__doc__


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_equal_finite_differences(order):
    assert mg.gradcheck(swish(), [leaf(X)], order=order)
    by = scaled()
    for shapes in (((2, 3), (3,)), ((), (2,)), ((2, 1), (1, 3))):
        inputs = [leaf(np.random.default_rng(i).uniform(1, 2, s)) for i, s in enumerate(shapes)]
        assert mg.gradcheck(lambda a, b: by(a, b, by=3.0) ** 2, inputs, order=order)


@pytest.mark.parametrize("formula", ["a / (1 + exp(-a))", None])
def test_it_is_explained(formula):
    x = leaf(X)
    loss = (swish(formula)(x) ** 2).sum()
    explained = mg.explain(loss, names={"x": x, "loss": loss})
    loss.backward()
    assert ("swish(x)" in str(explained)) == (formula is None)
    found = evaluate(str(explained), explained.given)
    np.testing.assert_allclose(found["loss"], loss.data, rtol=1e-14)
    np.testing.assert_allclose(found["g_x"], x.grad.data, rtol=1e-14)


def test_a_formula_may_call_another_primitive():
    swish()
    twice = mg.primitive(
        "twice_swish", lambda a: 2 * a / (1.0 + np.exp(-a)), None, formula="2 * swish(a)"
    )
    x = leaf(X)
    loss = (twice(x) * x).sum()
    explained = mg.explain(loss, names={"x": x, "loss": loss})
    found = evaluate(str(explained), explained.given)
    np.testing.assert_allclose(found["loss"], loss.data, rtol=1e-14)


def test_compiled_steps_leave_it_to_numpy():
    """NumPy runs the derivative, too, if it is written with the primitive; the rest is compiled."""
    f = swish()

    def step(x):
        loss = (f(x * 2.0) ** 2).sum()
        return loss, *mg.grad(loss, [x])

    compiled = mg.compile(step)
    with pytest.warns(RuntimeWarning, match="swish cannot be compiled, and runs by NumPy between"):
        compiled(leaf(X))
    for x in (X, X * 3):
        for a, b in zip(compiled(leaf(x)), step(leaf(x)), strict=True):
            np.testing.assert_allclose(a.data, b.data, rtol=1e-14)


@pytest.mark.filterwarnings("ignore:compile. inverse cannot be compiled")
def test_a_forward_that_zeros_would_stop_compiles():
    """A trace asks for the shape of the result, with arrays that have an inverse."""
    inverse = mg.primitive(
        "inverse", np.linalg.inv, (lambda g, y, _a: -(y.T @ g @ y.T),), "inverse(a)"
    )
    a = np.array([[2.0, 1.0], [0.5, 3.0]])
    compiled = mg.compile(lambda a: inverse(a @ a))
    for x in (a, a + 1.0):
        np.testing.assert_allclose(compiled(x).data, np.linalg.inv(x @ x), rtol=1e-12)


def test_an_ordinary_backward_pass_gets_arrays():
    """This holds although functions of minigrad, which the vjp calls, return Tensors."""
    y = swish()(X)
    (gx,) = ops.TABLE["swish"].vjp(np.ones(3), y.data, X, wrt=[0])
    assert type(gx) is np.ndarray


def test_a_result_never_shares_memory_with_an_input():
    for forward in (lambda a: a, lambda a: a.T):
        same = mg.primitive(f"same_{next(NUMBERS)}", forward, lambda g, y, a: (g,))
        x = mg.tensor(np.eye(2))
        assert not np.shares_memory(same(x).data, x.data)


# Formulas that have no value, or have lines that do not matter.
WITHOUT_VALUE = ["x = a", "", "# a", "a\nb", "a[0] = 1\na", "b = c = a\nb", "x += 1\na", "return a"]
HAS_NO_VALUE = (ArgumentError, "must end with an expression|'return' outside function")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("exp", np.exp, None), ArgumentError, "'exp' is minigrad's already; choose a name"),
        (("transpose", np.exp, None), ArgumentError, "'transpose' is minigrad's already"),
        (
            ("swish", np.exp, None),
            ArgumentError,
            "'swish' is your own already, .*custom, in s",
        ),
        (("lambda", np.exp, None), ArgumentError, "'lambda' is a keyword of Python, .* lambda_"),
        (("True", np.exp, None), ArgumentError, "'True' is a keyword of Python"),
        (("my op", np.exp, None), ArgumentError, "'my op' is no identifier"),
        ((np.exp, np.exp, None), DtypeError, "the name must be a str, got <ufunc"),
        (("own", 3, None), DtypeError, "'own': forward must be a function, got 3"),
        (("own", np.exp, 3), DtypeError, "vjp must be a function written in Python, .* got 3"),
        (("own", np.exp, (np.exp,)), DtypeError, "vjp must be a function .* got <ufunc 'exp'>"),
        (("own", np.exp, None, 3), DtypeError, "formula must be a str, .* got 3"),
        (("own", np.exp, None, "a +"), ArgumentError, "formula 'a \\+' is no expression"),
        (("own", np.exp, None, "a\0"), ArgumentError, "is no expression of Python"),
        *((("own", np.exp, None, text), *HAS_NO_VALUE) for text in WITHOUT_VALUE),
    ],
)
def test_a_declaration_that_is_wrong(arguments, error, message):
    swish()
    before = dict(ops.TABLE)
    with pytest.raises(error, match=message):
        mg.primitive(*arguments)
    assert before == ops.TABLE


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [(3, DtypeError, "got 3"), *((text, *HAS_NO_VALUE) for text in WITHOUT_VALUE)],
)
def test_a_formula_function_that_returns_something_else(given, error, message):
    f = mg.primitive("own", np.exp, lambda g, y, a: (g * y,), lambda a: given)
    with pytest.raises(error, match=f"^primitive 'own': formula .*{message}"):
        mg.explain(f(leaf(X)).sum())


@pytest.mark.parametrize("formula", ["m = 2 * a\nm + m", lambda a: "m = 2 * a\nm + m"])
def test_a_formula_may_name_its_parts(formula):
    f = mg.primitive("own", lambda a: 4 * a, lambda g, y, a: (g * 4,), formula)
    x = leaf(X)
    loss = f(x).sum()
    explained = mg.explain(loss, names={"x": x, "loss": loss})
    found = evaluate(str(explained), explained.given)
    np.testing.assert_allclose(found["loss"], loss.data, rtol=1e-14)


def wrong(vjp):
    return mg.primitive("wrong", lambda *arrays: sum(arrays), vjp)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    ("vjp", "error", "message"),
    [
        (lambda g, y, a: (g, g), ArgumentError, "returned 2 cotangents, expected .* 1 inputs"),
        (lambda g, y, a: g, ArgumentError, "returned (ndarray|Tensor), expected a tuple"),
        (lambda g, y, a: None, ArgumentError, "returned NoneType, expected a tuple"),
        (lambda g, y, a: (g[1:],), ShapeError, r"shape \(2,\) for input 0, expected \(3,\)"),
        ((lambda g, y, a: g[:, None] + g,), ShapeError, r"shape \(3, 3\) for input 0"),
        ((lambda g, y, a: "g",), DtypeError, "returned str for input 0, expected a Tensor"),
        (lambda g, y: (g,), ArgumentError, "does not take g, y, 1 inputs and the attributes"),
    ],
)
def test_a_vjp_that_is_wrong(vjp, error, message, create_graph):
    x = leaf(X)
    y = wrong(vjp)(x)
    with pytest.raises(error, match=f"^wrong: .*{message}"):
        mg.grad(y.sum(), x, create_graph=create_graph)


WRONG_DTYPES = {
    "complex128": lambda g: g * 1j,
    "object": lambda g: np.full(g.shape, np.nan, object),
    "<U1": lambda g: np.full(g.shape, "1"),
    "datetime64": lambda g: np.full(g.shape, "2000-01-01", "M8[s]"),
    "float16": lambda g: g.astype(np.float16),
}


@pytest.mark.parametrize("dtype", WRONG_DTYPES)
@pytest.mark.parametrize("whole", [True, False])
def test_cotangents_of_other_dtypes_are_refused(dtype, whole):
    """This holds for one rule for all inputs as for a rule for each."""
    make = WRONG_DTYPES[dtype]
    each = (lambda g, y, a, b: g, lambda g, y, a, b: make(g))
    both = wrong((lambda g, y, a, b: (g, make(g))) if whole else each)
    x = leaf(X)
    message = f"^wrong: its vjp's cotangent for input 1: .*{dtype}.* is not supported; convert to"
    with pytest.raises(DtypeError, match=message):
        both(x, x).sum().backward()
    assert x.grad is None
    zero = wrong((lambda g, y, a: np.zeros(3, np.complex128),))
    with pytest.raises(DtypeError, match="input 0: complex128"):
        mg.grad(zero(x).sum(), x, create_graph=True)


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", ">f8"])
def test_cotangents_of_numbers_are_cast(dtype):
    f = wrong((lambda g, y, a: np.ones(a.shape, dtype),))
    x = leaf(X)
    f(x).sum().backward()
    assert x.grad.tolist() == [1.0] * 3 and x.grad.dtype == np.float64


def test_the_wrong_number_of_inputs():
    f = wrong((lambda g, y, a: g,))
    with pytest.raises(ArgumentError, match="wrong: got 2 inputs, but its vjp has 1 rules"):
        f(leaf(X), leaf(X))


def test_a_vjp_in_numpy_serves_only_a_first_derivative():
    """The error says why, if the backward pass is recorded."""
    f = mg.primitive("numpys", np.sin, lambda g, y, a: (g * np.cos(a),))
    x = leaf(X)
    np.testing.assert_allclose(mg.grad(f(x).sum(), x)[0].data, np.cos(X))
    with pytest.raises(DtypeError, match=r"numpys: its vjp cannot be recorded, .* not of NumPy"):
        mg.grad(f(x).sum(), x, create_graph=True)


def test_a_forward_that_returns_no_array():
    f = mg.primitive("texts", lambda a: "a", None)
    with pytest.raises(DtypeError, match="texts: its forward returned str, expected an array"):
        f(X)


def test_names_that_formulas_know_are_taken():
    for name in FUNCTIONS:
        with pytest.raises(ArgumentError, match=f"'{name}' is minigrad's already"):
            mg.primitive(name, np.exp, None)


@pytest.mark.parametrize("dtype", [np.complex128, np.float16, object, "U3"])
def test_results_of_other_dtypes_are_refused(dtype):
    f = mg.primitive("odd", lambda a: np.zeros(a.shape, dtype), None)
    with pytest.raises(DtypeError, match=r"^odd: .* is not supported; convert to float32"):
        f(X)


def in_place(a):
    a += 1.0
    return a


@pytest.mark.filterwarnings("ignore:compile. more cannot be compiled")
def test_a_forward_that_overwrites_its_input_works_on_a_copy():
    """The tensor keeps its elements, and the vjp gets them."""
    f = mg.primitive("more", in_place, lambda g, y, a: (g * a * y,))
    x = leaf(X)
    given = X.copy()
    for function in (f, mg.compile(lambda x: f(x))):
        y = function(x)
        np.testing.assert_array_equal(y.data, X + 1.0)
        np.testing.assert_array_equal(x.data, X)
        function(given)
        np.testing.assert_array_equal(given, X)
    np.testing.assert_array_equal(mg.grad(f(x).sum(), x)[0].data, X * (X + 1.0))


@pytest.mark.parametrize("which", ["g", "y", "a"])
def test_a_vjp_that_overwrites_what_it_gets_is_told(which):
    def vjp(g, y, a):
        array = {"g": g, "y": y, "a": a}[which]
        array *= 2.0
        return (g * 1.0,)

    f = mg.primitive("doubling", lambda a: a * 2.0, vjp)
    x = leaf(X)
    y = f(x)
    with pytest.raises(ArgumentError, match=r"^doubling: its vjp changes .* in place: .* as g = g"):
        y.sum().backward()
    np.testing.assert_array_equal((x.data, y.data), (X, X * 2.0))


@pytest.mark.parametrize("result", [lambda g: g, lambda g: g[::-1], lambda g: g * 1.0])
def test_gradients_are_arrays_of_their_own(result):
    f = mg.primitive("passing", lambda a: a * 1.0, lambda g, y, a: (result(g),))
    x, start = leaf(X), mg.tensor(X)
    f(x).backward(start)
    assert x.grad.data.flags.writeable and not np.shares_memory(x.grad.data, start.data)
    np.testing.assert_array_equal(x.grad.data, result(X))


PYTORCH = {
    "g.data *": lambda g, y, a: (g.data * 2.0,),
    "g.data": lambda g, y, a: (g.data,),
    "g.detach()": lambda g, y, a: (g.detach() * 2.0,),
    "g.numpy()": lambda g, y, a: (mg.tensor(g.numpy()) * 2.0,),
}


@pytest.mark.parametrize("habit", PYTORCH)
def test_a_vjp_that_unwraps_what_it_gets_is_told(habit):
    f = mg.primitive("unwrapped", lambda a: a * 2.0, PYTORCH[habit])
    x = leaf(X)
    with pytest.raises(DtypeError, match=r"^unwrapped: its vjp .*(of minigrad|expected a Tensor)"):
        f(x).sum().backward()
    assert x.grad is None


def test_a_recorded_vjp_that_returns_an_array_is_told():
    """Derivatives of higher order would be those of a constant."""
    f = mg.primitive("thrice", lambda a: a**3, lambda g, y, a: (3.0 * (g * a * a).data,))
    x = leaf(X)
    with pytest.raises(DtypeError, match=r"^thrice: its vjp returned an array for input 0"):
        mg.grad(f(x).sum(), x, create_graph=True)
    zero = mg.primitive("stairs", np.floor, lambda g, y, a: (np.zeros(a.shape),))
    assert mg.grad(zero(x).sum(), x, create_graph=True)[0].tolist() == [0.0, 0.0, 0.0]


def test_formulas_know_the_defaults_of_attributes():
    f = mg.primitive(
        "power_of",
        lambda a, by=2.0, *, times=3.0: times * a**by,
        lambda g, y, a, by=2.0, times=3.0: (g * (times * by) * a ** (by - 1.0),),
        "times * a ** by",
    )
    x = leaf(np.abs(X))
    for attributes in ({}, {"by": 3.0}, {"times": 0.5}):
        loss = f(x, **attributes).sum()
        explained = mg.explain(loss, names={"x": x, "loss": loss})
        found = evaluate(str(explained), explained.given)
        np.testing.assert_allclose(found["loss"], loss.data, rtol=1e-14)
        assert "times" not in str(explained)


# --- attributes and names in compiled steps -------------------------------------------------------


@pytest.mark.filterwarnings("ignore:compile. copy cannot be compiled")
@pytest.mark.parametrize("count", [1, 2])
def test_a_primitive_may_have_the_name_of_an_update(count):
    """minigrad's own COPY is an update of another kind."""
    ones = (lambda g, y, *inputs: g * 2.0,) * count
    mine = mg.primitive("copy", lambda *arrays: 2.0 * sum(arrays), ones)
    given = [X * (i + 1.0) for i in range(count)]
    compiled = mg.compile(lambda *inputs: mine(*inputs) * 1.0)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(*given).data, 2.0 * sum(given))


class Factor:
    """A factor that its text does not tell."""

    def __init__(self, by):
        self.by = by

    def __repr__(self):
        return "a factor"


@pytest.mark.filterwarnings("ignore:compile. scaled_by cannot be compiled")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((np.arange(2000.0),), (np.where(np.arange(2000) == 1000, 5.0, np.arange(2000.0)),)),
        (Factor(2.0), Factor(5.0)),
        ([Factor(2.0)], [Factor(5.0)]),
        ({"by": 2.0}, {"by": 5.0}),
        (2.0, 2),
        ((1.0, slice(0, 2.0)), (1.0, slice(0, 2))),
    ],
    ids=["arrays", "objects", "in a list", "dicts", "types of numbers", "slices"],
)
def test_calls_with_attributes_that_differ_are_not_merged(first, second):
    """Their text may be the same; NumPy, for one, shortens that of large arrays."""

    def forward(a, by):
        by = by[-1] if isinstance(by, (tuple, list)) else by
        by = by.stop if isinstance(by, slice) else by["by"] if isinstance(by, dict) else by
        by = by.by if isinstance(by, Factor) else by
        return a * np.sum(by) + isinstance(by, int)

    f = mg.primitive("scaled_by", forward, lambda g, y, a, by: (g,))
    step = lambda x: f(x, by=first) - f(x, by=second) * 3.0  # noqa: E731
    compiled = mg.compile(step)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(X).data, step(mg.tensor(X)).data)


@pytest.mark.filterwarnings("ignore:compile. weighted cannot be compiled")
@pytest.mark.parametrize("weights", [[2.0, 3.0], np.array([2.0, 3.0])], ids=["list", "array"])
def test_attributes_are_as_they_were_at_the_call(weights):
    """A step may change a list or an array afterwards, before backward or another call."""
    f = mg.primitive(
        "weighted", lambda a, w: a * w[0], lambda g, y, a, w: (g * float(w[0]),), "a * w[0]"
    )

    def step(x):
        mine = weights.copy()
        first = f(x, w=mine)
        mine[0] = 5.0
        loss = (first * f(x, w=mine)).sum()
        return loss, mg.grad(loss, x)[0]

    x = leaf(X)
    compiled = mg.compile(step)
    for function in (step, compiled, compiled):
        loss, dx = function(x)
        np.testing.assert_allclose(loss.data, (10.0 * X * X).sum(), rtol=1e-14)
        np.testing.assert_allclose(dx.data, 20.0 * X, rtol=1e-14)


# --- declared again -------------------------------------------------------------------------------

CELL = """
thing = mg.primitive("thing", lambda a: a * {by}, lambda g, y, a: (g * {by},), "a * {by}")
"""


def run_cell(space, by, line=1):
    """Run a cell as a notebook does: in one module, with the line in the name of its code."""
    code = compile(CELL.format(by=by), "<cell>", "exec")
    exec(code.replace(co_name=f"<cell line: {line}>"), space)


@pytest.mark.filterwarnings("ignore:compile. thing cannot be compiled")
def test_a_cell_that_runs_again_replaces_its_primitive():
    """Records and functions of the old one keep it; what names the new one is traced again."""
    space = {"mg": mg, "__name__": "__main__"}
    run_cell(space, 2.0)
    exec("step = mg.compile(lambda x: thing(x) * 1.0)", space)
    x, old, step = leaf(X), space["thing"], space["step"]
    kept = mg.compile(lambda x: old(x) * 1.0)
    y = old(x)
    for function in (step, kept):
        np.testing.assert_array_equal(function(X).data, X * 2.0)
    run_cell(space, 5.0, line=3)
    np.testing.assert_array_equal(space["thing"](X).data, X * 5.0)
    np.testing.assert_array_equal(step(X).data, X * 5.0)
    for function in (old, kept):
        np.testing.assert_array_equal(function(X).data, X * 2.0)
    loss = (y * space["thing"](x)).sum()
    explained = mg.explain(loss, names={"x": x, "loss": loss})
    found = evaluate(str(explained), explained.given)
    np.testing.assert_allclose(found["loss"], loss.data, rtol=1e-14)
    np.testing.assert_allclose(found["g_x"], mg.grad(loss, x)[0].data, rtol=1e-14)


def test_only_the_same_place_declares_again():
    run_cell({"mg": mg, "__name__": "one"}, 2.0)
    with pytest.raises(ArgumentError, match="'thing' is your own already, declared by one; only"):
        run_cell({"mg": mg, "__name__": "two"}, 5.0)
    first, again = swish(), swish()
    np.testing.assert_array_equal(first(X).data, again(X).data)
