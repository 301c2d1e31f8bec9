"""Parameter: a Tensor that belongs to a Module."""

from typing import Any

import numpy as np

from ..engine.tape import refuse_in_trace
from ..engine.tensor import Tensor, tensor


class Parameter(Tensor):
    """A Tensor that belongs to a Module, with a copy of data; dtypes and errors are mg.tensor's.

    requires_grad: with False it is saved and loaded, but not trained.
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        refuse_in_trace("a new Parameter", "would be made once; build modules outside the step")
        super().__init__(np.ascontiguousarray(tensor(data).data).reshape(np.shape(data)))
        self.requires_grad = requires_grad
