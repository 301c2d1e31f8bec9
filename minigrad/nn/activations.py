"""These Modules are the activations of minigrad.functional, with their arguments."""

from .. import functional as F
from ..checks import ABOVE_0, number
from ..engine.tensor import Tensor, TensorLike
from .module import Module


class ReLU(Module):
    """A layer that computes max(x, 0) elementwise; its derivative at 0 is 0."""

    def forward(self, x: TensorLike) -> Tensor:
        """Return y of the shape of x."""
        return F.relu(x)


class LeakyReLU(Module):
    """A layer that keeps x where it is positive, and elsewhere computes negative_slope * x.

    Errors: ArgumentError; see F.leaky_relu.
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = number("LeakyReLU", "negative_slope", negative_slope)

    def forward(self, x: TensorLike) -> Tensor:
        """Return y of the shape of x."""
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class Sigmoid(Module):
    """A layer that computes 1 / (1 + exp(-x)) elementwise."""

    def forward(self, x: TensorLike) -> Tensor:
        """Return y of the shape of x."""
        return F.sigmoid(x)


class Tanh(Module):
    """A layer that computes the hyperbolic tangent elementwise."""

    def forward(self, x: TensorLike) -> Tensor:
        """Return y of the shape of x."""
        return F.tanh(x)


class GELU(Module):
    """A layer that computes x * Phi(x) elementwise; approximate="tanh" is faster; see F.gelu."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: TensorLike) -> Tensor:
        """Return y of the shape of x."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Softplus(Module):
    """A layer that computes log(1 + exp(beta * x)) / beta elementwise.

    threshold: accepted and ignored; see F.softplus. Errors: ArgumentError unless beta > 0.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = number("Softplus", "beta", beta, ABOVE_0)
        self.threshold = threshold

    def forward(self, x: TensorLike) -> Tensor:
        """Return y of the shape of x."""
        return F.softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}"


class Softmax(Module):
    """A layer that computes softmax along one axis, by default the last; see F.softmax."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: TensorLike) -> Tensor:
        """Return y of the shape of x."""
        return F.softmax(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


class LogSoftmax(Softmax):
    """A layer that computes the logarithm of softmax along one axis; see F.log_softmax."""

    def forward(self, x: TensorLike) -> Tensor:
        """Return y of the shape of x."""
        return F.log_softmax(x, self.axis)
