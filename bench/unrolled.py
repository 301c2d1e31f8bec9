"""This program times a training step of a recurrent network that is unrolled in Python.

`python -m bench.unrolled minigrad 200` prints the seconds of the first two calls together, which
include tracing and compiling, and the seconds of a later call.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

HIDDEN, BATCH, INPUTS, CLASSES, LR = 32, 16, 8, 3, 0.01

Step = Callable[[], float]


def data(turns: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return weights by name, inputs (turns, batch, inputs), and a label for each sample."""
    rng = np.random.default_rng(0)
    shapes = {
        "W": (HIDDEN, INPUTS),
        "U": (HIDDEN, HIDDEN),
        "b": (HIDDEN,),
        "V": (CLASSES, HIDDEN),
    }
    weights = {
        name: (rng.standard_normal(shape) * 0.2).astype(np.float32)
        for name, shape in shapes.items()
    }
    x = rng.standard_normal((turns, BATCH, INPUTS)).astype(np.float32)
    return weights, x, rng.integers(0, CLASSES, BATCH)


def minigrad_step(turns: int) -> Step:
    """Return a step with forward, backward and SGD under mg.compile."""
    import minigrad as mg
    from minigrad import functional, nn, optim

    weights, x, labels = data(turns)
    W, U, b, V = (nn.Parameter(mg.tensor(a)) for a in weights.values())
    optimizer = optim.SGD([W, U, b, V], lr=LR)
    start = np.zeros((BATCH, HIDDEN), np.float32)

    @mg.compile
    def step(x: Any, labels: Any) -> Any:
        h = start
        for t in range(turns):
            h = mg.tanh(x[t] @ W.T + h @ U.T + b)
        loss = functional.cross_entropy(h @ V.T, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return lambda: float(step(x, labels).item())


def jax_step(turns: int) -> Step:
    """Return a step with forward, backward and SGD under jax.jit."""
    import jax
    from jax import numpy as jnp

    weights, x, labels = data(turns)
    state = {name: jnp.asarray(a) for name, a in weights.items()}

    def loss_of(state: Any, x: Any, labels: Any) -> Any:
        h = jnp.zeros((BATCH, HIDDEN), jnp.float32)
        for t in range(turns):
            h = jnp.tanh(x[t] @ state["W"].T + h @ state["U"].T + state["b"])
        logp = jax.nn.log_softmax(h @ state["V"].T)
        return -jnp.take_along_axis(logp, labels[:, None], axis=1).mean()

    @jax.jit
    def update(state: Any, x: Any, labels: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(state, x, labels)
        return jax.tree.map(lambda p, g: p - LR * g, state, grads), loss

    def step() -> float:
        nonlocal state
        state, loss = update(state, x, labels)
        return float(loss)

    return step


STEPS = {"minigrad": minigrad_step, "jax": jax_step}


def main(name: str, turns: int) -> dict[str, float]:
    """Return the seconds of the first two calls, and of the fastest of twenty more."""
    step = STEPS[name](turns)
    times = []
    for _ in range(22):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return {"first_calls": sum(times[:2]), "call": min(times[2:])}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
