"""What holds for the whole process: the number of threads and the seed."""

from ..checks import integer
from ..engine.tracer import refuse_in_trace
from ..kernels.threading import pool
from ..ops import random


def get_num_threads() -> int:
    """How many threads, the caller's included, share the work on a large array."""
    return pool.get_num_threads()


def set_num_threads(n: int) -> None:
    """Let n threads, the caller's included, share the work on a large array; results stay the same.

    The default is the number of cores that the process may use, or NUMBA_NUM_THREADS; more than
    64, or than there are cores, are cut to that. Products of matrices have threads of their own
    (OPENBLAS_NUM_THREADS). Errors: ArgumentError.
    """
    pool.set_num_threads(integer("set_num_threads", "n", n, 1))


def manual_seed(seed: int) -> None:
    """Make every later random draw of minigrad (initial weights, dropout) follow from `seed`.

    Errors: ArgumentError for anything but a non-negative integer; TraceError inside mg.compile.

    >>> mg.manual_seed(0)
    >>> first = nn.Linear(2, 1).weight
    >>> mg.manual_seed(0)
    >>> nn.Linear(2, 1).weight.tolist() == first.tolist()
    True
    """
    refuse_in_trace("mg.manual_seed", "would seed the first call alone; seed before the step")
    random.start(integer("manual_seed", "seed", seed, 0))
