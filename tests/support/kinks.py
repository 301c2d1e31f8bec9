"""Derivatives at kinks and ties, and those of NaN: PyTorch's values, written out."""

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import minigrad as mg
from minigrad import functional as F

nan, inf = math.nan, math.inf


class Row(NamedTuple):
    """A Row says that ours(*inputs) is y, with these gradients of its sum; torch: its form."""

    ours: Callable[..., Any]
    torch: str
    inputs: list[Any]
    y: Any
    gradients: list[Any]


POINTS = [-inf, -1.0, 0.0, 1.0, inf]


MATRIX = [[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [-1.0, -5.0, -1.0]]


third = 1.0 / 3.0


ROWS = {
    "maximum": Row(
        mg.maximum,
        "torch.maximum(a, b)",
        [[1.0, 2.0, nan, 1.0, nan, 0.0, inf], [1.0, 1.0, 1.0, nan, nan, -0.0, inf]],
        [1.0, 2.0, nan, nan, nan, 0.0, inf],
        [[0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5], [0.5, 0.0, 1.0, 1.0, 1.0, 0.5, 0.5]],
    ),
    "minimum": Row(
        mg.minimum,
        "torch.minimum(a, b)",
        [[1.0, 2.0, nan, 1.0, nan, 0.0, inf], [1.0, 1.0, 1.0, nan, nan, -0.0, inf]],
        [1.0, 1.0, nan, nan, nan, 0.0, inf],
        [[0.5, 0.0, 1.0, 1.0, 1.0, 0.5, 0.5], [0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5]],
    ),
    "max by rows": Row(
        lambda a: mg.max(a, 1),
        "torch.amax(a, 1)",
        [MATRIX],
        [3.0, 2.0, -1.0],
        [[[0.0, 0.5, 0.5], [third] * 3, [0.5, 0.0, 0.5]]],
    ),
    "min by rows": Row(
        lambda a: mg.min(a, 1),
        "torch.amin(a, 1)",
        [MATRIX],
        [1.0, 2.0, -5.0],
        [[[1.0, 0.0, 0.0], [third] * 3, [0.0, 1.0, 0.0]]],
    ),
    "max of all": Row(
        mg.max, "a.max()", [[[1.0, 3.0], [3.0, 3.0]]], 3.0, [[[0.0, third], [third, third]]]
    ),
    "max of columns and rows": Row(
        lambda a: mg.max(a, (0, 2)),
        "torch.amax(a, (0, 2))",
        [[[[1.0, 2.0], [5.0, 5.0]], [[2.0, 2.0], [5.0, 4.0]]]],
        [2.0, 5.0],
        [[[[0.0, third], [third, third]], [[third, third], [third, 0.0]]]],
    ),
    "max with NaN": Row(
        lambda a: mg.max(a, 1),
        "torch.amax(a, 1)",
        [[[nan, 1.0, nan], [1.0, 2.0, 2.0]]],
        [nan, 2.0],
        [[[nan, nan, nan], [0.0, 0.5, 0.5]]],
    ),
    "min with NaN": Row(
        lambda a: mg.min(a, 1),
        "torch.amin(a, 1)",
        [[[1.0, nan, 0.0], [1.0, inf, 1.0]]],
        [nan, 1.0],
        [[[nan, nan, nan], [0.5, 0.0, 0.5]]],
    ),
    "abs": Row(abs, "a.abs()", [POINTS], [inf, 1.0, 0.0, 1.0, inf], [[-1.0, -1.0, 0.0, 1.0, 1.0]]),
    "sign": Row(mg.sign, "a.sign()", [POINTS], [-1.0, -1.0, 0.0, 1.0, 1.0], [[0.0] * 5]),
    "relu": Row(
        F.relu,
        "a.relu()",
        [[*POINTS, nan, 5e-324]],
        [0.0, 0.0, 0.0, 1.0, inf, nan, 5e-324],
        [[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]],
    ),
    "leaky_relu": Row(
        lambda a: F.leaky_relu(a, 0.25),
        "F.leaky_relu(a, 0.25)",
        [[*POINTS, nan]],
        [-inf, -0.25, 0.0, 1.0, inf, nan],
        [[0.25, 0.25, 0.25, 1.0, 1.0, 0.25]],
    ),
    "clip": Row(
        lambda a: mg.clip(a, -1, 1),
        "a.clip(-1, 1)",
        [[*POINTS, 1.5, nan]],
        [-1.0, -1.0, 0.0, 1.0, 1.0, 1.0, nan],
        [[0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]],
    ),
    "clip from below": Row(
        lambda a: a.clip(0.0),
        "a.clip(0.0)",
        [POINTS],
        [0.0, 0.0, 0.0, 1.0, inf],
        [[0.0, 0.0, 1.0, 1.0, 1.0]],
    ),
    "clip from above": Row(
        lambda a: a.clip(max=0.0),
        "a.clip(max=0.0)",
        [POINTS],
        [-inf, -1.0, 0.0, 0.0, 0.0],
        [[1.0, 1.0, 1.0, 0.0, 0.0]],
    ),
    "sqrt": Row(mg.sqrt, "a.sqrt()", [[0.0, 4.0, inf, nan]], [0.0, 2.0, inf, nan],
                [[inf, 0.25, 0.0, nan]]),
    "log": Row(mg.log, "a.log()", [[0.0, 1.0, inf]], [-inf, 0.0, inf], [[inf, 1.0, 0.0]]),
    "pow": Row(
        operator.pow,
        "a ** b",
        [[0.0, 0.0, 0.0, 0.0, 0.0, -2.0, -2.0, nan, inf],
         [0.0, 1.0, 2.0, 0.5, -1.0, 2.0, 3.0, 0.0, 0.0]],
        [1.0, 0.0, 0.0, 0.0, inf, 4.0, -8.0, 1.0, 1.0],
        [[0.0, 1.0, 0.0, inf, -inf, -4.0, 12.0, 0.0, 0.0],
         [0.0, 0.0, 0.0, 0.0, -inf, nan, nan, nan, inf]],
    ),
    "where beside a pole": Row(
        lambda a: mg.where(a > 0, mg.log(a), a),
        "torch.where(a > 0, a.log(), a)",
        [[0.0, 2.0]],
        [0.0, math.log(2.0)],
        [[nan, 0.5]],
    ),
    "division": Row(
        operator.truediv,
        "a / b",
        [[1.0, 0.0, -1.0], [0.0, 0.0, 0.0]],
        [inf, nan, -inf],
        [[inf, inf, inf], [-inf, nan, inf]],
    ),
}  # fmt: skip
POWERS = {  # at 0, -2, NaN and 1: value and derivative
    0: ([1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]),
    1: ([0.0, -2.0, nan, 1.0], [1.0, 1.0, 1.0, 1.0]),
    2: ([0.0, 4.0, nan, 1.0], [0.0, -4.0, nan, 2.0]),
    3.0: ([0.0, -8.0, nan, 1.0], [0.0, 12.0, nan, 3.0]),
    0.5: ([0.0, nan, nan, 1.0], [inf, nan, nan, 0.5]),
    -1: ([inf, -0.5, nan, 1.0], [-inf, -0.25, nan, -1.0]),
}
BASES = {  # to the powers 0, 1, -1, 2 and NaN
    0: ([1.0, 0.0, inf, 0.0, nan], [0.0, 0.0, -inf, 0.0, nan]),
    1: ([1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]),
    -1.0: ([1.0, -1.0, -1.0, 1.0, nan], [nan, nan, nan, nan, nan]),
}
for n, (y, gradient) in POWERS.items():
    ROWS[f"x ** {n}"] = Row(
        lambda a, n=n: a**n, f"a ** {n}", [[0.0, -2.0, nan, 1.0]], y, [gradient]
    )
for n, (y, gradient) in BASES.items():
    ROWS[f"{n} ** x"] = Row(
        lambda a, n=n: n**a, f"({n}) ** a", [[0.0, 1.0, -1.0, 2.0, nan]], y, [gradient]
    )
