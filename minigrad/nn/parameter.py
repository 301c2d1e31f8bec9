"""A Parameter is a Tensor that belongs to a Module."""

import numpy as np

from ..engine.tensor import Tensor, TensorLike, tensor
from ..engine.tracer import refuse_in_trace


class Parameter(Tensor):
    """A Tensor that belongs to a Module, with a copy of data; dtypes and errors are mg.tensor's.

    requires_grad: with False it is saved and loaded, but not trained.
    """

    __slots__ = ()

    def __init__(self, data: TensorLike, requires_grad: bool = True) -> None:
        refuse_in_trace("a new Parameter", "would be made once; build modules outside the step")
        super().__init__(np.ascontiguousarray(tensor(data).data).reshape(np.shape(data)))
        self.requires_grad = requires_grad
