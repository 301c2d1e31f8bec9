"""The functions of Tensors that users find in `minigrad`: those of ops, taking also arrays,
lists and numbers, which become constants. Besides that conversion, the number of threads and the
seed.

May import tensor, ops and below.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from .. import ops
from ..checks import integer
from ..engine.tensor import Tensor, as_tensor
from ..engine.tracer import refuse_in_trace
from ..kernels.threading import pool
from ..ops import random

Function = Callable[..., Tensor]


# What the table of primitives need not repeat for each of them.
ELEMENTWISE = (
    "Elementwise: inputs are broadcast together, and the result has their shape; its dtype is\n"
    "theirs, float32 for integers where fractions arise, or bool. Errors: ShapeError, DtypeError."
)
OVER_AXES = "axis: an int, a tuple of them, or None; keepdims=True leaves those axes with size 1."


def _public(function: Function, more: str = "") -> Function:
    """The function, or primitive, with its first input made a Tensor if none of them is one.

    more: what its docstring says besides.
    """
    name = getattr(function, "name", None) or function.__name__

    def public(*inputs: Any, **options: Any) -> Tensor:
        if inputs and not any(isinstance(x, Tensor) for x in inputs):
            inputs = (as_tensor(inputs[0], name), *inputs[1:])
        return function(*inputs, **options)

    public.__name__ = public.__qualname__ = name
    if isinstance(function, ops.Primitive):
        more = more or ELEMENTWISE
    else:
        public = functools.wraps(function)(public)
    public.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n{more}".strip()
    public.__module__ = "minigrad"
    return public


def _joining(function: Function) -> Function:
    """The same for functions of a list of tensors."""

    @functools.wraps(function)
    def public(tensors: Any, axis: int = 0) -> Tensor:
        return function([as_tensor(t, function.__name__) for t in tensors], axis)

    public.__module__ = "minigrad"
    return public


abs = _public(ops.abs)
argmax = _public(ops.argmax)
argmin = _public(ops.argmin)
broadcast_to = _public(ops.broadcast_to)
clip = _public(ops.clip)
equal = _public(ops.equal)
erf = _public(ops.erf)
exp = _public(ops.exp)
flatten = _public(ops.flatten)
greater = _public(ops.greater)
greater_equal = _public(ops.greater_equal)
isnan = _public(ops.isnan)
less = _public(ops.less)
less_equal = _public(ops.less_equal)
log = _public(ops.log)
logical_and = _public(ops.logical_and)
logical_not = _public(ops.logical_not)
logical_or = _public(ops.logical_or)
matmul = _public(
    ops.matmul,
    "Shapes (..., n, k) and (..., k, m) give (..., n, m). Errors: ShapeError, DtypeError.",
)
max = _public(ops.max, OVER_AXES)
maximum = _public(ops.maximum)
mean = _public(ops.mean, OVER_AXES)
min = _public(ops.min, OVER_AXES)
minimum = _public(ops.minimum)
not_equal = _public(ops.not_equal)
permute_dims = _public(ops.permute_dims)
relu = _public(ops.relu)
reshape = _public(ops.reshape)
rsqrt = _public(ops.rsqrt)
sigmoid = _public(ops.sigmoid)
sign = _public(ops.sign)
softplus = _public(ops.softplus)
sqrt = _public(ops.sqrt)
square = _public(ops.square)
squeeze = _public(
    ops.squeeze, "axis: an int or a tuple of them. Errors: ArgumentError, ShapeError."
)
std = _public(ops.std, f"{OVER_AXES}\ncorrection: as for var.")
sum = _public(ops.sum, OVER_AXES)
tanh = _public(ops.tanh)
transpose = _public(ops.transpose)
unsqueeze = _public(ops.unsqueeze)
var = _public(ops.var, OVER_AXES)
where = _public(ops.where)
concat = _joining(ops.concat)
stack = _joining(ops.stack)


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
