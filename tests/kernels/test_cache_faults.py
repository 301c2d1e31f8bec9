"""Faults of the cache of compiled kernels may neither crash nor give a wrong result.

They are broken entries, killed and racing processes, folders that cannot be written or trusted, and
another version of Numba.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
from small_package import COMPILES_FOREVER, FINISH, Small, check, small

__all__ = ["small"]  # the fixture

posix = pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")


def test_broken_entries_are_compiled_anew_and_replaced(small: Small) -> None:
    dtypes = ["float64", "float32", "int64", "int32", "int16"]
    every = f"out = [call('add', d)[2] for d in {dtypes}]"
    check(small.run(every), 5, 0, out=[2.0] * 5)
    empty, half, flipped, garbage, mixed = small.entries()
    content = half.read_bytes()
    empty.write_bytes(b"")
    half.write_bytes(content[: len(content) // 2])
    flipped.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    garbage.write_bytes(b"no pickle, and no digest that would fit to it")
    mixed.unlink()
    mixed.mkdir()  # can be neither read nor replaced
    check(small.run(every), 5, 0, out=[2.0] * 5)
    check(small.run(every), 0, 5, out=[2.0] * 5)


@pytest.mark.exhaustive
def test_whole_entries_that_cannot_be_loaded_are_compiled_anew(small: Small) -> None:
    """Such entries come from a Numba that pickles otherwise."""
    initial = small.package.parent / "__init__.py"
    initial.write_text(
        "from numba.core import serialize\nserialize.dumps = lambda data: b'no pickle'\n"
    )
    small.run()
    initial.write_text("")
    assert len(small.entries()) == 1
    check(small.run(), 1, 0)
    check(small.run(), 0, 1)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "fault",
    [
        "cache.write = lambda *entry: os._exit(1)",
        "type(cache.KERNELS).write_bytes = lambda p, b: (open(p, 'wb').write(b[:9]), os._exit(1))",
        "os.replace = lambda *paths: os._exit(1)",
    ],
    ids=["before writing", "half written", "not yet in place"],
)
def test_killed_before_an_entry_is_in_place(small: Small, fault: str) -> None:
    killed = small.start(f"{fault}\ncall()")
    assert killed.communicate(timeout=100) == ("", "") and killed.returncode == 1
    assert small.entries() == []
    check(small.run(), 1, 0)
    assert len(small.entries()) == 1


@pytest.mark.exhaustive
def test_killed_while_compiling(small: Small) -> None:
    process = small.start(f"{COMPILES_FOREVER}call()")
    assert process.stdout is not None and process.stdout.readline() == "now\n"
    process.kill()
    process.communicate()
    check(small.run(), 1, 0)


@pytest.mark.exhaustive
def test_racing_processes_do_not_mix_entries(small: Small) -> None:
    wait = "print('ready', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.001)\n"
    orders = (["float32", "float64"], ["float64", "float32"], ["float64"])
    racing = [
        small.start(f"{wait}out = [call(dtype=d)[2] for d in {order}]{FINISH}") for order in orders
    ]
    for process in racing:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    (small.folder / "go").touch()
    for process in racing:
        output, errors = process.communicate(timeout=100)
        assert (process.returncode, errors) == (0, "")
        assert json.loads(output)["out"][-1] == 4.0
    every = f"out = [call(dtype=d)[2] for d in {orders[0]}]"
    check(small.run(every), 0, 2, out=[4.0] * 2)
    assert len(small.entries()) == 2
    assert list(small.folder.rglob("*.tmp")) == []


def make_unwritable(folder: Path) -> None:
    """Put a file in the folder's place, so that root cannot write, either."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.touch()


@pytest.mark.exhaustive
@posix
def test_a_read_only_package_leaves_entries_in_a_private_folder_of_the_user(small: Small) -> None:
    make_unwritable(small.cache)
    check(small.run(), 1, 0)
    (entry,) = small.entries()
    assert entry.parent.parent == small.user
    assert entry.parent.stat().st_mode & 0o777 == 0o700
    check(small.run(), 0, 1)
    entry.parent.chmod(0o777)  # others could have put anything there
    result = small.run()
    assert (result["compiled"], result["loaded"]) == (1, 0)
    assert "RuntimeWarning" in result["errors"]


def test_with_no_folder_to_write_it_works_and_warns_once(small: Small) -> None:
    make_unwritable(small.cache)
    make_unwritable(small.user)
    result = small.run("out = call(); call('add'); call('add', 'float32')", "-W", "always")
    assert (result["out"], result["compiled"], result["loaded"]) == ([0.0, 2.0, 4.0], 3, 0)
    assert result["errors"].count("RuntimeWarning: minigrad: compiled kernels cannot be saved") == 1
    assert "set NUMBA_CACHE_DIR" in result["errors"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "difference",
    [
        "del numba.core.runtime.nrt.rtsys",
        "del numba.core.compiler.CompileResult._rebuild",
        "caching.NullCache.load_overload = lambda self, sig, context=None, more=None: None",
    ],
)
def test_a_numba_made_otherwise_gets_its_own_cache_back(small: Small, difference: str) -> None:
    initial = f"import numba\nfrom numba.core import caching\n{difference}\n"
    (small.package / "__init__.py").write_text(initial)
    check(small.run(), 1, 0)
    assert len(list(small.cache.glob("*.nbi"))) == 1  # an index, which only Numba has


@pytest.mark.exhaustive
def test_numbas_own_cache_is_not_given_functions_that_it_could_not_load(small: Small) -> None:
    """Numba imports the module of a function to load it, and generated code has none."""
    (small.package / "__init__.py").write_text("import numba\ndel numba.core.runtime.nrt.rtsys\n")
    generated = """
import types
module = types.ModuleType("generated")
path = "generated.py"
open(path, "w").write("def double(a, out):\\n    for i in range(a.size): out[i] = 2.0 * a[i]\\n")
exec(compile(open(path).read(), path, "exec"), vars(module))
work.double = decorators.kernel(module.double, allocates=True)
out = call()
"""
    for _ in range(2):
        check(small.run(generated), 1, 0)
