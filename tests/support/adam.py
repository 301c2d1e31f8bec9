"""Adam follows the recipe for an optimizer in CONTRIBUTING.md."""

import math

from minigrad import optim
from minigrad.checks import number
from minigrad.kernels.jit.decorators import kernel


def _adam(p, g, exp_avg, exp_avg_sq, step, hyper):
    """m <- b1 * m + (1 - b1) * g, v <- b2 * v + (1 - b2) * g**2, step <- step + 1,
    p <- p - lr * (m / (1 - b1**step)) / (sqrt(v / (1 - b2**step)) + eps)."""
    ps, gs = p.reshape(p.size), g.reshape(p.size)
    ms, vs = exp_avg.reshape(p.size), exp_avg_sq.reshape(p.size)
    steps = step.reshape(1)
    steps[0] += 1
    lr, eps, b1, c1, b2, c2 = hyper[0], hyper[1], hyper[2], hyper[3], hyper[4], hyper[5]
    m_bias, v_bias = -math.expm1(steps[0] * hyper[6]), -math.expm1(steps[0] * hyper[7])
    for i in range(ps.size):
        ms[i] = b1 * ms[i] + c1 * gs[i]
        vs[i] = b2 * vs[i] + c2 * gs[i] * gs[i]
        ps[i] -= lr * (ms[i] / m_bias) / (math.sqrt(vs[i] / v_bias) + eps)


ARRAYS = {
    "hyper": ("lr", "eps", "b1", "1 - b1", "b2", "1 - b2", "log b1", "log b2"),
    "buffers": ("exp_avg", "exp_avg_sq"),
    "counters": ("step",),
}


class Adam(optim.Optimizer):
    """Adam has PyTorch's arguments and defaults.

    params: as for SGD. lr: the learning rate. betas: the decay of the means of the gradient and of
    its square. eps: it is added to the denominator.
    """

    rules = (optim.Rule("adam", kernel(_adam), "p <- p - lr * m / (sqrt(v) + eps)", **ARRAYS),)

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @staticmethod
    def check(group):
        number("Adam", "lr", group["lr"], 0, 1e38)
        number("Adam", "eps", group["eps"], 0, 1e38)
        for beta in group["betas"]:
            number("Adam", "betas", beta, 1e-6, 1 - 1e-6)

    @staticmethod
    def numbers(group, first):
        b1, b2 = group["betas"]
        decays = (b1, 1 - b1, b2, 1 - b2, math.log(b1), math.log(b2))
        return (group["lr"], group["eps"], *decays)
