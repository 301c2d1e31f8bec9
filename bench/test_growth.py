"""These benchmarks time compiling as programs grow.

All passes are timed by the number of operations, and an unrolled recurrent network by the number of
its turns, in minigrad and JAX.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import machine
from bench.unrolled import STEPS
from minigrad import ops
from minigrad.compiler.codegen.module import emit
from minigrad.compiler.ir.program import Operation, Program, Value
from minigrad.compiler.passes.pipeline import optimised
from minigrad.compiler.runtime.buffers import Memory, Workspace


class Builder:
    """A Builder writes a program without tracing it."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        self.arguments = [self._value(*item, "argument") for item in shapes.items()]
        self.operations: list[Operation] = []
        self.backward = False  # whether new operations belong to a backward pass

    def __call__(
        self, name: str, *inputs: Any, shape: tuple[int, ...] = (), **attributes: Any
    ) -> Value:
        """Write an operation, and return its result; shape: by default, the inputs broadcast."""
        shape = shape or np.broadcast_shapes(*[x.shape for x in inputs if isinstance(x, Value)])
        made = self._value(name, shape, "result")
        rule = (ops.TABLE["add"], 0) if self.backward else None
        self.operations.append(Operation(ops.TABLE[name], inputs, attributes, [made], rule))
        return made

    def program(self, *results: Value) -> Program:
        """Return the program; a pass gives unique names to its Values."""
        return Program(self.arguments, self.operations, results, [])

    @staticmethod
    def _value(name: str, shape: tuple[int, ...], origin: str) -> Value:
        array = np.broadcast_to(np.empty((), np.float32), shape)
        return Value(name, array, origin, keep=False)


def chain(operations: int) -> Program:
    """Return a program of elementwise operations, one after the other."""
    write = Builder(x=(16, 32), c=(16, 32))
    x, c = write.arguments
    for _ in range(operations // 3):
        x = write("add", x, write("mul", write("sub", c, x), 0.1))
    return write.program(x)


def shared(operations: int) -> Program:
    """Return a program whose cotangents are read twice each, and summed at the end."""
    write = Builder(x=(16, 32))
    (g,) = write.arguments
    write.backward = True
    for _ in range(operations // 3):
        g = write("add", g, write("mul", write("neg", g), 0.1))
    total = write("sum", g, shape=(1, 32), axis=(0,), keepdims=True)
    return write.program(total, g)


def recurrent(operations: int) -> Program:
    """Return a program with a recurrent network and its gradients."""
    write = Builder(x=(16, 32), w=(32, 32), u=(32, 32), b=(32,))
    x, w, u, b = write.arguments
    h, states = write("neg", x), []
    for _ in range(operations // 15):
        products = [write("matmul", a, p, shape=h.shape) for a, p in ((x, w), (h, u))]
        states.append(h)
        h = write("tanh", write("add", write("add", *products), b))
    write.backward = True
    g, sums = h, [write("neg", p) for p in (w, u, b)]
    for before in reversed(states):
        g = write("mul", g, write("sub", 1.0, write("mul", h, h)))
        columns = write("permute", g, shape=(32, 16), axes=(1, 0))
        terms = [write("matmul", columns, a, shape=(32, 32)) for a in (x, before)]
        terms.append(write("sum", g, shape=(32,), axis=(0,), keepdims=False))
        sums = [write("add", total, term) for total, term in zip(sums, terms, strict=True)]
        g, h = write("matmul", g, u, shape=h.shape), before
    return write.program(*sums)


def deep(operations: int) -> Program:
    """Return a program with a network of many layers, each with its own weights, and gradients."""
    count = operations // 6
    write = Builder(x=(16, 32), **{f"w{i}": (32, 32) for i in range(count)})
    x, *weights = write.arguments
    inputs = []
    for w in weights:
        inputs.append(x)
        x = write("tanh", write("matmul", x, w, shape=x.shape))
    write.backward = True
    g, gradients = x, []
    for x, w in zip(reversed(inputs), reversed(weights), strict=True):
        columns = write("permute", x, shape=(32, 16), axes=(1, 0))
        gradients.append(write("matmul", columns, g, shape=(32, 32)))
        g = write("mul", write("matmul", g, w, shape=x.shape), x)
    return write.program(g, *gradients)


PROGRAMS = {f.__name__: f for f in (chain, shared, recurrent, deep)}


@pytest.mark.parametrize("operations", [100, 1_000, 10_000])
@pytest.mark.parametrize("kind", PROGRAMS)
def test_passes(benchmark: Any, kind: str, operations: int) -> None:
    """Time all passes, the emitter and the layout of memory, without tracing and Numba."""
    benchmark.group = f"passes, {kind}"

    def compile_(program: Program) -> None:
        done = optimised(program)
        Memory(done, emit(done, kind), Workspace())

    def fresh() -> tuple[tuple[Program], dict[str, Any]]:
        return (PROGRAMS[kind](operations),), {}

    benchmark.pedantic(compile_, setup=fresh, rounds=3, warmup_rounds=1)
    if benchmark.stats is not None:  # None where timing is switched off
        count = len(PROGRAMS[kind](operations).operations)
        each = benchmark.stats.stats.median / count * 1e6
        benchmark.extra_info["microseconds_per_operation"] = each


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("turns", [10, 50, 100, 200])
def test_unrolled(benchmark: Any, tmp_path: Path, turns: int, name: str) -> None:
    """Time a process that starts, compiles with an empty cache, and trains for 22 steps."""
    if not machine.installed(name):
        pytest.skip(f"{name} is not installed")
    if benchmark.disabled and turns > 10:
        pytest.skip("only the time depends on the number of turns")
    benchmark.group = f"compile an RNN of {turns} turns"
    command = [sys.executable, "-m", "bench.unrolled", name, str(turns)]
    variables = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def run() -> str:
        return subprocess.run(command, env=variables, check=True, capture_output=True).stdout

    benchmark.extra_info |= json.loads(benchmark.pedantic(run, rounds=1))
