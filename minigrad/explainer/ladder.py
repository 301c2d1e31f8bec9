r"""The BatchNorm ladder leads from the gradient that the tape derives to the compiled code.

Five rungs compute the same three gradients, and between them stands the algebra that leads from one
to the next. `python -m minigrad explain batchnorm` prints the ladder; examples/batchnorm_ladder.py
does so for a batch of real digits, and draws it. `what_if` shows dx without some of its paths.
"""

import inspect
import textwrap
import timeit
from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np

from .. import functional as F
from .. import ops
from ..compiler import CompiledFunction, compile
from ..engine.backward import grad
from ..engine.tensor import Tensor, TensorLike, as_tensor, tensor
from ..errors import ArgumentError, DtypeError
from ..kernels.batchnorm import rows as kernels
from ..types import Array
from . import evaluate, explain
from .api import Explanation

Gradients = tuple[Array, Array, Array]
EPS = 1e-5


class Batch(NamedTuple):
    """The values at which BatchNorm is differentiated.

    x: (n, c); gamma, beta: (c,); g: (n, c), the cotangent of y. All have the same float dtype.
    """

    x: Array
    gamma: Array
    beta: Array
    g: Array


class Rung(NamedTuple):
    """A way to the gradients: an introduction in words, the code to show, and what to run."""

    title: str
    words: str
    code: str
    run: Callable[[Batch], Gradients]


class Measured(NamedTuple):
    """A measurement of a rung.

    difference: the largest one from the first rung, relative to the gradient's largest element;
    microseconds: the median time of a run.
    """

    title: str
    difference: float
    microseconds: float


# --- the rungs ----------------------------------------------------------------------------------


def by_tape(batch: Batch, fused: bool = False) -> Gradients:
    """Return what autodiff derives, through BatchNorm composed of primitives or fused."""
    x, gamma, beta = (tensor(a, requires_grad=True) for a in batch[:3])
    y = F.batch_norm(x, weight=gamma, bias=beta, training=True, eps=EPS, fused=fused)
    dx, dgamma, dbeta = grad(y, [x, gamma, beta], batch.g)
    return dx.numpy(), dgamma.numpy(), dbeta.numpy()


def explained(batch: Batch) -> Explanation:
    """Return the derivation of the composed form, under the names of mathematics."""
    x, gamma, beta = (tensor(a, requires_grad=True) for a in batch[:3])
    y = F.batch_norm(x, weight=gamma, bias=beta, training=True, eps=EPS, fused=False)
    names: dict[str, Tensor | Array] = {"x": x, "gamma": gamma, "beta": beta, "y": y, "g": batch.g}
    return explain(y, batch.g, names=names)


def by_text(batch: Batch) -> Gradients:
    """Return what the printed lines of an explanation compute when they are read back."""
    explanation = explained(batch)
    values = evaluate(str(explanation), explanation.given)
    return values["g_x"], values["g_gamma"], values["g_beta"]


def by_stages(batch: Batch) -> Gradients:
    """Return what the nine stages of the textbooks give, each undone in reverse."""
    x, gamma, beta, g = batch
    n = len(x)
    mean = x.sum(axis=0) / n  # 1
    centred = x - mean  # 2
    square = centred**2  # 3
    var = square.sum(axis=0) / n  # 4
    std = np.sqrt(var + EPS)  # 5
    inv_std = 1 / std  # 6
    x_hat = centred * inv_std  # 7
    scaled = x_hat * gamma  # 8
    y = scaled + beta  # 9
    assert y.shape == g.shape

    dscaled, dbeta = (
        g,
        g.sum(axis=0),
    )  # 9: beta was broadcast over the batch, so its gradient is a sum
    dx_hat, dgamma = dscaled * gamma, (dscaled * x_hat).sum(axis=0)  # 8: and so is gamma's
    dcentred, dinv_std = dx_hat * inv_std, (dx_hat * centred).sum(axis=0)  # 7: the first path
    dstd = -dinv_std / std**2  # 6
    dvar = dstd * 0.5 / std  # 5
    dsquare = np.ones_like(x) * dvar / n  # 4
    dcentred = dcentred + dsquare * 2 * centred  # 3: the second path, through the variance
    dx, dmean = dcentred, -dcentred.sum(axis=0)  # 2
    dx = dx + dmean / n  # 1: the third path, through the mean
    return dx, dgamma, dbeta


def by_closed_form(batch: Batch) -> Gradients:
    """Return what the formula gives, in which the three paths are summed on paper."""
    x, gamma, _, g = batch
    inv_std = 1 / np.sqrt(x.var(axis=0) + EPS)
    x_hat = (x - x.mean(axis=0)) * inv_std
    dbeta, dgamma = g.sum(axis=0), (g * x_hat).sum(axis=0)
    dx = gamma * inv_std * (g - dbeta / len(x) - x_hat * dgamma / len(x))
    return dx, dgamma, dbeta


def by_kernel(batch: Batch) -> Gradients:
    """Return the gradients of the fused operation, which has one kernel for each direction."""
    return by_tape(batch, fused=True)


def compiled() -> CompiledFunction:
    """Return a compiled function of x, gamma, beta and g, made of the composed form."""

    @compile
    def gradients(x: Tensor, gamma: Tensor, beta: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        inputs = [p.requires_grad_() for p in (x.detach(), gamma.detach(), beta.detach())]
        x, gamma, beta = inputs
        y = F.batch_norm(x, weight=gamma, bias=beta, training=True, eps=EPS, fused=False)
        return grad(y, inputs, g)

    return gradients


# --- what if a path is forgotten ----------------------------------------------------------------

# The paths from x to y besides the direct one, by the statistic that they lead through: the mean in
# the centring, the variance, and the mean inside the variance.
STATISTICS = ("mean", "var", "mean_in_var")


def what_if(
    x: TensorLike,
    gamma: TensorLike | None = None,
    beta: TensorLike | None = None,
    *,
    detach: Collection[str] = (),
    eps: float = EPS,
) -> Tensor:
    """Return F.batch_norm of x in training, with some statistics taken for constants.

    It shows what dx becomes if one forgets that these depend on x; y, dgamma and dbeta stay the
    same. x: (N, C, ...); gamma, beta: (C,) or None; detach: some of STATISTICS.
    Errors: DtypeError unless detach is a tuple, list or set; ArgumentError for another name; those
    of F.batch_norm.

    >>> from minigrad.explainer import ladder
    >>> x = mg.tensor([[1.0, 5.0], [3.0, 7.0], [5.0, 6.0]], requires_grad=True)
    >>> y = ladder.what_if(x, detach=("mean",))
    >>> mg.grad(y.sum(), x)[0].numpy().round(2)  # the right dx is 0: no x changes the sum of y
    array([[0.61, 1.22],
           [0.61, 1.22],
           [0.61, 1.22]], dtype=float32)
    """
    if not isinstance(detach, (tuple, list, set, frozenset)):
        raise DtypeError(
            f"what_if: detach must be a tuple of names, such as ('var',), got {detach!r:.40}"
        )
    for name in detach:
        if name not in STATISTICS:
            raise ArgumentError(f"what_if: detach takes names of {STATISTICS}, got {name!r:.40}")
    x = as_tensor(x, "what_if")
    F.batch_norm(x.detach(), None, None, gamma, beta, training=True, eps=eps)  # for its errors
    batch, by_channel = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
    gamma, beta = [
        p if p is None or x.ndim == 2 else ops.reshape(p, by_channel) for p in (gamma, beta)
    ]
    mean = ops.mean_over(x, axis=batch, keepdims=True)
    centred = deviation = x - (mean.detach() if "mean" in detach else mean)
    if ("mean" in detach) != ("mean_in_var" in detach):
        deviation = x - (mean.detach() if "mean_in_var" in detach else mean)
    inv_std = ops.inv_std(ops.mean_square(deviation, axis=batch, keepdims=True), eps=eps)
    # Detached here and not at var, so that an explanation can name the constant.
    y: Tensor = centred * (inv_std.detach() if "var" in detach else inv_std)
    y = y if gamma is None else y * gamma
    y = y if beta is None else y + beta
    return y


# --- the words between them ---------------------------------------------------------------------

TAPE = r"""
The composed BatchNorm is seven primitives. The tape keeps them in order; the backward pass applies
their rules from the last to the first. x is used twice, by the mean and by the centring, and so is
centred, by the product and by the variance: their cotangents add up, in the lines with +=.
gamma and beta, of shape (c,), were broadcast over the batch, so that their cotangents are sums over
the batch.
"""
STAGES = r"""
Textbooks draw the same graph with nine nodes, one for each operation, and undo them by hand. That
is what the tape derived, line by line; only the mean of squares, and the inverse of the root, are
two stages each.
"""
CLOSED = r"""
Write r = 1 / sqrt(var + eps) and x_hat = (x - mean) r, and insert each stage into the next. The
first contribution to the cotangent of centred is gamma g r. The variance gets
    $$ d\sigma^2 = -\tfrac12 r^3 \sum_i \gamma g_i (x_i - \mu)
        = -\tfrac12 r^2 \gamma \sum_i g_i \hat x_i $$
and passes on 2 (x - mean) / n times that:
    $$ d\sigma^2 \cdot \tfrac2n (x_j - \mu) = -\tfrac{\gamma r}{n} \hat x_j \sum_i g_i \hat x_i $$
The mean gets minus the sum of the cotangent of centred. For the first contribution that is
- gamma r sum g, and 1/n of it goes to each x_j. For the path through the variance it is
    $$ -\sum_j d\sigma^2 \cdot \tfrac2n (x_j - \mu)
        = -d\sigma^2 \cdot \tfrac2n \sum_j (x_j - \mu) = 0 $$
because deviations from the mean sum to zero: the mean inside the variance contributes nothing. So
    $$ dx_j = \gamma r \Big( g_j - \tfrac1n \sum_i g_i
        - \hat x_j \cdot \tfrac1n \sum_i g_i \hat x_i \Big) $$
Both sums over the batch are there already: they are the gradients of beta and gamma.
    $$ d\beta = \sum_i g_i, \qquad d\gamma = \sum_i g_i \hat x_i $$
In words: subtract from the incoming cotangent its mean and its projection on x_hat, then scale. No
change of x can change the mean or the variance of y, since BatchNorm holds both fixed.
"""
KERNEL = r"""
The fused operation is this formula as a Numba kernel: one pass for the two sums, which adds up
float32 in float64, and one pass for dx, below. For each channel, p holds the mean (0), gamma r (1),
the mean of g (2), r times the mean of g x_hat (3), and what rounding has left out of these (4), so
that h becomes the bracket of the formula. The forward has kept the mean and r. gated is for a ReLU
that follows in the same kernel: g counts only where y is above 0.
"""
COMPILED = r"""
The compiler gets the composed form of rung 1. Its passes insert the stages into each other, find
that the sums of sums are the two in the closed form, and code generation writes loops for them.
"""


def rungs(batch: Batch) -> list[Rung]:
    """Return the rungs in order; the tape's text and the compiled source are for this batch."""
    step = compiled()

    def by_compiler(batch: Batch) -> Gradients:
        dx, dgamma, dbeta = step(*batch)
        return dx.numpy(), dgamma.numpy(), dbeta.numpy()

    by_compiler(batch)
    return [
        Rung("1 the tape", TAPE, str(explained(batch)), by_tape),
        Rung("1 its text, read back", "", "", by_text),
        Rung("2 nine stages", STAGES, _source(by_stages), by_stages),
        Rung("3 the closed form", CLOSED, _source(by_closed_form), by_closed_form),
        Rung("4 the fused kernel", KERNEL, _source(kernels._row_dx), by_kernel),
        Rung("5 what the compiler emits", COMPILED, step.source, by_compiler),
    ]


def _source(function: Callable[..., object]) -> str:
    return textwrap.dedent(inspect.getsource(function)).strip()


# --- how they compare ---------------------------------------------------------------------------


def measured(ladder: list[Rung], batch: Batch, seconds: float = 0.1) -> list[Measured]:
    """Run each rung, and measure its difference from the first rung and its time.

    seconds: the approximate time spent on each rung.
    """
    first = ladder[0].run(batch)
    rows = []
    for rung in ladder:
        found = rung.run(batch)
        once = timeit.timeit(lambda: rung.run(batch), number=1)  # noqa: B023 called at once
        number = max(1, int(seconds / 10 / once))
        times = timeit.repeat(lambda: rung.run(batch), number=number, repeat=9)  # noqa: B023
        difference = max(
            float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, first, strict=True)
        )
        rows.append(Measured(rung.title, difference, 1e6 * float(np.median(times)) / number))
    return rows


def table(rows: list[Measured]) -> str:
    """Return the comparison as text."""
    head = f"{'rung':<28}{'largest difference':>20}{'time, us':>12}"
    lines = [f"{r.title:<28}{r.difference:>20.1e}{r.microseconds:>12.1f}" for r in rows]
    return "\n".join([head, *lines])


def report(ladder: list[Rung], rows: list[Measured], batch: Batch) -> str:
    """Return the whole ladder as text: words, the code that they introduce, and the comparison."""
    parts = []
    for rung in ladder:
        if rung.words:
            parts += [f"=== {rung.title}", rung.words.strip(), rung.code]
    n, c = batch.x.shape
    parts += [f"=== all of them, for x of shape ({n}, {c}), {batch.x.dtype}", table(rows)]
    return "\n\n".join(parts)


def made_up(n: int = 64, c: int = 16) -> Batch:
    """Return a random batch in float64, whose channels differ in scale and offset."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, c)) * np.geomspace(0.1, 10, c) + rng.normal(size=c)
    return Batch(x, rng.uniform(0.5, 2, c), rng.normal(size=c), rng.normal(size=(n, c)))
