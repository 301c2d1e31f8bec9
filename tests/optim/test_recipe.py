"""CONTRIBUTING's recipe for a new optimizer works in a copy of the package and of the tests.

Its steps are edits here; the tests that watch over them must then pass.
"""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import adam
import numba
import pytest

ROOT = Path(__file__).parents[2]
KERNEL = inspect.getsource(adam._adam)
OPTIMIZER = f"""\"\"\"Adam adapts its steps to the size of the gradients.\"\"\"

import math

from ..checks import number
from ..kernels import inplace as kernels
from .optimizer import Optimizer
from .rule import Rule

__all__ = ["Adam"]
ARRAYS = {adam.ARRAYS}

{inspect.getsource(adam.Adam).replace("optim.", "").replace("kernel(_adam)", "kernels.adam")}"""
WORKLOAD = """def _adam(dtype: str) -> None:
    w = tensor(_floats(dtype, C), requires_grad=True)
    opt = optim.Adam([w])
    w.sum().backward()
    opt.step()


WORKLOADS = {
    "training with Adam": _adam,
"""
COMPARED = """def adam(dtype: Any) -> Run:
    def run(kernel: Callable[..., Any]) -> list[Array]:
        p, g, m, v = (normal(dtype, 500 + i)[:500] for i in range(4))
        v, hyper = v * v, np.array([0.1, 1e-8, 0.9, 0.1, 0.99, 0.01, -0.1, -0.01], dtype)
        kernel(p, g, m, v, np.array(3), hyper)
        return [p, m, v]

    return run


ALONE: dict[str, Callable[[Any], Run]] = {
    "inplace._adam": adam,
"""
# Each step of the recipe: a file, a text in it, and what replaces that text.
STEPS = {
    "the module that a kernel needs": (
        "minigrad/kernels/inplace.py",
        "from ..types import Array\n",
        "import math\n\nfrom ..types import Array\n",
    ),
    "a kernel": (
        "minigrad/kernels/inplace.py",
        "sgd = kernel(_sgd)\n",
        f"{KERNEL}\n\nadam = kernel(_adam)\nsgd = kernel(_sgd)\n",
    ),
    "a file": ("minigrad/optim/adam.py", "", OPTIMIZER),
    "an export": (
        "minigrad/optim/__init__.py",
        "from .optimizer import Optimizer\n",
        "from .adam import Adam\nfrom .optimizer import Optimizer\n",
    ),
    "its name": ("minigrad/optim/__init__.py", '__all__ = ["SGD"', '__all__ = ["SGD", "Adam"'),
    "a workload": ("minigrad/warmup.py", "WORKLOADS = {\n", WORKLOAD),
    "a kernel to compare": (
        "tests/kernels/test_compiled.py",
        "ALONE: dict[str, Callable[[Any], Run]] = {\n",
        COMPARED,
    ),
}
# The test of all workloads would compile every kernel; these compile Adam's alone.
WATCHED = """
from minigrad import optim, warmup


def test_adam_is_exported():
    assert "Adam" in optim.__all__


def test_adam_is_warmed_up():
    for dtype in ("float32", "float64"):
        warmup.WORKLOADS["training with Adam"](dtype)
    signatures = warmup.KERNELS["minigrad.kernels.inplace._adam"].signatures
    assert {str(s[0].dtype) for s in signatures} == {"float32", "float64"}
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="no kernel is compiled")
def test_an_optimizer_takes_the_steps_of_the_recipe(tmp_path: Path) -> None:
    for part in ("minigrad", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, before, after in STEPS.values():
        path = tmp_path / name
        source = path.read_text(encoding="utf-8") if path.exists() else ""
        assert before in source
        path.write_text(source.replace(before, after, 1), encoding="utf-8")
    (tmp_path / "tests/test_adam.py").write_text(WATCHED, encoding="utf-8")
    watching = ("test_adam", "test_docstrings", "test_architecture", "kernels/test_compiled")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *(f"tests/{name}.py" for name in watching)]
        + ["-p", "no:cacheprovider", "-k", "docstrings or architecture or compared or adam"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
