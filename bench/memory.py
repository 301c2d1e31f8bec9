"""These functions measure the resident memory of this process, and its growth by repeated calls."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATM, STATUS = Path("/proc/self/statm"), Path("/proc/self/status")


def resident_kb() -> float:
    """Return the resident kilobytes now or, where the system cannot tell, their peak."""
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
    return peak_kb()


def peak_kb() -> float:
    """Return the peak of resident kilobytes in this process."""
    if STATUS.exists():  # here getrusage includes the parent's memory at the fork
        (line,) = (x for x in STATUS.read_text().splitlines() if x.startswith("VmHWM"))
        return float(line.split()[1])
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "darwin" else peak  # macOS: bytes, others: kB


def growth(call: Callable[[], Any], count: int, warm_up: int) -> float:
    """Return the kilobytes that `count` calls add after `warm_up` calls.

    The garbage collector runs as usual.
    """
    for _ in range(warm_up):
        call()
    before = resident_kb()
    for _ in range(count):
        call()
    return resident_kb() - before
