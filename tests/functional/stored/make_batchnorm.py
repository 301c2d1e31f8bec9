"""Write batchnorm.json: what PyTorch's BatchNorm computes, in float64, for fixed inputs.

    python tests/functional/stored/make_batchnorm.py

It needs PyTorch, and nothing of minigrad. Numbers are written so that they read back bit for bit.
"""

import json
from pathlib import Path

import numpy as np
import torch

TARGET = Path(__file__).with_name("batchnorm.json")

# Name: layer, its options, shapes of the batches, and (mean, deviation) of the inputs. After the
# batches in training mode comes one more, of the first shape, in eval mode.
CASES = {
    "2-D": ("BatchNorm1d", {}, [(6, 3)], (0, 1)),
    "3-D": ("BatchNorm1d", {"momentum": 0.3}, [(4, 3, 5)], (1, 2)),
    "4-D": ("BatchNorm2d", {}, [(2, 3, 4, 3), (1, 3, 4, 3)], (-1, 3)),
    "5-D": ("BatchNorm3d", {"eps": 1e-3}, [(2, 2, 2, 3, 2)], (0, 1)),
    "eps large": ("BatchNorm1d", {"eps": 0.5}, [(5, 2)], (0, 1)),
    "eps small": ("BatchNorm1d", {"eps": 1e-12}, [(5, 2)], (0, 0.01)),
    "far from zero": ("BatchNorm1d", {}, [(9, 2)], (100, 1)),
    "small scale": ("BatchNorm1d", {}, [(9, 2)], (0, 1e-3)),
    "momentum 0": ("BatchNorm1d", {"momentum": 0.0}, [(4, 2), (5, 2)], (2, 1)),
    "momentum 1": ("BatchNorm1d", {"momentum": 1.0}, [(4, 2), (5, 2)], (2, 1)),
    "cumulative": ("BatchNorm2d", {"momentum": None}, [(3, 2, 2, 2), (2, 2, 3, 1)] * 2, (1, 2)),
    "no affine": ("BatchNorm1d", {"affine": False}, [(6, 3), (4, 3)], (0, 1)),
    "no statistics": ("BatchNorm1d", {"track_running_stats": False}, [(6, 3)], (1, 1)),
}


def numbers(x):
    return None if x is None else x.detach().tolist()


def run(bn, x, g):
    """Run forward and backward through a float64 layer; return results and statistics."""
    leaf = torch.tensor(x, requires_grad=True)
    bn.zero_grad()
    y = bn(leaf)
    y.backward(torch.tensor(g))
    return {
        "training": bn.training,
        "x": x.tolist(),
        "g": g.tolist(),
        "y": numbers(y),
        "dx": numbers(leaf.grad),
        "dgamma": None if bn.weight is None else numbers(bn.weight.grad),
        "dbeta": None if bn.bias is None else numbers(bn.bias.grad),
        "running_mean": numbers(bn.running_mean),
        "running_var": numbers(bn.running_var),
        "num_batches_tracked": numbers(bn.num_batches_tracked),
    }


def make():
    """Return the whole content of the file."""
    # RandomState's stream is frozen, so the same seed will always give the same inputs.
    rng = np.random.RandomState(20150211)
    cases = {}
    for name, (layer, options, shapes, (mean, deviation)) in CASES.items():
        channels = shapes[0][1]
        bn = getattr(torch.nn, layer)(channels, **options).double()
        gamma, beta = rng.uniform(0.5, 2.0, channels), rng.standard_normal(channels)
        gamma[0] *= -1
        if bn.affine:
            with torch.no_grad():
                bn.weight.copy_(torch.tensor(gamma))
                bn.bias.copy_(torch.tensor(beta))
        batches = []
        for i, shape in enumerate([*shapes, shapes[0]]):
            bn.train(i < len(shapes))
            x = mean + deviation * rng.standard_normal(shape)
            batches.append(run(bn, x, rng.standard_normal(shape)))
        cases[name] = {
            "layer": layer,
            "options": options,
            "gamma": numbers(bn.weight),
            "beta": numbers(bn.bias),
            "batches": batches,
        }
    return {"torch": torch.__version__, "numpy": np.__version__, "cases": cases}


if __name__ == "__main__":
    TARGET.write_text(json.dumps(make()) + "\n", encoding="utf-8")
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")
