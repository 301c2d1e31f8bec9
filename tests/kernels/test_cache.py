"""Compiled kernels are kept on disk, found again, and not confused with each other."""

import shutil

import pytest
from small_package import HELPER, Small, check, small

__all__ = ["small"]  # the fixture


def test_compiled_once_on_first_use_and_found_by_the_next_process(small: Small) -> None:
    script = "t = type(work.double); out = [t.__module__, t.__name__, work.double.signatures]"
    numbas_own = ["numba.core.registry", "CPUDispatcher"]  # so that a call costs no more
    check(small.run(script), 0, 0, out=[*numbas_own, []])
    assert small.entries() == []
    check(small.run(), 1, 0)
    assert [entry.parent for entry in small.entries()] == [small.cache]
    check(small.run(), 0, 1)
    assert not small.user.exists()  # nor made, where the package takes the entries


def test_an_edited_helper_in_another_file_is_noticed(small: Small) -> None:
    small.run()
    (small.package / "helper.py").write_text(HELPER.format("3.25"))
    check(small.run(), 1, 0, out=[0.0, 3.25, 6.5])
    assert len(small.entries()) == 1  # in place of the stale one
    check(small.run(), 0, 1, out=[0.0, 3.25, 6.5])


@pytest.mark.exhaustive
def test_generated_code_in_the_folder_of_the_cache_is_no_source(small: Small) -> None:
    check(small.run(), 1, 0)
    (small.cache / f"minigrad_step_{16 * '0'}.py").write_text("step = 1\n")
    check(small.run(), 0, 1)


@pytest.mark.exhaustive
def test_an_edit_after_import_does_not_pass_for_what_is_running(small: Small) -> None:
    edited = HELPER.format("3.25")
    small.run(f"open({str(small.package / 'helper.py')!r}, 'w').write({edited!r}); out = call()")
    check(small.run(), 1, 0, out=[0.0, 3.25, 6.5])


def test_numba_cache_dir_is_the_only_folder_where_it_is_set(small: Small) -> None:
    chosen = small.folder / "chosen"
    check(small.run(NUMBA_CACHE_DIR=str(chosen)), 1, 0)
    assert [entry.parent.parent for entry in small.entries()] == [chosen]
    small.cache.mkdir(exist_ok=True)
    shutil.move(small.entries()[0], small.cache)
    check(small.run(NUMBA_CACHE_DIR=str(chosen)), 1, 0)
    check(small.run(NUMBA_CACHE_DIR=str(chosen)), 0, 1)


@pytest.mark.exhaustive
def test_kernels_with_bounds_checks_are_kept_apart(small: Small) -> None:
    check(small.run(), 1, 0)
    check(small.run(NUMBA_BOUNDSCHECK="1"), 1, 0)
    beyond = """
try:
    work.double(np.arange(3.0), np.zeros(2))
except IndexError:
    out = ["checked"]
"""
    check(small.run(beyond, NUMBA_BOUNDSCHECK="1"), 0, 1, out=["checked"])
    check(small.run(), 0, 1)


@pytest.mark.exhaustive
def test_kernels_for_another_processor_are_kept_apart(small: Small) -> None:
    """Machines may share a home; NUMBA_CPU_NAME stands for another one."""
    small.run()
    check(small.run(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=""), 1, 0)
    assert len(small.entries()) == 2


@pytest.mark.exhaustive
def test_flags_and_versions_are_kept_apart(small: Small) -> None:
    exact = "work.double = decorators.kernel(work._double, exact=True); out = call()"
    small.run()
    check(small.run(exact), 1, 0)
    assert len(small.entries()) == 2
    work = small.package / "jit" / "cache.py"
    work.write_text(work.read_text().replace('f"2 {numba', 'f"3 {numba'))
    check(small.run(), 1, 0)


def test_without_the_compiler_a_kernel_runs_the_function_itself(small: Small) -> None:
    script = (
        "out = [work.double.__wrapped__ is work._double, *call('add')]; count = lambda which: 0"
    )
    check(small.run(script, NUMBA_DISABLE_JIT="1"), 0, 0, out=[True, 0.0, 1.0, 2.0])


LOADED = """
import math
import numpy as np
from .jit.decorators import kernel

def _mixed(a, out):
    local = np.zeros(a.size)
    for i in range(a.size):
        local[i] = math.exp(a[i])
    total(local, out)
    out[0] += np.dot(local, local)

def _total(a, out):
    for i in range(a.size):
        out[0] += a[i]

total = kernel(_total)
double = kernel(_mixed, allocates=True)
"""


def test_loading_imports_nothing_of_the_compiler_and_compiling_may_follow(small: Small) -> None:
    """Those imports would take most of the time to a first step."""
    (small.package / "work.py").write_text(LOADED)
    first = small.run()
    assert first["compiled"] == 2
    script = """
import numba
out = [*call(), "numba.np.npyimpl" in sys.modules]
inner = work.double

@numba.njit
def twice(a, out):
    inner(a, out)
    inner(a, out)

again = np.zeros(3)
twice(np.arange(3.0), again)
out.append(bool(abs(again[0] - 2 * out[0]) < 1e-12))
"""
    check(small.run(script), 0, 1, out=[*first["out"], False, True])


@pytest.mark.exhaustive
def test_what_only_this_process_knows_is_not_kept(small: Small) -> None:
    script = """
def scaled(factor):
    def _scaled(a, out):
        for i in range(a.size):
            out[i] = factor * a[i]
    return decorators.kernel(_scaled)

work.double = scaled({})
out = call()
"""
    small.run(script.format(2.0))
    check(small.run(script.format(4.0)), 1, 0, out=[0.0, 4.0, 8.0])
    assert small.entries() == []
    with (small.package / "work.py").open("a") as file:
        file.write(
            "import numpy as np\nTABLE = np.ones(2_000_000)\n\ndef _large(a, out):\n"
            "    out[0] = TABLE[a.size]\n\ndouble = kernel(_large)\n"
        )
    result = small.run()
    assert "small.kernels.work._large is not saved on disk, as it uses globals" in result["errors"]
    assert small.entries() == []
