"""`python -m minigrad.warmup` compiles all kernels; processes of all kinds then load them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import pytest

from minigrad import warmup

ROOT = Path(__file__).parents[1]
jit_only = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="nothing is compiled without the compiler"
)

# Every kernel, also of a file that nothing imports yet, with the dtypes of its arrays.
SIGNATURES = """
import importlib, json, pkgutil
from numba import types
from minigrad import kernels, warmup

for module in pkgutil.walk_packages(kernels.__path__, "minigrad.kernels."):
    importlib.import_module(module.name)
code = warmup.main()
met = {
    name: [sorted({str(t.dtype) for t in s if isinstance(t, types.Array)}) for s in k.signatures]
    for name, k in warmup.KERNELS.items()
    if name.startswith("minigrad.kernels.")  # and is not generated
}
print(json.dumps([code, met]))
"""
STEP = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import numpy as np
from minigrad import nn, optim, functional as F
from minigrad.kernels.jit.decorators import KERNELS

def step(_=None):
    x = np.linspace(-1.0, 1.0, 32 * 64, dtype="float32").reshape(32, 64)
    layers = (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    model = nn.Sequential(*layers)
    for p in model.parameters():
        p.data[...] = np.linspace(-1.0, 1.0, p.size).reshape(p.shape)
    opt = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    F.cross_entropy(model(x), np.arange(32) % 10).backward()
    opt.step()
    return F.cross_entropy(model(x), np.arange(32) % 10).item()
"""


def run(*arguments: str, **variables: str) -> str:
    """Return what a new process prints, with these environment variables."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def signatures() -> Iterator[dict[str, list[list[str]]]]:
    """Return, for each kernel and signature after a warm-up, the dtypes of its arrays."""
    output = run("-c", SIGNATURES)
    code, met = json.loads(output.splitlines()[-1])
    assert code == 0
    yield met


def missing(name: str, signatures: list[list[str]]) -> list[str]:
    """Return the dtypes in which a warm-up has not called a kernel that takes floats."""
    floats = [{d for d in dtypes if d.startswith("float")} for dtypes in signatures]
    found = {"float32" if "float32" in f else "float64" for f in floats if f}
    if signatures and not found:
        return []
    return [f"{name}: {dtype}" for dtype in ("float32", "float64") if dtype not in found]


@jit_only
def test_every_kernel_is_met_in_both_dtypes(signatures: dict[str, list[list[str]]]) -> None:
    assert len(signatures) > 1
    assert [dtype for met in signatures.items() for dtype in missing(*met)] == []


def test_a_kernel_that_is_forgotten_is_named() -> None:
    assert missing("k", []) == ["k: float32", "k: float64"]
    assert missing("k", [["float32", "float64"], ["int64"]]) == ["k: float64"]
    assert missing("k", [["float64"], ["float32", "int64"]]) == []
    assert missing("k", [["int64"]]) == []


@jit_only
@pytest.mark.usefixtures("signatures")
def test_a_second_run_finds_all() -> None:
    done, kept = run("-m", "minigrad.warmup").splitlines()
    assert "kernels: all are there, nothing to compile; " in done
    assert Path(kept.removeprefix("kept in ")).is_dir()


@jit_only
def test_a_first_run_says_what_it_will_do(tmp_path: Path) -> None:
    """Before the first kernel it says how many are missing, how long they take, and the folder.

    A broken entry counts as missing, and so do all entries after a change of the sources.
    """
    script = """
from minigrad import functional as F, warmup
import numpy as np
def _small(dtype):
    F.relu(np.ones(3, dtype))
warmup.WORKLOADS = {"a relu": _small}
warmup.main()
"""
    env = {"NUMBA_CACHE_DIR": str(tmp_path / "new")}
    lines = run("-c", script, **env).splitlines()
    count = int(lines[0].split()[0])
    text, (one, other, done, kept) = " ".join(lines[:3]), lines[3:]
    assert text.startswith(f"{count} of {count} kernels are not on disk: compiling them")
    assert re.search(r"takes about \d+ (s|minutes) on this machine", text)
    assert kept == f"kept in {lines[2]}" and lines[2].startswith(env["NUMBA_CACHE_DIR"])
    for line, start in ((one, " 1 of 2: float32"), (other, " 2 of 2: float64")):
        assert re.fullmatch(rf"{start}, a relu: 1 compiled, 0 loaded, [\d.]+ s", line)
    assert re.fullmatch(rf"2 variants of {count} kernels: 2 compiled; [\d.]+ s", done)
    again = run("-c", script, **env).splitlines()
    assert again[0].startswith(f"{count - 1} of {count} kernels are not on disk")
    assert "0 compiled, 1 loaded" in again[3] and "nothing to compile" in again[5]
    for path in (tmp_path / "new").rglob("*.nbc"):
        path.write_bytes(path.read_bytes()[:-1])
    assert run("-c", script, **env).startswith(f"{count} of {count} kernels are not on disk")


@jit_only
@pytest.mark.usefixtures("signatures")
def test_a_first_step_only_loads() -> None:
    """Importing loads no kernel, and a step compiles none and imports nothing for compiling.

    Such imports would take longer than the rest of a first step but for Numba's own.
    """
    script = f"""{STEP}
assert not any(k.signatures for k in KERNELS.values())
assert "minigrad.warmup" not in sys.modules
step()
print(sum(sum(k.stats.cache_misses.values()) for k in KERNELS.values()))
print("numba.np.npyimpl" in sys.modules)
"""
    assert run("-c", script).split() == ["0", "False"]


@pytest.mark.sampled(3)
@jit_only
@pytest.mark.usefixtures("signatures")
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("before", [True, False])
def test_kernels_run_in_children(method: str, before: bool, tmp_path: Path) -> None:
    """This holds whether or not the parent has loaded them."""
    if method == "fork" and os.name == "nt":
        pytest.skip("no fork")
    program = tmp_path / "program.py"  # a spawned child imports it
    program.write_text(f"""{STEP}
if __name__ == "__main__":
    losses = [step()] if {before} else []
    context = multiprocessing.get_context({method!r})
    with ProcessPoolExecutor(2, context) as pool:  # which, unlike Pool, says when a child dies
        losses += pool.map(step, range(2))
    losses.append(step())
    print(len(set(losses)), losses[0] > 0)
""")
    assert run("-W", "ignore::DeprecationWarning", str(program)) == "1 True\n"


def test_without_the_compiler_there_is_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config: Any = numba.config
    monkeypatch.setattr(config, "DISABLE_JIT", 1)
    assert warmup.main() == 0
    assert "switched off" in capsys.readouterr().out


@pytest.mark.parametrize("name", warmup.WORKLOADS)
def test_workloads_run(name: str) -> None:
    """They run under coverage as well, where the others are skipped."""
    warmup.WORKLOADS[name]("float64")
