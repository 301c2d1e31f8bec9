r"""The BatchNorm ladder: its gradient, from what the tape derives down to what a compiler emits.

Five rungs compute the same three gradients; between them stands the algebra that leads from one
to the next. `python -m minigrad explain batchnorm` prints it; examples/batchnorm_ladder.py does so
for a batch of real digits, and draws it. Above all that it shows: imports compiler and explainer.
"""

import inspect
import textwrap
import timeit
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import functional as F
from ..arrays import Array
from ..compiler import compile
from ..engine.backward import grad
from ..engine.tensor import Tensor, tensor
from ..kernels.batchnorm import rows as kernels
from . import evaluate, explain
from .api import Explanation

Gradients = tuple[Array, Array, Array]
EPS = 1e-5


class Batch(NamedTuple):
    """What BatchNorm is differentiated at.

    x: (n, c); gamma, beta: (c,); g: (n, c), the cotangent of y. All of one float dtype.
    """

    x: Array
    gamma: Array
    beta: Array
    g: Array


class Rung(NamedTuple):
    """One way to the gradients: words before it, what to show of it, and what runs."""

    title: str
    words: str
    code: str
    run: Callable[[Batch], Gradients]


class Measured(NamedTuple):
    """A rung's largest difference from the first, over the largest element of each gradient, and
    the median of its time, in microseconds."""

    title: str
    difference: float
    microseconds: float


# --- the rungs ----------------------------------------------------------------------------------


def by_tape(batch: Batch, fused: bool = False) -> Gradients:
    """What autodiff derives: mg.grad through BatchNorm, composed of primitives or fused."""
    x, gamma, beta = (tensor(a, requires_grad=True) for a in batch[:3])
    y = F.batch_norm(x, weight=gamma, bias=beta, training=True, eps=EPS, fused=fused)
    dx, dgamma, dbeta = grad(y, [x, gamma, beta], batch.g)
    return dx.numpy(), dgamma.numpy(), dbeta.numpy()  # type: ignore[union-attr]


def explained(batch: Batch) -> Explanation:
    """The derivation of the composed form, under the names of mathematics."""
    x, gamma, beta = (tensor(a, requires_grad=True) for a in batch[:3])
    y = F.batch_norm(x, weight=gamma, bias=beta, training=True, eps=EPS, fused=False)
    names = {"x": x, "gamma": gamma, "beta": beta, "y": y, "g": batch.g}
    return explain(y, batch.g, names=names)


def by_text(batch: Batch) -> Gradients:
    """The lines that an explanation prints, read back and computed."""
    explanation = explained(batch)
    values = evaluate(str(explanation), explanation.given)
    return values["g_x"], values["g_gamma"], values["g_beta"]


def by_stages(batch: Batch) -> Gradients:
    """The nine stages of the textbooks, forward, and each undone in reverse."""
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

    dscaled, dbeta = g, g.sum(axis=0)  # 9: beta was broadcast over the batch, so its share is a sum
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
    """The three paths, summed on paper."""
    x, gamma, _, g = batch
    inv_std = 1 / np.sqrt(x.var(axis=0) + EPS)
    x_hat = (x - x.mean(axis=0)) * inv_std
    dbeta, dgamma = g.sum(axis=0), (g * x_hat).sum(axis=0)
    dx = gamma * inv_std * (g - dbeta / len(x) - x_hat * dgamma / len(x))
    return dx, dgamma, dbeta


def by_kernel(batch: Batch) -> Gradients:
    """The fused operation: one kernel for each direction."""
    return by_tape(batch, fused=True)


def compiled() -> Any:
    """A compiled function of x, gamma, beta and g, made of the composed form."""

    @compile
    def gradients(x: Tensor, gamma: Tensor, beta: Tensor, g: Tensor) -> Any:
        inputs = [p.requires_grad_() for p in (x.detach(), gamma.detach(), beta.detach())]
        x, gamma, beta = inputs
        y = F.batch_norm(x, weight=gamma, bias=beta, training=True, eps=EPS, fused=False)
        return grad(y, inputs, g)

    return gradients


# --- what is said between them ------------------------------------------------------------------

TAPE = r"""
The composed BatchNorm is seven primitives. The tape keeps them in order; the reverse walk takes
their rules from the last to the first. x is used twice, by the mean and by the centring, and
centred twice, by the product and by the variance: there cotangents add up, in the lines with +=.
gamma and beta, of shape (c,), were broadcast over the batch: their cotangents are sums over it.
"""
STAGES = r"""
The textbooks draw the same graph with nine nodes, of one operation each, and undo them by hand. It
is what the tape derived, line by line; only the mean of squares, and the inverse of the root, are
two stages each.
"""
CLOSED = r"""
Write r = 1 / sqrt(var + eps), x_hat = (x - mean) r, and insert stage into stage. What reaches
centred first is gamma g r. The variance gets
    $$ d\sigma^2 = -\tfrac12 r^3 \sum_i \gamma g_i (x_i - \mu)
        = -\tfrac12 r^2 \gamma \sum_i g_i \hat x_i $$
and hands on 2 (x - mean) / n of it:
    $$ d\sigma^2 \cdot \tfrac2n (x_j - \mu) = -\tfrac{\gamma r}{n} \hat x_j \sum_i g_i \hat x_i $$
The mean gets minus the sum of all that reached centred. Of the first path that is - gamma r sum g,
of which each x_j has 1/n. Of the path through the variance it is
    $$ -\sum_j d\sigma^2 \cdot \tfrac2n (x_j - \mu)
        = -d\sigma^2 \cdot \tfrac2n \sum_j (x_j - \mu) = 0 $$
because deviations from the mean sum to zero: the mean inside the variance needs no path at all. So
    $$ dx_j = \gamma r \Big( g_j - \tfrac1n \sum_i g_i
        - \hat x_j \cdot \tfrac1n \sum_i g_i \hat x_i \Big) $$
Both sums over the batch are there already: they are the gradients of beta and gamma.
    $$ d\beta = \sum_i g_i, \qquad d\gamma = \sum_i g_i \hat x_i $$
In words: of what comes in, take away its mean and its projection on x_hat, then scale; a gradient
cannot change the mean or the variance of y, since BatchNorm holds both fixed.
"""
KERNEL = r"""
The fused operation is this formula as a Numba kernel: a pass for the two sums, in which float64
adds up float32, and a pass for dx, below. Of each channel, p holds the mean (0), gamma r (1), the
mean of g (2), r times that of g x_hat (3), and what rounding has left out of these (4), so that h
becomes the bracket of the formula. Mean and r = 1 / sqrt(var + eps) were kept by the forward. gated
is for a ReLU behind, in the same kernel: g counts where y is above 0.
"""
COMPILED = r"""
The compiler is given the composed form of rung 1. Its passes insert the stages into each other,
see that sums of sums are the two that stand in the closed form, and write loops for them.
"""


def rungs(batch: Batch) -> list[Rung]:
    """The ladder, from the top; what it shows of the tape and of the compiler is this batch's."""
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


def _source(function: Callable[..., Any]) -> str:
    return textwrap.dedent(inspect.getsource(function)).strip()


# --- how they compare ---------------------------------------------------------------------------


def measured(ladder: list[Rung], batch: Batch, seconds: float = 0.1) -> list[Measured]:
    """Each rung run: how far it is from the first, and how long it takes.

    seconds: for each rung, about; the median of what fits, at least three runs.
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
    """The comparison as text."""
    head = f"{'rung':<28}{'largest difference':>20}{'time, us':>12}"
    lines = [f"{r.title:<28}{r.difference:>20.1e}{r.microseconds:>12.1f}" for r in rows]
    return "\n".join([head, *lines])


def report(ladder: list[Rung], rows: list[Measured], batch: Batch) -> str:
    """The whole ladder to be read: words, what they speak of, and the comparison."""
    parts = []
    for rung in ladder:
        if rung.words:
            parts += [f"=== {rung.title}", rung.words.strip(), rung.code]
    n, c = batch.x.shape
    parts += [f"=== all of them, for x of shape ({n}, {c}), {batch.x.dtype}", table(rows)]
    return "\n\n".join(parts)


def made_up(n: int = 64, c: int = 16) -> Batch:
    """A batch in float64 to look at where there are no data: channels of all scales and offsets."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, c)) * np.geomspace(0.1, 10, c) + rng.normal(size=c)
    return Batch(x, rng.uniform(0.5, 2, c), rng.normal(size=c), rng.normal(size=(n, c)))
