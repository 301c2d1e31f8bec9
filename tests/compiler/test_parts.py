"""Parts of the compiler are tested alone: the places of buffers, the program, and each pass."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import ops
from minigrad.compiler.codegen.function import Loops
from minigrad.compiler.ir.program import Operation, Program, Value
from minigrad.compiler.passes import pipeline, reductions
from minigrad.compiler.runtime.memory_layout import laid_out
from minigrad.compiler.tracing.trace import Trace
from minigrad.engine.tensor import Tensor
from minigrad.engine.tracer import tracing
from minigrad.names import Names

LIVES = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted).map(tuple)


@given(st.lists(st.tuples(st.integers(0, 500), LIVES), max_size=30))
def test_what_lives_together_lies_apart(pieces):
    """All lies in the block, which is no larger than all arrays side by side."""
    sizes, lives = [size for size, _ in pieces], [life for _, life in pieces]
    starts, total = laid_out(sizes, lives)
    for i, (a, (first, last)) in enumerate(zip(starts, lives, strict=True)):
        assert a >= 0 and a + sizes[i] <= total
        for j in range(i):
            if lives[j][0] <= last and first <= lives[j][1] and sizes[i] and sizes[j]:
                assert a + sizes[i] <= starts[j] or starts[j] + sizes[j] <= a
    assert total <= sum(sizes)


def test_what_lives_one_after_the_other_shares():
    assert laid_out([64, 64, 64], [(0, 1), (2, 3), (4, 5)])[1] == 64
    assert laid_out([64, 128, 64], [(0, 1), (1, 2), (2, 3)])[1] == 192
    assert laid_out([192, 128, 64], [(0, 0), (0, 2), (1, 2)]) == ([0, 192, 0], 320)  # in a gap


def traced(function, *arrays):
    """Return the program of a function of arrays of floats."""
    given = [(f"x{i}", Tensor(np.asarray(a, np.float32))) for i, a in enumerate(arrays)]
    trace = Trace(given)
    with tracing(trace):
        result = function(*[x for _, x in given])
    return trace.program([result])


def names(operations):
    return [operation.name for operation in operations]


A, B = np.ones((3, 4)), np.full((3, 4), 2.0)


def test_a_program_as_text():
    text = str(traced(lambda a, b: (a * b).sum(), A, B))
    assert text.splitlines() == [
        "%x0: float32 (3, 4)   argument",
        "%x1: float32 (3, 4)   argument",
        "%mul: float32 (3, 4) = mul(%x0, %x1)",
        "%sum: float32 () = sum(%mul, axis=(0, 1), keepdims=False)",
        "return %sum",
    ]


def test_the_checker_finds_what_is_wrong():
    program = traced(lambda a, b: (a * b).sum(), A, B)
    product, total = program.operations
    for operations, message in (
        ([total, product], "read before it is made"),
        ([product, product, total], "made twice"),
        ([product], "never made"),
    ):
        with pytest.raises(ValueError, match=message):
            Program(program.arguments, operations, program.results, []).check()
    double = Value.like("mul", (3, 4), np.float32)
    extra = Operation(ops.TABLE["neg"], [program.arguments[0]], {}, [double])
    with pytest.raises(ValueError, match="one name"):
        Program(program.arguments, [extra, product, total], program.results, []).check()


def test_dead_code_goes():
    program = traced(lambda a, b: (a.exp(), a * b)[1], A, B)
    assert names(program.operations) == ["exp", "mul"]
    assert names(pipeline.dead(program.operations, program.wanted)) == ["mul"]


def test_common_subexpressions_are_one():
    program = traced(lambda a, b: (a * b).exp() + (a * b).exp() + (b * a) + a * 2 + a * 3, A, B)
    kept = pipeline.common(program.operations, program.wanted)
    assert sorted(names(kept)) == sorted(["mul"] * 4 + ["exp"] + ["add"] * 4)


def test_random_ones_are_not_common():
    keep = ops.TABLE["keep_mask"]
    program = traced(lambda a: keep(a, p=0.5) + keep(a, p=0.5), A)
    assert names(pipeline.common(program.operations, program.wanted)).count("keep_mask") == 2


def test_copies_in_the_same_dtype_go():
    program = traced(lambda a: a.clone().exp().clone().astype("float64"), A)
    kept = pipeline.same_dtype(program.operations, program.wanted)
    assert names(kept) == ["exp", "astype"]


def test_reshapes_and_broadcasts_to_the_same_shape_go():
    def function(a):
        b = mg.broadcast_to(mg.reshape(a, A.shape).exp(), A.shape)
        return mg.reshape(mg.broadcast_to(b, (2, *A.shape)), (-1,))

    def kept(function):
        program = traced(function, A)
        return names(pipeline.same_shape(program.operations, program.wanted))

    assert kept(function) == ["exp", "broadcast_to", "reshape"]
    assert kept(lambda a: mg.reshape(a, A.shape)) == ["reshape"]  # a result is an array of its own


def test_sums_are_wide():
    program = traced(lambda a, b: (a * b).sum(0) + (a * b).mean(1).sum(), A, B)
    kept = pipeline.common(reductions.wide_sums(program.operations, program.wanted), program.wanted)
    found = [operation for operation in kept if operation.name == "sum"]
    assert len(found) == 3
    assert all(s.makes[0].dtype == np.float64 and s.attributes["keepdims"] for s in found)


def test_sums_of_sums():
    """A backward pass sums -(a * row + b); the pass makes sums of a and of b of it."""
    row = np.arange(4.0)[None]
    program = traced(lambda a, b, r: (-(a * r + b)).sum(0, keepdims=True), A, B, row)
    for operation in program.operations:
        operation.rule = (ops.TABLE["add"], 0)
    wide = reductions.wide_sums(program.operations, program.wanted)
    kept = pipeline.dead(reductions.sums_of_sums(wide, program.wanted), program.wanted)
    assert names(kept) == ["sum", "mul", "sum", "add", "neg", "astype"]
    assert all(op.inputs[0].origin == "argument" for op in kept if op.name == "sum")


def test_softmax_and_variance_are_decomposed():
    program = traced(lambda a: mg.functional.softmax(a) + a.var(0), A)
    kept = names(pipeline.decomposed(program.operations, program.wanted))
    assert "softmax" not in kept and "var" not in kept
    made = ["max", "sub", "exp", "sum", "div"]
    assert [name for name in kept if name in made][:5] == made


def test_updates_are_last_unless_they_are_read():
    p, q = Tensor(np.ones(3, np.float32)), Tensor(np.ones(3, np.float32))
    trace = Trace([("x", Tensor(np.ones(3, np.float32)))])
    with tracing(trace):
        p.copy_(q * 2)
        y = (p + 1).exp()
        q.copy_(y)
        z = y * 3
    program = trace.program([z])
    done = pipeline.updates_last(program.operations, program.wanted)
    assert names(done) == ["mul", "copy", "add", "exp", "mul", "copy"]


def source(function, *arrays):
    """Return the code that is generated for a function of arrays of floats."""
    compiled = mg.compile(function)
    compiled(*[np.asarray(a, np.float32) for a in arrays])
    return compiled.source


def test_nests_that_are_alike_share_a_function():
    def layers(a, b, weights):
        for w in weights:
            a = ops.matmul(mg.exp(a) * w, b)  # a product ends a nest
        return a

    text = source(lambda a, b: layers(a, b, (a, b)), np.ones((2, 2)), np.ones((2, 2)))
    assert text.count("def ") == 1  # of the first an array comes twice
    text = source(lambda a, b: layers(a, b, (b, b)), np.ones((2, 2)), np.ones((2, 2)))
    assert text.count("def loops(") == 1 and text.count("\n    loops(") == 2


def test_what_makes_nests_alike():
    made = {"a", "b", "c", "n", "d", "e", "f", "m"}

    def key(line, **given):
        return Loops(["# loops over x", line], given).shared_key(made)

    first, arguments = key("c[i] = a[i] + b[i]  # add, from x", a="F", b="F", c="F")
    assert arguments == ["c", "a", "b"]
    assert key("d[i] = e[i] + f[i]", d="F", e="F", f="F") == (first, ["d", "e", "f"])
    assert key("d[i] = e[i] + e[i]", d="F", e="F")[0] != first
    assert key("d[i] = e[i] + f[i]", d="D", e="F", f="F")[0] != first
    assert key("d[i] = e[i] - f[i]", d="F", e="F", f="F")[0] != first
    assert key("d[i] = e[i] + f[i]", d="F", e="F")[0] != first  # f is made in it


def test_names():
    found = Names({"a", "b_2"})
    assert [found.fresh_name(name) for name in ("c", "c", "a", "b", "b", "c_3", "c")] == [
        *("c", "c_2", "a_2", "b", "b_3", "c_3", "c_4")
    ]
    assert found.made == {"c", "c_2", "a_2", "b", "b_3", "c_3", "c_4"}
    found = Names({"g_a"})
    pairs = [found.fresh_name(name, "g_{}".format) for name in ("a", "g_a_2", "b", "b")]
    assert pairs == ["a_2", "g_a_2_2", "b", "b_2"]  # g_a and g_a_2 are taken


@pytest.mark.parametrize("turns", [20, 10_000])
def test_a_sum_of_what_is_shared_is_made_once(turns):
    """Each turn reads the one before it twice, so a tree would have 2 ** turns leaves."""
    x = Value.like("x", (3, 4), np.float64)
    x.origin = "argument"
    rule = (ops.TABLE["add"], 0)
    operations, last = [], x
    for _ in range(turns):
        half = Value.like("half", x.shape, x.dtype)
        operations.append(Operation(ops.TABLE["mul"], [0.5, last], {}, [half], rule))
        both = Value.like("both", x.shape, x.dtype)
        operations.append(Operation(ops.TABLE["add"], [half, last], {}, [both], rule))
        last = both
    total = Value.like("total", (1, 4), np.float64)
    axis = {"axis": (0,), "keepdims": True}
    operations.append(Operation(ops.TABLE["sum"], [last], axis, [total], rule))
    done = pipeline.dead(reductions.sums_of_sums(operations, [total]), [total])
    assert names(done) == ["sum", *["mul", "add"] * turns]
