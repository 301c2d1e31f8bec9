"""A package with two kernels of its own and a copy of kernels/jit, for the tests of the cache.

The tests start processes that use it, and kill some.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import pytest

MINIGRAD = Path(__file__).parents[2] / "minigrad"

HELPER = "import numba\n\n@numba.njit\ndef scale(x):\n    return x * {}\n"
WORK = """
from .helper import scale
from .jit.decorators import kernel

def _double(a, out):
    for i in range(a.size):
        out[i] = scale(a[i])

def _add(a, out):
    for i in range(a.size):
        out[i] += a[i]

double, add = kernel(_double), kernel(_add)
"""
START = """
import json, os, sys, time
import numpy as np
from small.kernels import work
from small.kernels.jit import decorators

cache = sys.modules.get("small.kernels.jit.cache")

def call(name="double", dtype="float64"):
    out = np.zeros(3, dtype)
    getattr(work, name)(np.arange(3, dtype=dtype), out)
    return out.tolist()

def count(which):
    return sum(sum(getattr(k.stats, which).values()) for k in decorators.KERNELS.values())
"""
FINISH = """
print(json.dumps({"out": out, "compiled": count("cache_misses"), "loaded": count("cache_hits")}))
"""
# printing "now" in the middle of compiling, for whoever kills the process then
COMPILES_FOREVER = """
import time
from numba.core import typed_passes
typed_passes.NativeLowering.run_pass = lambda *_: (print("now", flush=True), time.sleep(100))
"""


class Small:
    """A Small is a package with two kernels, one with a helper in another file, and runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.package = folder, folder / "small" / "kernels"
        self.cache, self.user = self.package / "__pycache__", folder / "user"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(MINIGRAD / "kernels" / "jit", self.package / "jit", ignore=ignored)
        for name in ("system.py", "types.py"):
            shutil.copy(MINIGRAD / name, self.package.parent)
        for made in (self.package, self.package.parent):
            (made / "__init__.py").touch()
        (self.package / "helper.py").write_text(HELPER.format("2.0"))
        (self.package / "work.py").write_text(WORK)

    def start(self, script: str, *flags: str, **variables: str) -> "subprocess.Popen[str]":
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
        own = {"PYTHONPATH": str(self.folder), "XDG_CACHE_HOME": str(self.user)}
        return subprocess.Popen(
            [sys.executable, *flags, "-c", START + script],
            env={**inherited, **own, "LOCALAPPDATA": str(self.user), **variables},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str = "out = call()", *flags: str, **variables: str) -> dict[str, Any]:
        """Return what `script` leaves in `out`, and how many kernels were compiled and loaded."""
        process = self.start(script + FINISH, *flags, **variables)
        output, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
        return {**json.loads(output), "errors": errors}

    def entries(self) -> list[Path]:
        return sorted(self.folder.rglob("*.nbc"))


@pytest.fixture
def small(tmp_path: Path) -> Small:
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        pytest.skip("processes of their own compile all the same: nothing that the other run lacks")
    return Small(tmp_path)


def check(result: dict[str, Any], compiled: int, loaded: int, out: Any = (0.0, 2.0, 4.0)) -> None:
    assert result == {"out": list(out), "compiled": compiled, "loaded": loaded, "errors": ""}
