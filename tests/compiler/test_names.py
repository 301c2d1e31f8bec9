"""Values and generated code have the field's names: dx for the gradient of x."""

import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F

pytestmark = pytest.mark.usefixtures("as_python")

X = np.random.default_rng(0).standard_normal((4, 3))
LABELS = np.array([0, 1, 1, 0])


def leaf(*shape):
    return mg.tensor(np.random.default_rng(1).standard_normal(shape), requires_grad=True)


def made(function, *leaves):
    """Return the names of the gradients of the leaves in the program of a function."""
    compiled = mg.compile(lambda x: mg.grad(function(mg.tensor(x)), leaves))
    compiled(X)
    *_, returned = str(compiled.program).splitlines()
    return returned.removeprefix("return ").replace("%", "").split(", "), compiled


@pytest.mark.parametrize(
    ("function", "shapes", "names"),
    [
        (lambda x, w, b: F.linear(x, w, b).sum(), [(2, 3), (2,)], ["dw", "db"]),
        (
            lambda x, gamma, beta: F.batch_norm(x, weight=gamma, bias=beta, training=True).sum(),
            [(3,), (3,)],
            ["dgamma", "dbeta"],
        ),
        (lambda x, a: F.cross_entropy(a, LABELS), [(4, 2)], ["dlogits"]),
        (lambda x, a: mg.sum(x * a), [(3,)], ["db"]),  # after the sum over the rows of x
        (lambda x, a, b: F.linear(F.linear(x, a), b).sum(), [(2, 3), (5, 2)], ["dw", "dw_2"]),
    ],
    ids=["linear", "batch_norm", "cross_entropy", "broadcast", "twice"],
)
def test_a_gradient_is_named_after_what_it_is_the_gradient_of(function, shapes, names):
    leaves = [leaf(*shape) for shape in shapes]
    found, _ = made(lambda x: function(x, *leaves), *leaves)
    assert sorted(found) == sorted(names)


def test_a_cotangent_that_a_rule_passes_on_keeps_its_name():
    """The first addition passes on the gradient that the second one has made for its input a."""
    a, b = leaf(3), leaf(3)
    _, compiled = made(lambda x: (a + b + x).sum(), a, b)
    assert "%da" in compiled.program and "%db" not in compiled.program


def test_the_first_cotangent_is_named_after_the_result():
    a = leaf(4, 2)
    _, compiled = made(lambda x: F.cross_entropy(a, LABELS), a)
    assert "%dlabel_cross_entropy" in compiled.program


def test_residuals_have_the_names_that_their_primitive_declares():
    gamma = leaf(3)
    _, compiled = made(lambda x: F.batch_norm(x, weight=gamma, training=True).sum(), gamma)
    assert "%stats: float64 (5, 3)" in compiled.program


def test_equal_attributes_share_a_name_and_equal_operands_do_not():
    """An operand may differ at another batch size; an attribute is what the step says."""
    a = leaf(4, 2)

    def step(x):
        one, two = (F.cross_entropy(y, LABELS, ignore_index=1) for y in (a, a * 2.0))
        return one + two + (a * 4.0).sum() + (a / 4.0).sum()

    compiled = mg.compile(step)
    compiled(X)
    assert compiled.source.count("int(numbers[") == 1  # ignore_index
    assert compiled.source.count("float64(numbers[") == 3  # 2.0, and 4.0 twice
    flags = re.findall("mean.* = .*", compiled.source)
    assert len(flags) == 1 and "True" in flags[0]
