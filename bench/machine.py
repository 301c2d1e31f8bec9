"""What a figure depends on besides the code: processor, cores, versions, thread counts."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PEERS = ("torch", "jax")


def installed(library: str) -> bool:
    """Whether `library` can be imported, found out without importing it."""
    return find_spec(library) is not None


def cpu_model() -> str:
    """The processor's name, as far as the operating system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return found.group(1)
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float:
    """Average number of programs that wanted to run in the last minute; 0 where nobody tells."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def versions() -> dict[str, str]:
    """Versions of Python and of each library that is installed."""
    found = {"python": platform.python_version()}
    for name in ("minigrad-numba", "numpy", "numba", "scipy", *PEERS):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def threads() -> dict[str, int | str]:
    """Thread counts of what is loaded in this process.

    Libraries run in turn, never at once, so each has all cores to itself.
    """
    found: dict[str, int | str] = {}
    if "numba" in sys.modules:
        found["numba"] = sys.modules["numba"].config.NUMBA_NUM_THREADS
    if installed("threadpoolctl"):
        from threadpoolctl import threadpool_info

        # NumPy's and SciPy's wheels carry a BLAS each; the file's path says whose it is.
        for pool in threadpool_info():
            owner = re.search(r"(numpy|scipy|torch)", pool["filepath"])
            label = f"{owner.group(1)} {pool['internal_api']}" if owner else pool["internal_api"]
            found[label] = pool["num_threads"]
    if "torch" in sys.modules:
        found["torch"] = sys.modules["torch"].get_num_threads()
    if "jax" in sys.modules:
        found["jax"] = "XLA's own pool"  # it has no call that tells
    return found


def describe() -> dict[str, Any]:
    """What stays the same from run to run, ready for JSON."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }
