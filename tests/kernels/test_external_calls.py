"""Kernels that compiled callers call where they lie: brought along with a caller from the disk,
compiled anew when they have changed, and their exceptions seen."""

import json
from pathlib import Path

import pytest
from small_package import HELPER, Small, small

__all__ = ["small"]  # the fixture

WORK = """
import numpy as np
from .jit import kernel, outside
from .work import double

def _huge(n):
    return np.empty(n).size

called, huge = outside(double), outside(kernel(_huge, allocates=True))

def _twice(a, out):
    called(a, out)
    called(out, out)

def _allocate(n):
    return huge(n) + 1

def _chain(a, out):
    again(a, out)

double, allocate = kernel(_twice), kernel(_allocate)
again = outside(double)
chain = kernel(_chain)
"""
USE = "from small import outer as work\n"
FOUR = [0.0, 4.0, 8.0]


@pytest.fixture
def outer(small: Small) -> Small:
    (small.package / "outer.py").write_text(WORK)
    return small


def entry(small: Small, name: str) -> Path:
    (found,) = (path for path in small.entries() if name in path.name)
    return found


def test_a_caller_from_the_disk_brings_what_it_calls(outer: Small) -> None:
    script = f"{USE}out = call()"
    result = outer.run(script)
    assert (result["out"], result["compiled"], result["errors"]) == (FOUR, 2, "")
    result = outer.run(script)
    assert (result["out"], result["compiled"], result["loaded"]) == (FOUR, 0, 2)
    entry(outer, "_double").write_bytes(b"broken")
    result = outer.run(script)
    assert (result["out"], result["compiled"], result["loaded"]) == (FOUR, 1, 1)


def test_a_caller_of_a_caller(outer: Small) -> None:
    for compiled in (3, 0):
        result = outer.run(f"{USE}out = call('chain')")
        assert (result["out"], result["compiled"], result["errors"]) == (FOUR, compiled, "")


def test_a_caller_has_none_of_the_code_that_it_calls(outer: Small) -> None:
    result = outer.run(
        f"{USE}call()\n"
        "(made,) = work.double.overloads.values()\n"
        "out = [f.name for f in made.library.get_defined_functions() if 'double' in f.name]"
    )
    assert result["out"] == []


def test_an_edited_helper_of_what_is_called_compiles_all_anew(outer: Small) -> None:
    script = f"{USE}out = call()"
    outer.run(script)
    (outer.package / "helper.py").write_text(HELPER.format("3.0"))
    result = outer.run(script)
    assert (result["out"], result["compiled"]) == ([0.0, 9.0, 18.0], 2)


def test_a_caller_of_what_cannot_be_brought_is_compiled_anew(outer: Small) -> None:
    outer.run(f"{USE}call(); out = 0")
    gone = "cache.bring = lambda called: called and [].pop()\n"
    result = outer.run(f"{USE}{gone}out = call()")
    assert (result["out"], result["compiled"], result["errors"]) == (FOUR, 1, "")


def test_an_exception_is_the_callers(outer: Small) -> None:
    result = outer.run(
        f"{USE}out = [work.allocate(3)]\n"
        "try:\n    work.allocate(1 << 50)\n"
        "except MemoryError:\n    out += ['refused', work.allocate(5)]"
    )
    assert result["out"] == [4, "refused", 6]


def test_without_the_compiler_it_is_the_kernel(outer: Small) -> None:
    script = f"{USE}out = [work.called is sys.modules['small.work'].double, *call()]\n"
    process = outer.start(f"{script}print(json.dumps(out))", NUMBA_DISABLE_JIT="1")
    output, errors = process.communicate(timeout=100)
    assert (json.loads(output), errors) == ([True, *FOUR], "")
