"""Resident memory of this process, and how much of it a repeated call adds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATM, STATUS = Path("/proc/self/statm"), Path("/proc/self/status")


def resident_kb() -> float:
    """Resident kilobytes now; where the system does not tell, the most there ever were."""
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
    return peak_kb()


def peak_kb() -> float:
    """The most kilobytes that were ever resident in this process."""
    if STATUS.exists():  # where getrusage counts what the parent had when it forked
        (line,) = (x for x in STATUS.read_text().splitlines() if x.startswith("VmHWM"))
        return float(line.split()[1])
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "darwin" else peak  # macOS counts bytes, others kB


def growth(call: Callable[[], Any], count: int, warm_up: int) -> float:
    """Kilobytes that `count` calls add after `warm_up` calls; the collector stays as it is."""
    for _ in range(warm_up):
        call()
    before = resident_kb()
    for _ in range(count):
        call()
    return resident_kb() - before
