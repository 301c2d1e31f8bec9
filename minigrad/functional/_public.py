"""Make functions of ops public, so that they also take arrays, lists and numbers."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TypeAlias

from .. import ops
from ..engine.tensor import Tensor, TensorLike, as_tensor
from ..ops.primitive import Attribute

# A public function: it takes Tensors, arrays, lists and numbers.
Function: TypeAlias = Callable[..., Tensor]

# The end of the docstring of every elementwise function.
ELEMENTWISE = (
    "Elementwise: inputs are broadcast together, and the result has their shape; its dtype is\n"
    "theirs, float32 for integers where fractions arise, or bool. Errors: ShapeError, DtypeError."
)
OVER_AXES = "axis: an int, a tuple of them, or None; keepdims=True leaves those axes with size 1."


def public(function: Function, more: str = "") -> Function:
    """Return a public version of a function or primitive, whose result is always a Tensor.

    If no input is a Tensor, the first one is converted. more: the end of the docstring; the default
    for a primitive is ELEMENTWISE.
    """
    name = getattr(function, "name", None) or function.__name__

    def called(*inputs: TensorLike, **options: Attribute) -> Tensor:
        if inputs and not any(isinstance(x, Tensor) for x in inputs):
            inputs = (as_tensor(inputs[0], name), *inputs[1:])
        return function(*inputs, **options)

    called.__name__ = called.__qualname__ = name
    if isinstance(function, ops.Primitive):
        more = more or ELEMENTWISE
    else:
        called = functools.wraps(function)(called)
    called.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n{more}".strip()
    called.__module__ = "minigrad"
    return called


def joining(function: Function) -> Function:
    """Return a public version of a function of a list of tensors, which converts each of them."""

    @functools.wraps(function)
    def public(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
        return function([as_tensor(t, function.__name__) for t in tensors], axis)

    public.__module__ = "minigrad"
    return public
