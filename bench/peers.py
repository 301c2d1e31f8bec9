"""Each function returns a training step of a library whose step differs from PyTorch's.

The steps do the same work as `eager_step` of workloads.py: zero_grad, forward, cross-entropy,
backward, SGD with momentum, and BatchNorm's running statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.problems import BN_EPS, BN_MOMENTUM, LR, MOMENTUM, Problem


def jax_step(problem: Problem) -> Callable[[], Any]:
    """Return JAX's step under one jit, with a donated state, which is updated in place."""
    import jax
    from jax import numpy as jnp

    net = problem.net
    hidden, unbias = len(net.hidden), net.batch / (net.batch - 1)

    def normalize(layer: Any, old: Any, x: Any) -> Any:
        mean, var = x.mean(0), x.var(0)
        x = (x - mean) * jax.lax.rsqrt(var + BN_EPS)
        new = {
            "mean": (1 - BN_MOMENTUM) * old["mean"] + BN_MOMENTUM * mean,
            "var": (1 - BN_MOMENTUM) * old["var"] + BN_MOMENTUM * var * unbias,
            "batches": old["batches"] + 1,
        }
        return x * layer["gamma"] + layer["beta"], new

    def forward(params: Any, stats: Any, x: Any, labels: Any) -> Any:
        new_stats = []
        for i, layer in enumerate(params):
            x = x @ layer["weight"].T + layer["bias"]
            if i == hidden:
                break
            if net.norm:
                x, new = normalize(layer, stats[i], x)
                new_stats.append(new)
            x = jax.nn.relu(x)
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
        linear, norm = f"{net.block * i}", f"{net.block * i + 1}"
        params.append({"weight": w[f"{linear}.weight"], "bias": w[f"{linear}.bias"]})
        if net.norm and i < hidden:
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


def mygrad_step(problem: Problem) -> Callable[[], Any]:
    """Return MyGrad's step; MyGrad has no optimizer or running statistics, so NumPy does these."""
    import mygrad as mg
    from mygrad.nnet import batchnorm, relu, softmax_crossentropy

    net, w = problem.net, {name: value.copy() for name, value in problem.weights.items()}
    names = [name for name in w if name.endswith((".weight", ".bias"))]
    params = {name: mg.tensor(w[name], copy=False) for name in names}
    velocity = {name: np.zeros_like(w[name]) for name in names}
    hidden, unbias = len(net.hidden), net.batch / (net.batch - 1)

    def normalize(x: Any, norm: int) -> Any:
        y = batchnorm(x, gamma=params[f"{norm}.weight"], beta=params[f"{norm}.bias"], eps=BN_EPS)
        batch = {"mean": y.creator.mean, "var": y.creator.var * unbias}
        for kind, value in batch.items():
            running = w[f"{norm}.running_{kind}"]
            running += BN_MOMENTUM * (value - running)
        w[f"{norm}.num_batches_tracked"] += 1
        return y

    def step() -> Any:
        x = problem.x
        for i in range(hidden + 1):
            linear = net.block * i
            x = mg.matmul(x, params[f"{linear}.weight"].T) + params[f"{linear}.bias"]
            if i < hidden:
                x = relu(normalize(x, linear + 1) if net.norm else x)
        loss = softmax_crossentropy(x, problem.labels)
        loss.backward()  # gradients of the step before are dropped when a Tensor is used again
        for name, p in params.items():
            v = velocity[name]
            v *= MOMENTUM
            v += p.grad
            p.data -= LR * v
        return loss

    return step


def sklearn_step(problem: Problem) -> Callable[[], Any]:
    """Return partial_fit of scikit-learn's MLPClassifier, which has no BatchNorm."""
    from sklearn.neural_network import MLPClassifier

    net, w = problem.net, problem.weights
    model = MLPClassifier(
        net.hidden,
        solver="sgd",
        alpha=0.0,
        batch_size=net.batch,
        learning_rate_init=LR,
        momentum=MOMENTUM,
        nesterovs_momentum=False,
        shuffle=False,
    )
    model.partial_fit(problem.x, problem.labels, classes=np.arange(net.classes))  # makes arrays
    del model._optimizer  # it has a velocity already; the next call makes a new one
    layers = range(len(net.hidden) + 1)
    model.coefs_ = [w[f"{net.block * i}.weight"].T.copy() for i in layers]
    model.intercepts_ = [w[f"{net.block * i}.bias"].copy() for i in layers]

    def step() -> Any:
        model.partial_fit(problem.x, problem.labels)
        return np.float64(model.loss_)

    return step


def numba_step(problem: Problem) -> Callable[[], Any]:
    """Return a step of plain Numba kernels and NumPy's products, with gradients by hand."""
    from bench import plain_kernels as kernels

    net, w = problem.net, {name: value.copy() for name, value in problem.weights.items()}
    names = [name for name in w if name.endswith((".weight", ".bias"))]
    velocity = {name: np.zeros(w[name].size, np.float32) for name in names}
    hidden, unbias = len(net.hidden), net.batch / (net.batch - 1)

    def normalize(x: Any, norm: int) -> tuple[Any, Any]:
        y, (mean, var, scale) = np.empty_like(x), np.empty((3, x.shape[1]), x.dtype)
        weight, bias = w[f"{norm}.weight"], w[f"{norm}.bias"]
        kernels.batch_norm(x, weight, bias, BN_EPS, y, mean, var, scale)
        for kind, value in (("mean", mean), ("var", var * unbias)):
            running = w[f"{norm}.running_{kind}"]
            running += BN_MOMENTUM * (value - running)
        w[f"{norm}.num_batches_tracked"] += 1
        return y, (x, weight, mean, scale)

    def step() -> Any:
        x, inputs, saved, outputs = problem.x, [], [], []
        for i in range(hidden + 1):
            linear = net.block * i
            inputs.append(x)
            x = x @ w[f"{linear}.weight"].T
            kernels.add_bias(x, w[f"{linear}.bias"])
            if i < hidden:
                if net.norm:
                    x, before = normalize(x, linear + 1)
                    saved.append(before)
                x = np.maximum(x, 0, out=x)
                outputs.append(x)
        probabilities, g = np.empty_like(x), np.empty_like(x)
        loss = kernels.cross_entropy(x, problem.labels, probabilities)
        kernels.cross_entropy_backward(probabilities, problem.labels, g)
        grads = {}
        for i in reversed(range(hidden + 1)):
            linear, norm = net.block * i, net.block * i + 1
            if i < hidden:
                g *= outputs[i] > 0
                if net.norm:
                    dx, (dweight, dbias) = np.empty_like(g), np.empty((2, g.shape[1]), g.dtype)
                    kernels.batch_norm_backward(g, *saved[i], dx, dweight, dbias)
                    grads[f"{norm}.weight"], grads[f"{norm}.bias"] = dweight, dbias
                    g = dx
            grads[f"{linear}.weight"], grads[f"{linear}.bias"] = g.T @ inputs[i], g.sum(0)
            if i:
                g = g @ w[f"{linear}.weight"]
        for name, gradient in grads.items():
            flat, v = w[name].reshape(-1), velocity[name]
            kernels.sgd(flat, gradient.reshape(-1), v, LR, MOMENTUM)
        return np.float64(loss)

    return step
