"""The four nets have a training step for each library, and all libraries do the same work.

Each factory takes a `Problem` (data and initial weights) and returns `step`, a function without
arguments that does one whole training step (zero_grad, forward, cross-entropy, backward, SGD with
momentum) and returns the loss. JAX computes in the background, so each timing ends when the last
loss is read by `.item()`, which waits. Each factory imports its own library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from bench.libraries import load
from bench.machine import installed

LR, MOMENTUM = 0.01, 0.9
BN_EPS, BN_MOMENTUM = 1e-5, 0.1

Step = Callable[[], Any]


@dataclass(frozen=True)
class Net:
    """A Net has blocks of Linear, BatchNorm1d and ReLU, a last Linear, and a batch size."""

    inputs: int
    hidden: tuple[int, ...]
    classes: int
    batch: int


NETS = {
    "tiny": Net(64, (64,), 10, 32),
    "digits": Net(64, (128, 64), 10, 64),
    "mnist": Net(784, (256, 128), 10, 64),
    "wide": Net(784, (1024, 1024), 10, 256),
}

# Shapes of inputs to BatchNorm.
SHAPES = [
    *[(32, 64), (64, 256), (128, 1024), (4096, 256), (1024, 4096), (65536, 64)],
    *[(32, 64, 28, 28), (16, 256, 14, 14), (8, 64, 56, 56)],
]


@dataclass(frozen=True)
class Problem:
    """A Problem has a net, one batch of data, and weights by PyTorch's names in a Sequential."""

    net: Net
    x: np.ndarray
    labels: np.ndarray
    weights: dict[str, np.ndarray]


def make_problem(net: Net, seed: int = 0) -> Problem:
    """Return random data, and Linear weights as PyTorch draws them: U(-1, 1) / sqrt(fan_in)."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    sizes = (net.inputs, *net.hidden, net.classes)
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        bound = fan_in**-0.5
        linear, norm = 3 * i, 3 * i + 1  # a block is Linear, BatchNorm1d, ReLU
        weights[f"{linear}.weight"] = rng.uniform(-bound, bound, (fan_out, fan_in))
        weights[f"{linear}.bias"] = rng.uniform(-bound, bound, fan_out)
        if i < len(net.hidden):
            weights[f"{norm}.weight"] = np.ones(fan_out)
            weights[f"{norm}.bias"] = np.zeros(fan_out)
            weights[f"{norm}.running_mean"] = np.zeros(fan_out)
            weights[f"{norm}.running_var"] = np.ones(fan_out)
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    for i in range(len(net.hidden)):
        weights[f"{3 * i + 1}.num_batches_tracked"] = np.array(0, dtype=np.int64)
    x = rng.standard_normal((net.batch, net.inputs)).astype(np.float32)
    return Problem(net, x, rng.integers(0, net.classes, net.batch), weights)


def eager_step(problem: Problem, library: str, **norm_options: Any) -> Step:
    """Return the step as PyTorch's tutorials write it; norm_options: for each BatchNorm1d."""
    lib = load(library)
    step = eager_function(problem, library, **norm_options)
    return partial(step, lib.tensor(problem.x), lib.tensor(problem.labels))


def eager_function(problem: Problem, library: str, **norm_options: Any) -> Callable[..., Any]:
    """Return the step as a function of a batch and its labels."""
    lib = load(library)
    layers, width = [], problem.net.inputs
    for hidden in problem.net.hidden:
        norm = lib.nn.BatchNorm1d(hidden, **norm_options)
        layers += [lib.nn.Linear(width, hidden), norm, lib.nn.ReLU()]
        width = hidden
    model = lib.nn.Sequential(*layers, lib.nn.Linear(width, problem.net.classes))
    model.load_state_dict({name: lib.state(value) for name, value in problem.weights.items()})
    optimizer = lib.sgd(model.parameters(), lr=LR, momentum=MOMENTUM)
    cross_entropy = lib.functional.cross_entropy

    def step(x: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def compiled_step(problem: Problem, **norm_options: Any) -> Step:
    """Return minigrad's eager step under mg.compile; each call gets the data as arrays."""
    import minigrad as mg

    compiled = mg.compile(eager_function(problem, "minigrad", **norm_options))
    return partial(compiled, problem.x, problem.labels)


def jax_step(problem: Problem) -> Step:
    """Return JAX's step under one jit, with a donated state, which is updated in place."""
    import jax
    from jax import numpy as jnp

    hidden = len(problem.net.hidden)
    unbias = problem.net.batch / (problem.net.batch - 1)

    def forward(params: Any, stats: Any, x: Any, labels: Any) -> Any:
        new_stats = []
        for i, layer in enumerate(params):
            x = x @ layer["weight"].T + layer["bias"]
            if i == hidden:
                break
            mean, var = x.mean(0), x.var(0)
            x = (x - mean) * jax.lax.rsqrt(var + BN_EPS)
            x = jax.nn.relu(x * layer["gamma"] + layer["beta"])
            batch = {"mean": mean, "var": var * unbias}
            new_stats.append(
                {
                    "mean": (1 - BN_MOMENTUM) * stats[i]["mean"] + BN_MOMENTUM * batch["mean"],
                    "var": (1 - BN_MOMENTUM) * stats[i]["var"] + BN_MOMENTUM * batch["var"],
                    "batches": stats[i]["batches"] + 1,
                }
            )
        logp = jax.nn.log_softmax(x)
        return -jnp.take_along_axis(logp, labels[:, None], axis=1).mean(), new_stats

    @partial(jax.jit, donate_argnums=0)
    def update(state: Any, x: Any, labels: Any) -> Any:
        params, velocity, stats = state
        (loss, stats), grads = jax.value_and_grad(forward, has_aux=True)(params, stats, x, labels)
        velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, grads)
        params = jax.tree.map(lambda p, v: p - LR * v, params, velocity)
        return (params, velocity, stats), loss

    w = {name: jnp.array(value) for name, value in problem.weights.items()}
    params, stats = [], []
    for i in range(hidden + 1):
        params.append({"weight": w[f"{3 * i}.weight"], "bias": w[f"{3 * i}.bias"]})
        if i < hidden:
            norm = f"{3 * i + 1}"
            params[i] |= {"gamma": w[f"{norm}.weight"], "beta": w[f"{norm}.bias"]}
            stats.append(
                {
                    "mean": w[f"{norm}.running_mean"],
                    "var": w[f"{norm}.running_var"],
                    "batches": w[f"{norm}.num_batches_tracked"],
                }
            )
    state = (params, jax.tree.map(jnp.zeros_like, params), stats)
    x, labels = jnp.array(problem.x), jnp.array(problem.labels)

    def step() -> Any:
        nonlocal state
        state, loss = update(state, x, labels)
        return loss

    return step


# All are compared with the first. A variant of a library is named library-variant.
FACTORIES: dict[str, Callable[[Problem], Step]] = {
    "minigrad": partial(eager_step, library="minigrad"),
    "minigrad-composed": partial(eager_step, library="minigrad", fused=False),
    "minigrad-compiled": compiled_step,
    "minigrad-compiled-composed": partial(compiled_step, fused=False),
    "torch": partial(eager_step, library="torch"),
    "jax": jax_step,
}


def available(name: str) -> bool:
    """Return whether the library of the factory `name` is installed."""
    return installed(name.partition("-")[0])


def check_agreement(
    problem: Problem, names: Iterable[str], steps: int = 6, tolerance: float = 1e-4
) -> dict[str, list[float]]:
    """Return the losses of the first steps by name; raise an AssertionError if they differ.

    A comparison of times is fair only if all compute the same losses, and so do the same work.
    """
    losses = {}
    for name in names:
        step = FACTORIES[name](problem)
        losses[name] = [float(step().item()) for _ in range(steps)]
    first, *others = losses
    for other in others:
        gap = float(np.abs(np.subtract(losses[first], losses[other])).max())
        if not gap <= tolerance:  # NaN fails, too
            raise AssertionError(
                f"{first} and {other} do not do the same work: their losses differ by {gap:.2g}"
                f" (at most {tolerance:g}): {losses[first]} and {losses[other]}"
            )
    return losses
