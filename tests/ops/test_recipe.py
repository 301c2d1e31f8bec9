"""CONTRIBUTING's recipe for a new primitive works in a copy of the package.

A declaration and an export are all that it takes to run, differentiate, compile and explain.
"""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import minigrad as mg
from minigrad import ops
from minigrad.functional import array_functions

DECLARATION = """
cosine: Primitive = pointwise(
    "cosine",
    np.cos,
    (lambda g, _y, a: g * cosine(a + math.pi / 2),),
    "the cosine of a",
    scalar=Scalar("cos({0})"),
)
"""
EXPORT = "cosine = _public(_ops.cosine)\n"
SCRIPT = """
import warnings
warnings.simplefilter("error")  # as a compiled step warns of what it leaves to NumPy
import numpy as np
import minigrad as mg
from minigrad import ops
from minigrad.explainer import evaluate

assert "cosine" in mg.__all__ and mg.cosine([0.0]).tolist() == [1.0]
assert "Elementwise" in mg.cosine.__doc__
x = mg.tensor(np.linspace(-2.0, 3.0, 7), requires_grad=True)
for order in (1, 2):
    assert mg.gradcheck(mg.cosine, [x], order=order)

def step(x):
    loss = (mg.cosine(x) * x).sum()
    (first,) = mg.grad(loss, x, create_graph=True)
    return loss, first, *mg.grad((first * first).sum(), x)

compiled = mg.compile(step)
for _ in range(2):
    for a, b in zip(compiled(x), step(x), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-13)
assert "= cos(" in compiled.source and "outside compiled code: nothing" in compiled.report()

loss = (mg.cosine(x) ** 2).sum()
explained = mg.explain(loss, names={"x": x, "loss": loss})
assert "cosine(x)" in str(explained)
loss.backward()
np.testing.assert_allclose(evaluate(str(explained), explained.given)["g_x"], x.grad.data)
"""


def test_a_primitive_takes_a_declaration_and_an_export(tmp_path: Path) -> None:
    source, copy = Path(mg.__file__).parent, tmp_path / "minigrad"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    edits = {"ops/elementwise.py": DECLARATION, "functional/array_functions.py": EXPORT}
    for name, more in edits.items():
        with (copy / name).open("a", encoding="utf-8") as file:
            file.write(more)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_one_list_of_exports() -> None:
    """Every name in array_functions is one of `minigrad`, and one that `import *` gives."""
    exported = {name: x for name, x in vars(array_functions).items() if name[0] != "_"}
    assert {"exp", "sum", "concat"} <= exported.keys() <= set(mg.__all__)
    assert {name: getattr(mg, name) for name in exported} == exported
    assert len(set(mg.__all__)) == len(mg.__all__)


# What code generation writes for a primitive, in the terms of one backend.
WRITERS = {"CALLS", "MOVES", "VIEWS"}


def named(source: str) -> list[int]:
    """The lines of collections that name primitives, and of comparisons with the name of one."""
    tree = ast.parse(source)
    fine = {
        id(inside)
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) in WRITERS
        for inside in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        collection = isinstance(node, (ast.Dict, ast.Set, ast.List, ast.Tuple))
        compared = isinstance(node, ast.Compare) and ast.unparse(node.left).endswith(".name")
        if id(node) not in fine and (collection or compared):
            parts = ast.iter_child_nodes(node)
            names = [n.value for n in parts if isinstance(n, ast.Constant)]
            known = [name for name in names if isinstance(name, str) and name in ops.BUILTIN]
            if len(known) > (0 if compared else 1):
                found.append(node.lineno)
    return found


def test_the_compiler_has_no_tables_of_primitives() -> None:
    """What is known of a primitive stands in its declaration."""
    folder = Path(mg.__file__).parent / "compiler"
    found = {path.name: named(path.read_text(encoding="utf-8")) for path in folder.rglob("*.py")}
    assert {name: lines for name, lines in found.items() if lines} == {}
    assert named("CHEAP = {'add', 'sub'}\nif op.name == 'where': pass") == [1, 2]
