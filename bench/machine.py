"""These functions find what figures depend on: processor, cores, versions and threads."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PEERS = ("torch", "jax", "scikit-learn", "mygrad")


def installed(library: str) -> bool:
    """Return whether `library` can be imported, without importing it."""
    return find_spec(library) is not None


def cpu_model() -> str:
    """Return the name of the processor, if the operating system knows it, or its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return found.group(1)
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float:
    """Return the load average of the last minute, or 0 if the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def versions() -> dict[str, str]:
    """Return the versions of Python and of each library that is installed."""
    found = {"python": platform.python_version()}
    for name in ("minigrad-numba", "numpy", "numba", "scipy", *PEERS):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def threads() -> dict[str, int | str]:
    """Return the thread counts of the libraries that are loaded in this process.

    Libraries run in turn, so each may use all cores.
    """
    found: dict[str, int | str] = {}
    if "minigrad" in sys.modules:
        found["minigrad"] = sys.modules["minigrad"].get_num_threads()
    if installed("threadpoolctl"):
        from threadpoolctl import threadpool_info

        # The wheels of NumPy and SciPy have a BLAS each; the path tells them apart.
        for pool in threadpool_info():
            owner = re.search(r"(numpy|scipy|torch)", pool["filepath"])
            label = f"{owner.group(1)} {pool['internal_api']}" if owner else pool["internal_api"]
            found[label] = pool["num_threads"]
    if "torch" in sys.modules:
        found["torch"] = sys.modules["torch"].get_num_threads()
    if "jax" in sys.modules:
        # JAX has no function that returns the count.
        found["jax"] = os.environ.get("NPROC", "XLA's own pool")
    return found


def describe() -> dict[str, Any]:
    """Return what stays the same from run to run, as values for JSON."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }
