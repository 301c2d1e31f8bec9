"""`python -m minigrad.warmup` compiles the kernels ahead, and fills their cache.

It runs small networks through the public API, because only real calls know their signatures; a test
checks that each kernel is then compiled for float32 and for float64.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numba
import numpy as np

from . import Tensor, compile, matmul, nn, no_grad, optim, permute_dims, tensor
from . import functional as F
from .kernels.jit.cache_files import writable_directory
from .kernels.jit.decorators import KERNELS
from .kernels.jit.numba_types import Dispatcher
from .kernels.product import PANEL, WIDTH
from .kernels.threading.pool import THREADED
from .types import Array, Shape

Loss = Callable[[Tensor], Tensor]
N, C, CLASSES = 8, 4, 3
LABELS = np.arange(N) % CLASSES
SAMPLES = 500  # all kernels take about as long to compile as this many functions like `_sample`


def _floats(dtype: str, *shape: int) -> Array:
    return np.linspace(-1.0, 1.0, int(np.prod(shape))).reshape(shape).astype(dtype)


def _train(model: nn.Module, loss: Loss, x: Array, **options: Any) -> None:
    """Run two steps, because the first with momentum may differ, and an evaluation."""
    opt = optim.SGD(model.parameters(), lr=0.01, **options)
    for _ in range(2):
        opt.zero_grad()
        loss(model(x)).backward()
        opt.step()
    model.eval()
    with no_grad():
        loss(model(x))


def _cross_entropy(output: Tensor) -> Tensor:
    return F.cross_entropy(output, LABELS)


def _classifier(dtype: str) -> None:
    for options in ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}):
        for bias in (True, False):
            hidden = (nn.Linear(C, 5, bias=bias), nn.BatchNorm1d(5), nn.ReLU())
            model = nn.Sequential(*hidden, nn.Linear(5, CLASSES)).to(dtype)
            _train(model, _cross_entropy, _floats(dtype, N, C), **options)


def _batch_norm(dtype: str) -> None:
    """Train each layer in each layout, fused and composed, with and without its options."""
    made: list[tuple[Callable[..., nn.Module], Shape]] = [
        (nn.BatchNorm1d, (N, C)),
        (nn.BatchNorm1d, (N, C, 2)),
        (nn.BatchNorm2d, (N, C, 2, 2)),
        (nn.BatchNorm3d, (N, C, 2, 2, 2)),
    ]
    parts = ("fused", "affine", "track_running_stats")
    for layer, shape in made:
        for options in ({}, *({part: False} for part in parts)):
            out = nn.Linear(int(np.prod(shape[1:])), CLASSES)
            model = nn.Sequential(layer(C, **options), nn.ReLU(), nn.Flatten(), out)
            _train(model.to(dtype), _cross_entropy, _floats(dtype, *shape))
    F.batch_norm(_floats(dtype, N, C), _floats(dtype, C), _floats(dtype, C) ** 2, training=True)


def _large_arrays(dtype: str) -> None:
    """Run sizes that threads share, forward and backward, in training and in evaluation, and an
    optimizer's steps."""
    x = tensor(_floats(dtype, THREADED // C, C), requires_grad=True)
    layer = nn.BatchNorm1d(C).to(dtype)
    for training in (True, False):
        layer.train(training)(x).sum().backward()
    for momentum in (0.0, 0.9):
        optim.SGD([x], lr=0.01, momentum=momentum).step()


def _products(dtype: str) -> None:
    """Compute a product of medium size and one that threads share."""
    for n in (WIDTH, math.ceil((2 * PANEL) ** (1 / 3))):
        matmul(_floats(dtype, 2 * n, n), _floats(dtype, n, 2 * n))


def _losses(dtype: str) -> None:
    logits, target = _floats(dtype, N, CLASSES), abs(_floats(dtype, N, CLASSES))
    losses: list[Loss] = [
        lambda y: F.nll_loss(F.log_softmax(y), LABELS),
        lambda y: F.mse_loss(y, target),
        lambda y: F.binary_cross_entropy_with_logits(y, target),
        lambda y: F.cross_entropy(y, target),
        lambda y: F.cross_entropy(y, LABELS, weight=target[0]),
        lambda y: F.cross_entropy(y, LABELS, label_smoothing=0.1),
        lambda y: F.cross_entropy(y, LABELS, reduction="sum"),
        lambda y: F.cross_entropy(y, LABELS, reduction="none").sum(),
        lambda y: F.softmax(y).sum(),
    ]
    for loss in losses:
        _train(nn.Linear(CLASSES, CLASSES).to(dtype), loss, logits)


def _other_layers(dtype: str) -> None:
    """Train Embedding, LayerNorm, dropout, pixels with a class each, and sums over each kind of
    axis."""
    embedding = nn.Sequential(nn.Embedding(CLASSES, C), nn.LayerNorm(C), nn.Dropout(), nn.GELU())
    _train(embedding.to(dtype), lambda y: y.mean(-1).sum(0), LABELS)
    _train(nn.Linear(C, CLASSES).to(dtype), lambda y: y.sum(1).mean(), _floats(dtype, N, 2, C))
    _train(
        nn.Linear(C, CLASSES).to(dtype),
        lambda y: F.cross_entropy(permute_dims(y, (0, 2, 1)), np.zeros((N, 2), np.int64)),
        _floats(dtype, N, 2, C),
    )


def _compiled(dtype: str) -> None:
    """Compile a step, for the kernels that only generated code calls."""
    model = nn.Linear(C, CLASSES).to(dtype)
    opt = optim.SGD(model.parameters(), lr=0.01)

    def step(x: Tensor) -> Tensor:
        opt.zero_grad()
        loss = _cross_entropy(model(x * 1.0))  # so that x has a gradient
        loss.backward()
        opt.step()
        return loss

    compiled = compile(step)
    for _ in range(2):
        compiled(_floats(dtype, N, C))


WORKLOADS = {
    "training a classifier": _classifier,
    "batch normalisation": _batch_norm,
    "large arrays": _large_arrays,
    "products": _products,
    "losses": _losses,
    "other layers": _other_layers,
    "a compiled step": _compiled,
}


def counts(kernels: Iterable[Dispatcher]) -> tuple[int, int]:
    """Return how many signatures of the kernels this process has compiled and loaded."""
    stats = [k.stats for k in kernels]
    return (
        sum(sum(s.cache_misses.values()) for s in stats),
        sum(sum(s.cache_hits.values()) for s in stats),
    )


def _sample(a: Array, b: Array, out: Array) -> None:
    for i in range(a.shape[0]):
        total = 0.0
        for j in range(a.shape[1]):
            total += a[i, j] * b[j]
        out[i] = max(total, 0.0)


def _estimate() -> float:
    """Return the seconds that all kernels are likely to take on this machine.

    A small function is compiled twice, since the first time also imports the compiler.
    """
    for _ in range(2):
        began = time.perf_counter()
        function: Any = numba.njit(_sample)
        function.compile("(float32[:,::1], float32[::1], float32[::1])")
    return SAMPLES * (time.perf_counter() - began)


def _about(seconds: float) -> str:
    """Return a duration as a text, as exact as an estimate can be."""
    if seconds < 90.0:
        return f"{max(10, round(seconds, -1)):.0f} s"
    return f"{seconds / 60.0:.0f} minutes"


def _absent() -> int:
    """Return how many kernels have no machine code on disk."""
    return sum(not getattr(k._cache, "is_on_disk", bool)() for k in KERNELS.values())


def main() -> int:
    """Say what is missing and how long it takes, and run all workloads, with a line for each.

    Nothing is said of workloads for which all is there. Return 1 if nothing could be kept, else 0.
    """
    if getattr(numba.config, "DISABLE_JIT", False):
        print("Numba's compiler is switched off (NUMBA_DISABLE_JIT): nothing to compile")
        return 0
    with contextlib.suppress(ImportError):
        from .kernels.jit.cache import LISTENER

        LISTENER.message.is_done = True  # the lines below say it
    kernels = [*KERNELS.values()]  # without those that workloads generate
    began, total = time.perf_counter(), len(kernels)
    if absent := _absent():
        print(
            f"{absent} of {total} kernels are not on disk: compiling them, each for float32 and "
            f"float64,\ntakes about {_about(_estimate() * absent / total)} on this machine, once; "
            f"they will be kept in\n{writable_directory() or 'no folder, since none is writable'}",
            flush=True,
        )
    works = [(dtype, name) for dtype in ("float32", "float64") for name in WORKLOADS]
    for i, (dtype, name) in enumerate(works, 1):
        text = f"{i:2} of {len(works)}: {dtype}, {name}: "
        if absent:  # a terminal shows what runs now
            print(text, end="", flush=True)
        before, start = counts(kernels), time.perf_counter()
        WORKLOADS[name](dtype)
        compiled, loaded = (b - a for a, b in zip(before, counts(kernels), strict=True))
        took = time.perf_counter() - start
        if absent or compiled:
            result = f"{compiled} compiled, {loaded} loaded, {took:.1f} s"
            print(result if absent else text + result, flush=True)
    compiled, loaded = counts(kernels)
    places = ", ".join(sorted({k.stats.cache_path for k in kernels} - {None}))
    took = time.perf_counter() - began
    done = f"{compiled} compiled" if compiled else "all are there, nothing to compile"
    print(f"{compiled + loaded} variants of {total} kernels: {done}; {took:.1f} s")
    print(f"kept in {places or 'no directory'}")
    return 0 if places else 1


if __name__ == "__main__":
    raise SystemExit(main())
