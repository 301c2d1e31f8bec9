"""Each net has a training step for each library, and all libraries do the same work.

Each factory takes a `Problem` (data and initial weights) and returns `step`, a function without
arguments that does one whole training step (zero_grad, forward, cross-entropy, backward, SGD with
momentum) and returns the loss. JAX computes in the background, so each timing ends when the last
loss is read by `.item()`, which waits. Each factory imports its own library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from bench import peers
from bench.libraries import load
from bench.machine import installed
from bench.problems import LR, MOMENTUM, Net, Problem
from bench.problems import NETS as NETS
from bench.problems import SHAPES as SHAPES
from bench.problems import make_problem as make_problem

Step = Callable[[], Any]


def eager_step(problem: Problem, library: str, **options: Any) -> Step:
    """Return the step as PyTorch's tutorials write it; options: those of eager_function."""
    lib = load(library)
    step = eager_function(problem, library, **options)
    return partial(step, lib.tensor(problem.x), lib.tensor(problem.labels))


def eager_function(
    problem: Problem,
    library: str,
    prepare: Callable[[Any], Any] = lambda model: model,
    **norm_options: Any,
) -> Callable[..., Any]:
    """Return the step as a function of a batch and its labels.

    prepare: a function that returns the model to train; norm_options: for each BatchNorm1d.
    """
    lib = load(library)
    layers, width = [], problem.net.inputs
    for hidden in problem.net.hidden:
        layers.append(lib.nn.Linear(width, hidden))
        if problem.net.norm:
            layers.append(lib.nn.BatchNorm1d(hidden, **norm_options))
        layers.append(lib.nn.ReLU())
        width = hidden
    model = lib.nn.Sequential(*layers, lib.nn.Linear(width, problem.net.classes))
    model.load_state_dict({name: lib.state(value) for name, value in problem.weights.items()})
    model = prepare(model)
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


def compiled_model_step(problem: Problem) -> Step:
    """Return minigrad's eager step with a compiled model."""
    import minigrad as mg

    return eager_step(problem, "minigrad", prepare=mg.compile)


# All are compared with the first. A variant of a library is named library-variant.
FACTORIES: dict[str, Callable[[Problem], Step]] = {
    "minigrad": partial(eager_step, library="minigrad"),
    "minigrad-composed": partial(eager_step, library="minigrad", fused=False),
    "minigrad-compiled": compiled_step,
    "minigrad-compiled-model": compiled_model_step,
    "minigrad-compiled-composed": partial(compiled_step, fused=False),
    "torch": partial(eager_step, library="torch"),
    "jax": peers.jax_step,
    "mygrad": peers.mygrad_step,
    "sklearn": peers.sklearn_step,
    "numba-plain": peers.numba_step,
}
WITHOUT_NORM = ("sklearn",)  # these have no BatchNorm


def available(name: str) -> bool:
    """Return whether the library of the factory `name` is installed."""
    return installed(name.partition("-")[0])


def can_train(name: str, net: Net) -> bool:
    """Return whether the factory `name` has all layers of the net."""
    return not (net.norm and name in WITHOUT_NORM)


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
