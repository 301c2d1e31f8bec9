"""minigrad: a tiny tape-based reverse-mode autodiff engine for the CPU, compiled with Numba.

A Tensor records the operations that made it; `backward` walks the record in reverse. Every
primitive's forward stands beside its derivative in minigrad/ops, and that one rule serves the
engine, higher derivatives and whatever reads the tape. Names are PyTorch's (nn, optim,
functional) and the array API standard's (functions of Tensors). Examples in docstrings begin with

    import numpy as np
    import minigrad as mg
    from minigrad import nn, optim, functional as F
"""

from typing import TYPE_CHECKING

from . import data as data
from . import errors as errors
from . import functional as functional
from . import nn as nn
from . import optim as optim
from .engine.backward import grad as grad
from .engine.tape import enable_grad as enable_grad
from .engine.tape import is_grad_enabled as is_grad_enabled
from .engine.tape import no_grad as no_grad
from .engine.tensor import Tensor as Tensor
from .engine.tensor import tensor as tensor
from .functional import array_functions as _array_functions
from .functional.array_functions import *
from .functional.config import show_config as show_config
from .functional.custom import primitive as primitive
from .functional.settings import get_num_threads as get_num_threads
from .functional.settings import manual_seed as manual_seed
from .functional.settings import set_num_threads as set_num_threads
from .gradcheck import gradcheck as gradcheck

if TYPE_CHECKING:
    from .compiler import compile as compile
    from .explainer import explain as explain
else:  # type checkers take the imports above, which say `as`, and all of array_functions
    __all__ = sorted(
        [
            *(name for name in vars(_array_functions) if name[0] != "_"),
            *("Tensor", "tensor", "grad", "no_grad", "enable_grad", "is_grad_enabled"),
            *("get_num_threads", "set_num_threads", "manual_seed"),
            *("compile", "explain", "gradcheck", "primitive", "show_config"),
            *("data", "errors", "functional", "nn", "optim"),
        ]
    )

    def __getattr__(name: str) -> object:
        """Import compiler and explainer when they are first used: not every program needs them."""
        found: object
        if name == "compile":
            from .compiler import compile as found
        elif name == "explain":
            from .explainer import explain as found
        else:
            raise AttributeError(f"module 'minigrad' has no attribute {name!r}")
        globals()[name] = found
        return found


__version__ = "0.1.0"
