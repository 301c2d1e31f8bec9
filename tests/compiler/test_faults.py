"""Compiled steps survive broken, missing and stale files, and processes that are killed or fork.

No fault, race or interrupt may make them crash, hang or leave half a step.
"""

import copy
import itertools
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from calls import call_in_progress
from small_networks import batches, network, same, state
from small_package import COMPILES_FOREVER

import minigrad as mg
from minigrad import ops
from minigrad.compiler.codegen.calls import CALLS
from minigrad.compiler.runtime import executable

jit_only = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT),  # type: ignore[attr-defined]
    reason="processes of their own compile all the same: nothing that the other run lacks",
)
posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX")

SCRIPT = """
import json, os, signal, sys, time
import numpy as np
import minigrad as mg

step = mg.compile(lambda x: mg.sigmoid(x) * 2)
def use():
    x = np.zeros(3)
    step(x)
    return step(x).data.tolist()
"""
FINISH = """
print(json.dumps([out, str(step.path), "step: compiled by Numba" in step.report()]))
"""


class Folder:
    """A Folder holds generated files, and starts processes that use it."""

    def __init__(self, path: Path) -> None:
        self.path, self.package = path, Path(mg.__file__).parents[1]

    def start(self, script: str = "out = use()", finish: str = FINISH) -> "subprocess.Popen[str]":
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
        own = {"PYTHONPATH": str(self.package), "NUMBA_CACHE_DIR": str(self.path)}
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT + script + finish],
            env={**inherited, **own},
            cwd=self.package,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str = "out = use()") -> tuple[Any, str, bool, str]:
        """Return the step's result, its file, whether it was compiled, and what stderr says."""
        process = self.start(script)
        output, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
        return (*json.loads(output), errors)

    def check(self, compiled: bool, script: str = "out = use()") -> None:
        out, path, is_new, errors = self.run(script)
        assert (out, is_new, errors) == ([1.0] * 3, compiled, "") and Path(path).is_file()

    def one(self, pattern: str) -> Path:
        (found,) = self.path.rglob(pattern)
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "cache")


@pytest.fixture(scope="session")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache in which the step is compiled, made once for all tests."""
    folder = Folder(tmp_path_factory.mktemp("compiled") / "cache")
    folder.check(compiled=True)
    return folder.path


@pytest.fixture
def full(compiled_once: Path, folder: Folder) -> Folder:
    """Return a folder in which the step is compiled."""
    shutil.copytree(compiled_once, folder.path)
    return folder


BROKEN: dict[str, tuple[Any, Any]] = {  # what becomes of the source and of the machine code
    "half": (lambda text: text[: len(text) // 2], lambda code: code[: len(code) // 2]),
    "edited": (lambda text: text.replace(b"2", b"3"), lambda code: code[:-1] + b"x"),
}


@pytest.mark.sampled(2)
@jit_only
@pytest.mark.parametrize("how", BROKEN)
def test_broken_files_are_written_anew(full: Folder, how: str) -> None:
    """An edit of the source does not change what runs."""
    source, code = full.one("minigrad_*.py"), full.one("minigrad_*.nbc")
    text, machine = source.read_bytes(), code.read_bytes()
    source.write_bytes(BROKEN[how][0](text))
    code.write_bytes(BROKEN[how][1](machine))
    full.check(compiled=True)
    assert source.read_bytes() == text


@pytest.mark.exhaustive
@jit_only
def test_machine_code_without_its_source_is_loaded(full: Folder) -> None:
    full.one("minigrad_*.py").unlink()
    full.check(compiled=False)


@pytest.mark.exhaustive
@jit_only
@posix
def test_killed_and_interrupted_while_compiling(folder: Folder) -> None:
    """The interrupt comes while Numba's compiler is imported, which would not survive it."""
    process = folder.start(f"{COMPILES_FOREVER}use()")
    assert process.stdout is not None and process.stdout.readline() == "now\n"
    process.kill()
    process.communicate()
    interrupted = (
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.1)\n"
        "try:\n    use(); raise SystemExit('in time')\n"
        "except KeyboardInterrupt:\n    out = use()"
    )
    out, _, _, errors = folder.run(interrupted)
    assert (out, errors) == ([1.0] * 3, "")
    folder.check(compiled=False)


@pytest.mark.exhaustive
@jit_only
def test_racing_processes(folder: Folder) -> None:
    go = folder.path.parent / "go"
    wait = f"print('ready', flush=True)\nwhile not os.path.exists({str(go)!r}): time.sleep(0.001)\n"
    racing = [folder.start(f"{wait}out = use()") for _ in range(2)]
    for process in racing:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    go.touch()
    for process in racing:
        output, errors = process.communicate(timeout=100)
        assert (process.returncode, errors) == (0, "")
        assert json.loads(output)[0] == [1.0] * 3
    folder.check(compiled=False)
    assert list(folder.path.rglob("*.tmp")) == []


FULL_DISK = (
    "import resource\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
)


@pytest.mark.sampled(2)
@jit_only
@posix
@pytest.mark.parametrize("why", ["a file is in the folder's place", "the disk is full"])
def test_nothing_can_be_written(folder: Folder, why: str) -> None:
    """The step runs, and one warning says so."""
    if why == "the disk is full":
        out, path, _, errors = folder.run(f"{FULL_DISK}out = use()")
    else:
        folder.path.touch()
        out, path, _, errors = folder.run()
    assert (out, path) == ([1.0] * 3, "None")
    assert errors.count("RuntimeWarning: minigrad: compiled kernels cannot be saved") == 1
    assert [p.name for p in folder.path.rglob("*") if p.is_file()] == []


@pytest.mark.exhaustive
@jit_only
def test_an_edited_helper_is_compiled_anew(folder: Folder) -> None:
    package = folder.path.parent / "package"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(folder.package / "minigrad", package / "minigrad", ignore=ignored)
    folder.package = package
    folder.check(compiled=True)
    helper = package / "minigrad" / "kernels" / "codegen_runtime.py"
    helper.write_text(helper.read_text().replace("(function(a))", "(0 * function(a))"))
    out, _, is_new, _ = folder.run()
    assert (out, is_new) == ([2.0] * 3, True)  # of exp(-0) = 0


PRODUCT = """
step = mg.compile(lambda x: x @ x)
x = np.eye(3, dtype=np.float32) * 2
step(x), step(x)
"""


@jit_only
def test_what_is_loaded_brings_neither_scipy_nor_the_compiler(folder: Folder) -> None:
    names = ["numba.np.arraymath", "numba.np.arrayobj"]
    looked = f"[name for name in ['scipy.linalg', *{names}] if name in sys.modules]"
    both = "from scipy.linalg import cython_blas, lu; lu(x); out += [step(x).data[1, 1].item()]"
    script = f"{PRODUCT}out = [{looked}]; {both}"
    out, _, is_new, _ = folder.run(script)
    assert (out, is_new) == ([names, 4.0], True)
    out, _, is_new, _ = folder.run(script)
    assert (out, is_new) == ([[], 4.0], False)


# --- interrupts ---------------------------------------------------------------------------------


class Stop(BaseException):
    """A Stop is like KeyboardInterrupt, which pytest would take for its own."""


@posix
@pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT),  # type: ignore[attr-defined]
    reason="Python sees a signal between any two lines of a step that is not compiled",
)
def test_an_interrupt_finds_an_epoch_between_two_batches() -> None:
    x, y = (np.concatenate(a) for a in zip(*batches(3000), strict=True))
    (model, opt, step), (m2, o2, plain) = network(), network()
    compiled, expected = mg.compile(step), mg.compile(plain)

    def stop(*_: Any) -> None:
        raise Stop

    previous, done, stopped = signal.signal(signal.SIGALRM, stop), 0, 0
    try:
        for seconds in (0.0, 0.003, 0.005, 0.009):  # all is compiled in the first
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                few = len(x) if seconds else 80
                compiled.epoch(x[:few], y[:few], batch_size=8)
            except Stop:
                stopped += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            tracked = int(model[1].num_batches_tracked.item())
            for i in range(tracked - done):
                expected(x[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8])
            same(state(model, opt), state(m2, o2))
            done = tracked
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert stopped


def failing(function: Any, turns: Any, k: int, fault: Any) -> Any:
    """Return the function with a fault in its k-th turn."""

    def call(*given: Any) -> Any:
        if next(turns) == k:
            raise fault
        return function(*given)

    return call


@pytest.mark.parametrize("fault", [Stop, MemoryError])
@pytest.mark.filterwarnings("ignore:compile. .* cannot be compiled")
def test_an_exception_between_two_parts_changes_nothing(
    monkeypatch: Any, executables: Any, fault: Any
) -> None:
    """Updates come last, also where NumPy runs an operation between compiled parts."""
    monkeypatch.delitem(CALLS, "concat")
    (model, opt, step), (m2, o2, eager) = network(), network()

    def with_concat(inner: Any) -> Any:
        return lambda x, y: (inner(mg.concat([x[:4], x[4:]]), y), mg.concat([x, x]))

    compiled, expected = mg.compile(with_concat(step)), with_concat(eager)
    data = batches(4)
    for x, y in data[:2]:
        compiled(x, y)
        expected(mg.tensor(x), mg.tensor(y))
    before, parts = state(model, opt), len(executables[0].emitted.steps)
    assert parts > 1
    for k in range(parts):
        with monkeypatch.context() as patch:
            turns = itertools.count()
            for name, code in executables[0]._entries.items():
                patch.setitem(executables[0]._entries, name, failing(code, turns, k, fault))
            by_numpy = failing(executable.results_of, turns, k, fault)
            patch.setattr(executable, "results_of", by_numpy)
            executables[0]._rewrite()
            with pytest.raises(fault):
                compiled(*data[2])
        executables[0]._rewrite()
        same(state(model, opt), before)
    for x, y in data[2:]:
        compiled(x, y)
        expected(mg.tensor(x), mg.tensor(y))
    same(state(model, opt), state(m2, o2))


def test_an_interrupt_of_a_trace_takes_it_back() -> None:
    (model, opt, step), (m2, o2, eager) = network(), network()
    compiled = mg.compile(lambda x, y: (step(x, y), interrupt())[0])
    before = state(model, opt)
    x, y = batches(1)[0]

    def interrupt() -> None:
        if interrupts:
            raise interrupts.pop()

    interrupts = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        compiled(x, y)
    same(state(model, opt), before)
    for _ in range(2):
        compiled(x, y)
        eager(mg.tensor(x), mg.tensor(y))
    same(state(model, opt), state(m2, o2))


# --- processes ----------------------------------------------------------------------------------


@mg.compile
def doubled(x: Any) -> Any:
    return ops.tanh(x) * 2.0


def test_pickled_by_name_and_not_copied() -> None:
    assert pickle.loads(pickle.dumps(doubled)) is doubled
    assert copy.deepcopy(doubled) is doubled and copy.copy(doubled) is doubled


@jit_only
@posix
@pytest.mark.filterwarnings("ignore:os.fork.*was called:RuntimeWarning")  # by JAX
def test_a_child_of_a_process_in_a_compiled_call() -> None:
    """The child inherits a lock whose thread it does not have."""
    doubled(np.zeros(2))
    doubled(np.zeros(2))
    with call_in_progress(doubled, np.zeros(2)):
        child = os.fork()
        if child == 0:
            os._exit(0 if (doubled(np.zeros(2)).data == 0).all() else 1)
        for _ in range(1000):
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                break
            time.sleep(0.01)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child waits")
        assert status == 0


@jit_only
def test_a_spawned_process_gets_a_compiled_function() -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        (got,) = pool.map(doubled, [np.ones(2)])
    np.testing.assert_array_equal(got.data, doubled(np.ones(2)).data)
