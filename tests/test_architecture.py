"""Imports inside minigrad point down only; from outside come NumPy, Numba and SciPy alone.

LAYERS says which part is below which; the files of one part import each other without a cycle, and
nothing from the `__init__` of their own package, which imports them.

The sources are read, not run, so imports inside functions and under TYPE_CHECKING count as well.
"""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "minigrad"

# From the bottom up; a part may import the parts of lower layers. A part is a file, or a folder
# with all that is in it but the folders named here themselves.
LAYERS = [
    {"errors", "names", "system", "types"},
    {"arrays", "checks"},
    {"kernels.jit"},
    {"kernels.threading"},
    {"kernels.batchnorm"},
    {"kernels"},
    {"ops"},
    {"engine"},
    {"functional"},
    {"nn", "optim", "gradcheck", "data"},
    {"compiler.ir", "explainer.derive"},
    {"compiler.tracing", "explainer.analysis"},
    {"compiler.passes", "explainer.graph"},
    {"compiler.codegen", "explainer.render"},
    {"compiler.runtime"},
    {"compiler", "explainer"},
    {"minigrad"},  # the package's own __init__.py
    {"explainer.ladder", "warmup"},  # programs
    {"__main__"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
OUTSIDE = {"numpy", "numba", "scipy"}
# Folders and files that may import less than what is below them, besides themselves and the
# standard library.
ONLY = {
    "kernels": {"numpy", "numba", "system", "types"},
    "data": {"numpy", "errors", "checks", "engine", "types"},
}
APART = [("compiler", "explainer"), ("explainer", "compiler")]  # neither imports the other


class Import(NamedTuple):
    """An Import is one target of an import statement, as a full dotted name."""

    target: str
    line: int
    typing_only: bool


def module_name(path: Path) -> str:
    """Return the dotted name of a source file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parent.name != "__pycache__"  # where generated code may lie
}
PACKAGES = {name for name, path in SOURCES.items() if path.name == "__init__.py"}


def part_of(module: str) -> str:
    """Return the part that a dotted name belongs to: the longest that it begins with."""
    name = module.removeprefix("minigrad.")
    while name not in LEVEL and "." in name:
        name = name.rpartition(".")[0]
    return name


def targets(node: ast.AST, module: str) -> Iterator[str]:
    """Yield the full dotted names that `node` imports when it stands in `module`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:  # one dot is the folder that the module is in; a package is that folder
            folder = module.split(".") + ["__init__"] * (module in PACKAGES)
            base = ".".join([*folder[: -node.level], *base.split(".")]).rstrip(".")
        for alias in node.names:
            full = f"{base}.{alias.name}"
            is_module = full in SOURCES or full.removeprefix("minigrad.") in LEVEL
            yield full if is_module else base
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = ast.unparse(node.func).rpartition(".")[2]
        if called in ("import_module", "__import__"):
            yield str(node.args[0].value)


def imports(source: str, module: str) -> list[Import]:
    """Return every import in `source`, wherever it stands."""
    found = []

    def visit(node: ast.AST, typing_only: bool) -> None:
        found.extend(Import(name, node.lineno, typing_only) for name in targets(node, module))
        guarded = []
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            guarded = node.body
        for child in ast.iter_child_nodes(node):
            visit(child, typing_only or child in guarded)

    visit(ast.parse(source), False)
    return found


def complaint(module: str, imported: Import) -> str | None:
    """Return what is wrong with `module` importing that, or None."""
    part, top = part_of(module), imported.target.partition(".")[0]
    if top in sys.stdlib_module_names:
        return None
    source = part_of(imported.target) if top == "minigrad" else top
    folders = part.partition(".")[0], source.partition(".")[0]
    if top == "minigrad":
        if source not in LEVEL:
            return "is in no layer"
        own = imported.target in PACKAGES and module.startswith(f"{imported.target}.")
        if source == part:
            return "is its own package" if own and not imported.typing_only else None
        if LEVEL[source] >= LEVEL[part]:
            return f"points up or sideways, seen from {part}"
        if folders in APART and LEVEL[part] < LEVEL["minigrad"]:
            return f"is not allowed: {folders[0]} does not import {folders[1]}"
    elif top not in OUTSIDE and not imported.typing_only:
        return "is no runtime dependency"
    allowed = ONLY.get(folders[0], {folders[1]})
    if folders[0] != folders[1] and folders[1] not in allowed:
        return f"is not allowed: {folders[0]} may import {' and '.join(sorted(allowed))} only"
    return None


def violations(source: str, module: str) -> list[str]:
    """Return one sentence for each import that breaks a rule, naming where it stands."""
    if part_of(module) not in LEVEL:
        return [f"{module} is in no layer: add it to LAYERS"]
    return [
        f"{module}:{imported.line}: {imported.target} {wrong}"
        for imported in imports(source, module)
        if (wrong := complaint(module, imported))
    ]


def graph(part: str) -> dict[str, set[str]]:
    """Return the files of a part, each with the files of that part that it imports when it runs."""
    files = {module for module in SOURCES if part_of(module) == part}
    return {
        module: {
            imported.target
            for imported in imports(SOURCES[module].read_text(encoding="utf-8"), module)
            if imported.target in files and not imported.typing_only and module not in PACKAGES
        }
        for module in files
    }


def test_the_sources_are_found() -> None:
    """Otherwise the tests below would pass on nothing."""
    assert {"minigrad", "minigrad.errors", "minigrad.engine.tensor", "minigrad.nn"} <= set(SOURCES)


@pytest.mark.parametrize("module", SOURCES)
def test_imports_point_down(module: str) -> None:
    assert violations(SOURCES[module].read_text(encoding="utf-8"), module) == []


@pytest.mark.parametrize("part", LEVEL)
def test_files_of_a_part_import_each_other_in_an_order(part: str) -> None:
    order = tuple(graphlib.TopologicalSorter(graph(part)).static_order())  # raises for a cycle
    assert order, f"{part}: no such file or folder"


def test_a_cycle_of_files_is_found() -> None:
    cycle = {"tape": {"tensor"}, "tensor": {"tape"}}
    with pytest.raises(graphlib.CycleError, match="tape"):
        tuple(graphlib.TopologicalSorter(cycle).static_order())
    assert graph("engine")["minigrad.engine.tensor"] >= {"minigrad.engine.tape"}


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("minigrad.ops.some", "from ..engine.tensor import Tensor", "engine.tensor points up"),
        ("minigrad.ops", "from ..engine.tensor import Tensor", "engine.tensor points up"),
        ("minigrad.ops.some", "from ..engine import tensor", "minigrad.engine.tensor points up"),
        ("minigrad.ops.some", "import minigrad.nn.module", "minigrad.nn.module points up"),
        ("minigrad.ops.some", "from minigrad import Tensor", "minigrad points up"),
        ("minigrad.engine.tensor", "def f():\n    from .. import functional", "functional points"),
        ("minigrad.ops.some", "if TYPE_CHECKING:\n    from .. import engine", "engine points up"),
        ("minigrad.ops.some", "import_module('minigrad.engine.tensor')", "tensor points up"),
        ("minigrad.optim.sgd", "from ..nn import Parameter", "minigrad.nn points up or sideways"),
        ("minigrad.compiler.ir.program", "from ...explainer.derive import identifiers", "sideways"),
        (
            "minigrad.compiler.runtime.report",
            "from ...explainer.derive import identifiers",
            "does not",
        ),
        ("minigrad.compiler.ir.program", "from ..codegen import loops", "points up or sideways"),
        ("minigrad.explainer", "import minigrad.compiler", "points up or sideways"),
        ("minigrad.explainer.render.text", "from ...compiler.ir import program", "does not"),
        ("minigrad.errors", "from . import ops", "points up or sideways"),
        ("minigrad.kernels.jit.some", "from ..threading import pool", "pool points up"),
        ("minigrad.kernels.some", "import scipy.linalg", "scipy.linalg is not allowed"),
        ("minigrad.kernels.some", "from ..errors import ShapeError", "errors is not allowed"),
        ("minigrad.data", "from . import kernels", "kernels is not allowed"),
        ("minigrad", "from . import warmup", "minigrad.warmup points up"),
        ("minigrad.nn.module", "def f():\n    import torch", "torch is no runtime dependency"),
        ("minigrad.nn.norm", "from . import Module", "minigrad.nn is its own package"),
        ("minigrad.nn.norm", "def f():\n    from ..nn import Module", "nn is its own package"),
        ("minigrad.compiler.ir.program", "from . import Builder", "ir is its own package"),
        ("minigrad.surprise", "", "minigrad.surprise is in no layer"),
        ("minigrad.nn.module", "from .. import errors\nimport minigrad.other", "other is in no"),
    ],
)
def test_a_violation_is_caught(module: str, source: str, expected: str) -> None:
    found = violations(source, module)
    assert len(found) == 1, found
    assert expected in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("minigrad", "from . import nn, optim\nfrom .engine.tensor import Tensor"),
        ("minigrad.warmup", "from . import nn\nfrom .kernels import jit"),
        ("minigrad.engine.tensor", "from .tape import Record\nfrom .. import ops, errors"),
        ("minigrad.explainer.ladder", "from ..compiler import compile"),
        ("minigrad.nn.norm", "if TYPE_CHECKING:\n    from . import Module"),
        ("minigrad.nn.norm", "from . import module"),
        ("minigrad.nn", "from .module import Module"),
        ("minigrad.nn.norm", "from .module import Module\nfrom .. import functional as F"),
        ("minigrad.kernels.sums", "import numpy as np\nfrom numba import prange"),
        ("minigrad.kernels.sums", "from __future__ import annotations\nfrom . import jit"),
        ("minigrad.kernels.jit.some", "from ...system import after_fork"),
        ("minigrad.kernels.relu", "from ..types import Array"),
        ("minigrad.ops.some", "if TYPE_CHECKING:\n    import typing_extensions"),
        ("minigrad.gradcheck", "import math, numpy, scipy.special"),
    ],
)
def test_imports_that_are_fine(module: str, source: str) -> None:
    assert violations(source, module) == []
