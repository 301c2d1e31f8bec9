"""minigrad: a tiny tape-based reverse-mode autodiff engine for the CPU, compiled with Numba.

A Tensor records the operations that made it; `backward` walks the record in reverse. Every
primitive's forward stands beside its derivative in minigrad/ops, and that one rule serves the
engine, higher derivatives and whatever reads the tape. Names are PyTorch's (nn, optim,
functional) and the array API standard's (functions of Tensors). Examples in docstrings begin with

    import numpy as np
    import minigrad as mg
    from minigrad import nn, optim, functional as F
"""

from typing import TYPE_CHECKING, Any

from . import data, errors, functional, nn, optim
from .engine.backward import grad
from .engine.tape import enable_grad, is_grad_enabled, no_grad
from .engine.tensor import Tensor, tensor
from .functional.array_functions import (
    abs,
    argmax,
    argmin,
    broadcast_to,
    clip,
    concat,
    equal,
    erf,
    exp,
    flatten,
    get_num_threads,
    greater,
    greater_equal,
    isnan,
    less,
    less_equal,
    log,
    logical_and,
    logical_not,
    logical_or,
    manual_seed,
    matmul,
    max,
    maximum,
    mean,
    min,
    minimum,
    not_equal,
    permute_dims,
    relu,
    reshape,
    rsqrt,
    set_num_threads,
    sigmoid,
    sign,
    softplus,
    sqrt,
    square,
    squeeze,
    stack,
    std,
    sum,
    tanh,
    transpose,
    unsqueeze,
    var,
    where,
)
from .gradcheck import gradcheck

if TYPE_CHECKING:
    from .compiler import compile
    from .explainer import explain

__version__ = "0.1.0"

__all__ = [
    "Tensor",
    "abs",
    "argmax",
    "argmin",
    "broadcast_to",
    "clip",
    "compile",
    "concat",
    "data",
    "enable_grad",
    "equal",
    "erf",
    "errors",
    "exp",
    "explain",
    "flatten",
    "functional",
    "get_num_threads",
    "grad",
    "gradcheck",
    "greater",
    "greater_equal",
    "is_grad_enabled",
    "isnan",
    "less",
    "less_equal",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "manual_seed",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "nn",
    "no_grad",
    "not_equal",
    "optim",
    "permute_dims",
    "relu",
    "reshape",
    "rsqrt",
    "set_num_threads",
    "sigmoid",
    "sign",
    "softplus",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "sum",
    "tanh",
    "tensor",
    "transpose",
    "unsqueeze",
    "var",
    "where",
]


def __getattr__(name: str) -> Any:
    """Compiler and explainer are imported when first used: not every program needs them."""
    found: Any
    if name == "compile":
        from .compiler import compile as found
    elif name == "explain":
        from .explainer import explain as found
    else:
        raise AttributeError(f"module 'minigrad' has no attribute {name!r}")
    globals()[name] = found
    return found
