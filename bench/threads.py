"""Each library has its own means of setting how many threads it uses."""

from __future__ import annotations

import sys


def variables(count: int) -> dict[str, str]:
    """Return the environment variables for a new process, in which JAX reads them."""
    return {"NPROC": str(count)}


def limit(count: int) -> None:
    """Limit the libraries that are loaded in this process, and the BLAS of each, to `count`."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(count, user_api="blas")
    for name in ("minigrad", "torch"):
        if name in sys.modules:
            sys.modules[name].set_num_threads(count)
