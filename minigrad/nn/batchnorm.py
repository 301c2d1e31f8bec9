"""BatchNorm layers make and keep gamma, beta and the running statistics."""

import numpy as np

from ..checks import flag, integer
from ..engine.tensor import Tensor, TensorLike, as_tensor
from ..engine.tracer import runs_again
from ..errors import ShapeError
from ..functional.batchnorm import check_eps, check_momentum, normalised
from .activations import ReLU
from .module import Module, Options
from .parameter import Parameter


class _BatchNorm(Module):
    """A layer that normalises each channel (axis 1); F.batch_norm has the arithmetic and its
    errors.

    weight (gamma) begins at one and bias (beta) at zero: Parameters of shape (num_features,), made
    once, here, and updated by the optimizer like any weight; with affine=False they are None.
    running_mean begins at zero, running_var at one, num_batches_tracked at 0: buffers that change
    in training only; with track_running_stats=False they are None, and eval() normalises with the
    batch, too. eps, momentum, fused: see F.batch_norm; momentum=None takes the mean over all
    batches so far. Errors: ArgumentError, DtypeError; in calls ShapeError, and then nothing has
    changed.
    """

    _dimensions: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        fused: bool = True,
    ) -> None:
        name = type(self).__name__
        self.num_features = integer(name, "num_features", num_features, 1)
        self.eps = check_eps(name, eps, training=False)
        self.momentum = None if momentum is None else check_momentum(name, momentum)
        self.affine = flag(name, "affine", affine)
        self.track_running_stats = flag(name, "track_running_stats", track_running_stats)
        self.fused = flag(name, "fused", fused)
        shape = (self.num_features,)
        self.weight = Parameter(np.ones(shape, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(shape, np.float32)) if affine else None
        track = track_running_stats
        self.running_mean: Tensor | None
        self.running_var: Tensor | None
        self.num_batches_tracked: Tensor | None
        self.register_buffer("running_mean", Tensor(np.zeros(shape, np.float32)) if track else None)
        self.register_buffer("running_var", Tensor(np.ones(shape, np.float32)) if track else None)
        self.register_buffer("num_batches_tracked", Tensor(np.array(0)) if track else None)

    def forward(self, x: TensorLike, activation: str | None = None) -> Tensor:
        """Return y of the shape of x; in training, update the statistics after y is computed.

        activation: "relu" is applied as well; see `fusion_with`.
        """
        if not isinstance(x, Tensor):
            x = as_tensor(x, type(self).__name__)
        shape = x._data.shape
        if len(shape) not in self._dimensions:
            expected = " or ".join(f"{d}D" for d in self._dimensions)
            raise ShapeError(
                f"{type(self).__name__}: expected {expected} input (got {len(shape)}D input), of "
                f"shape (batch, {self.num_features}, ...); got {shape}"
            )
        if shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: expected {self.num_features} channels, got {shape[1]} in "
                f"input {shape}; channels are axis 1, and num_features their number"
            )
        mean, var, counter = self.running_mean, self.running_var, self.num_batches_tracked
        # track_running_stats may be switched off later: then the buffers are frozen, not gone.
        tracking = self.training and self.track_running_stats
        update = tracking and counter is not None
        factor: float | Tensor | None = self.momentum
        if factor is None:  # the mean of all batches: each counts as much as those before
            factor = 0.0
            if update and counter is not None:
                # In a traced step the counter differs from call to call.
                count = counter.astype(np.float64) if runs_again() else int(counter)
                factor = 1.0 / (count + 1.0)
        use = tracking or not self.training
        return normalised(
            x,
            mean if use else None,
            var if use else None,
            counter if update else None,
            self.weight,
            self.bias,
            self.training or (mean is None and var is None),
            factor,
            self.eps,
            self.fused,
            activation,
        )

    def fusion_with(self, following: Module) -> Options:
        """Return what lets the fused kernel compute `following`, if that is a ReLU; otherwise {}.

        A subclass, or a module whose `forward` was replaced, may do something else: it is called.
        """
        known = type(self).__base__ is _BatchNorm and type(following) is ReLU
        changed = "forward" in vars(self) or "forward" in vars(following)
        return {"activation": "relu"} if known and self.fused and not changed else {}

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running variance to 1 and the count of batches to 0."""
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.copy_(0.0)
            self.running_var.copy_(1.0)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.copy_(np.array(0))

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    __doc__ = f"""BatchNorm of input (N, C) or (N, C, L).

    {_BatchNorm.__doc__}
    >>> bn = nn.BatchNorm1d(3)
    >>> bn.weight.tolist(), bn.bias.tolist()
    ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    >>> x = np.array([[1, 2, 3], [3, 2, 1]], np.float32)
    >>> bn(x).numpy().round(2).tolist()  # with mean and biased variance of the batch
    [[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]]
    >>> bn.running_mean, bn.running_var  # a tenth of the way to mean and unbiased variance
    (tensor([0.2, 0.2, 0.2]), tensor([1.1, 0.9, 1.1]))
    >>> bn.eval()(x[:1]).shape  # with the running statistics: one example will do
    (1, 3)
    """
    _dimensions = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = f"BatchNorm of input (N, C, H, W).\n\n    {_BatchNorm.__doc__}"
    _dimensions = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = f"BatchNorm of input (N, C, D, H, W).\n\n    {_BatchNorm.__doc__}"
    _dimensions = (5,)
