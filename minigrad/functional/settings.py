"""These functions set the number of threads and the random seed of the whole process."""

from ..checks import integer
from ..engine.tracer import refuse_in_trace
from ..kernels.threading import pool
from ..ops import random


def get_num_threads() -> int:
    """Return how many threads, including the caller, share the work on a large array."""
    return pool.get_num_threads()


def set_num_threads(n: int) -> None:
    """Let n threads, including the caller, share the work on a large array.

    Results do not depend on n. The default is NUMBA_NUM_THREADS or, if that is not set, the number
    of cores that the process may use. The largest n is 64, or the number of cores if that is
    larger; n is cut to it. Errors: ArgumentError.

    Products of matrices count as well: while minigrad computes one, OpenBLAS uses a single thread,
    and has its own number of threads back afterwards. Another BLAS, such as MKL, Accelerate or
    BLIS, keeps its own threads, on which results may then depend; `mg.show_config()` tells.
    """
    pool.set_num_threads(integer("set_num_threads", "n", n, 1))


def manual_seed(seed: int) -> None:
    """Make all later random draws of minigrad (initial weights, dropout) depend on `seed` only.

    Errors: ArgumentError for anything but a non-negative integer; TraceError inside mg.compile.

    >>> mg.manual_seed(0)
    >>> first = nn.Linear(2, 1).weight
    >>> mg.manual_seed(0)
    >>> nn.Linear(2, 1).weight.tolist() == first.tolist()
    True
    """
    refuse_in_trace("mg.manual_seed", "would seed the first call alone; seed before the step")
    random.reseed(integer("manual_seed", "seed", seed, 0))
