"""Compiled callers call some kernels by address, and see their exceptions.

Such kernels are loaded from disk with a caller, and compiled again when they have changed.
"""

import json
import shutil
from pathlib import Path

import pytest
from small_package import HELPER, MINIGRAD, Small, small

__all__ = ["small"]  # the fixture

WORK = """
import numpy as np
from .jit.decorators import external, kernel
from .work import double

def _huge(n):
    return np.empty(n).size

called, huge = external(double), external(kernel(_huge, allocates=True))

def _twice(a, out):
    called(a, out)
    called(out, out)

def _allocate(n):
    return huge(n) + 1

def _chain(a, out):
    again(a, out)

double, allocate = kernel(_twice), kernel(_allocate)
again = external(double)
chain = kernel(_chain)
"""
USE = "from small.kernels import outer as work\n"
FOUR = [0.0, 4.0, 8.0]


@pytest.fixture
def outer(small: Small) -> Small:
    (small.package / "outer.py").write_text(WORK)
    return small


def entry(small: Small, name: str) -> Path:
    (found,) = (path for path in small.entries() if name in path.name)
    return found


def test_a_caller_from_the_disk_brings_what_it_calls(outer: Small) -> None:
    """The caller has none of the code that it calls."""
    script = f"{USE}out = call()"
    code = "(made,) = work.double.overloads.values()\n"
    code += "out += [f.name for f in made.library.get_defined_functions() if 'double' in f.name]"
    result = outer.run(f"{script}\n{code}")
    assert (result["out"], result["compiled"], result["errors"]) == (FOUR, 2, "")
    result = outer.run(script)
    assert (result["out"], result["compiled"], result["loaded"]) == (FOUR, 0, 2)
    entry(outer, "_double").write_bytes(b"broken")
    result = outer.run(script)
    assert (result["out"], result["compiled"], result["loaded"]) == (FOUR, 1, 1)


@pytest.mark.exhaustive
def test_a_caller_of_a_caller(outer: Small) -> None:
    for compiled in (3, 0):
        result = outer.run(f"{USE}out = call('chain')")
        assert (result["out"], result["compiled"], result["errors"]) == (FOUR, compiled, "")


@pytest.mark.exhaustive
def test_an_edited_helper_of_what_is_called_compiles_all_anew(outer: Small) -> None:
    script = f"{USE}out = call()"
    outer.run(script)
    (outer.package / "helper.py").write_text(HELPER.format("3.0"))
    result = outer.run(script)
    assert (result["out"], result["compiled"]) == ([0.0, 9.0, 18.0], 2)


@pytest.mark.exhaustive
def test_a_caller_of_what_cannot_be_brought_is_compiled_anew(outer: Small) -> None:
    outer.run(f"{USE}call(); out = 0")
    gone = "cache.load_called = lambda called: called and [].pop()\n"
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
    script = f"{USE}out = [work.called is sys.modules['small.kernels.work'].double, *call()]\n"
    process = outer.start(f"{script}print(json.dumps(out))", NUMBA_DISABLE_JIT="1")
    output, errors = process.communicate(timeout=100)
    assert (json.loads(output), errors) == ([True, *FOUR], "")


LOOPS = """
from .jit.decorators import device_function, kernel
from .threading.parallel_for import parallel_for

def _add_one(part, _thread, out):
    out[part] += 1.0

def _add_ten(part, _thread, out):
    out[part] += 10.0

add_one, add_ten = (parallel_for(device_function(f)) for f in (_add_one, _add_ten))

def _one(pool, out):
    add_one(pool, out.size, out.size, (out,))

def _eleven(pool, out):
    one(pool, out)
    add_ten(pool, out.size, out.size, (out,))

one, eleven = kernel(_one), kernel(_eleven)
"""
CALL_LOOP = """
import itertools
from numba.core import bytecode
from small.kernels import loops
from small.kernels.threading.pool import current_pool, set_num_threads

set_num_threads(2)
pool = current_pool()
bytecode.FunctionIdentity._unique_ids = itertools.count(1000)
values = np.zeros(4)
loops.{}(pool, values)
out = values.tolist()
"""


@pytest.mark.exhaustive
def test_a_loop_compiled_in_another_process_is_not_taken_for_this_one(small: Small) -> None:
    """Numba numbers functions of one name, and children of one parent repeat the numbers.

    Equal counters and hashes stand for this here.
    """
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(MINIGRAD / "kernels" / "threading", small.package / "threading", ignore=ignored)
    (small.package / "loops.py").write_text(LOOPS)
    for name, expected in (("one", 1.0), ("eleven", 11.0)):
        result = small.run(CALL_LOOP.format(name), PYTHONHASHSEED="0")
        assert result["out"] == [expected] * 4
