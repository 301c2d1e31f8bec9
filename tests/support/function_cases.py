"""Functions of several primitives, each with makers of its inputs."""

import numpy as np

import minigrad as mg
from minigrad import functional as F

WEIGHTS = np.float32([0.1, 1.0, 2.0, 0.5])


def floats(*shape):
    return lambda rng: rng.standard_normal(shape).astype(np.float32)


def below(n, *shape, dtype=np.int64):
    return lambda rng: rng.integers(0, n, shape).astype(dtype)


def with_gradients(function):
    """Return the function's result, and the gradients of the sum of its squares."""

    def run(*inputs):
        found = function(*inputs)
        leaves = [x for x in inputs if x.requires_grad]
        return (*found, *mg.grad(sum((y * y).sum() for y in found), leaves))

    return run


def rounded(x):
    """Return x rounded, so that there are many ties, with the gradient of x."""
    return x - (x - (x * 2).astype("int64").astype(x.dtype)).detach()


FUNCTIONS = {
    "counts": (
        lambda x, y: (
            mg.argmax(x, 1),
            mg.argmin(x),
            (mg.argmax(x, 1) == y).sum(),
            (y == 2).mean(),
            y.sum(),
            (y + 1).sum(0, keepdims=True),
        ),
        floats(6, 4),
        below(4, 6, dtype=np.int32),
    ),
    "products": (
        with_gradients(lambda x, y, v: (x @ y, x @ v, v @ y, x[0] @ y, x[:, None] @ y, v @ v)),
        floats(4, 3, 5),
        floats(4, 5, 2),
        floats(5),
    ),
    "order": (
        with_gradients(
            lambda x, y: (
                mg.concat([x, y.transpose(1, 2), x * 2], 1),
                mg.stack([x, x * 2], 2),
                x.permute(2, 0, 1),
                (x * 2).permute(2, 0, 1) * 3,
                x.permute(2, 1, 0).reshape(-1),
                x.reshape(-1),
            )
        ),
        floats(4, 3, 5),
        floats(4, 5, 2),
    ),
    "ties": (
        with_gradients(lambda x: (rounded(x).max(0), rounded(x).min((0, 1)), x.max())),
        floats(4, 4, 3),
    ),
    "slices": (
        with_gradients(
            lambda x: (
                *(x[1:3], x[:, ::2], x[::-1, 0], x[..., -1], x[None, 1], x[:, None, 2:0:-1]),
                *((x * 2)[1:3] + 1, x[5:], x[1, 2, 3:4], x[1, 2, 3], x[()]),
            )
        ),
        floats(4, 4, 5),
    ),
    "indices": (
        with_gradients(
            lambda x, i, j: (
                *(x[i], x[:, i], x[i, i], x[i][:, None], x[1:, i, :2], x[i, :, j], x[None, i]),
                *(x[[0, 2, 2]], x[np.array([True, False, True, True])], x[[0, 1], :, [3, 3]]),
                *(x[..., i - 4], x[1, i], x[i, None, i]),
            )
        ),
        floats(4, 4, 5),
        below(4, 3, 2),
        below(5, 2, dtype=np.uint8),
    ),
    "embedding": (
        with_gradients(lambda i, w: (F.embedding(i, w), F.embedding(i, w, padding_idx=-2))),
        below(5, 4, 3),
        floats(5, 6),
    ),
    "layers": (
        with_gradients(
            lambda x, w, b: (F.linear(x, w, b), F.linear(x[0, 0], w), F.layer_norm(x, 5))
        ),
        floats(2, 4, 5),
        floats(3, 5),
        floats(3),
    ),
    "losses": (
        with_gradients(
            lambda x, y: (
                F.cross_entropy(x, y, label_smoothing=0.1),
                F.cross_entropy(x, y, weight=WEIGHTS, ignore_index=1),
                F.cross_entropy(x, y, weight=WEIGHTS, label_smoothing=0.2, reduction="sum"),
                F.cross_entropy(x, y, reduction="none", ignore_index=2),
                F.cross_entropy(x, F.softmax(x * 2), weight=mg.tensor(WEIGHTS)),
                F.nll_loss(F.log_softmax(x), y),
                F.nll_loss(F.log_softmax(x), y, weight=WEIGHTS, ignore_index=2),
                F.nll_loss(F.log_softmax(x), y, reduction="none"),
            )
        ),
        floats(6, 4),
        below(4, 6, dtype=np.int32),
    ),
}


def tensors(makers, seed):
    rng = np.random.default_rng(seed)
    arrays = [make(rng) for make in makers]
    return [mg.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
