"""The expressions by which generated code computes one element of each elementwise primitive.

The placeholders are the inputs, in their order, then the attributes by name. All operands have
the dtype of the result where the primitive promotes; `zero` and `one` are of that dtype.
"""

import functools
from typing import Any

import numpy as np

# An element of the result; minigrad.kernels.codegen_runtime has the functions.
EXPRESSIONS: dict[str, str] = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "square": "{0} * {0}",
    "pow": "{0} ** {1}",
    "abs": "abs({0})",
    "sign": "sign({0})",
    "exp": "exp({0})",
    "log": "log({0})",
    "sqrt": "sqrt({0})",
    "rsqrt": "{one} / sqrt({0})",
    "inv_std": "{one} / sqrt({0} + {eps})",
    "erf": "erf({0})",
    "maximum": "maximum({0}, {1})",
    "minimum": "minimum({0}, {1})",
    "where": "{1} if {0} else {2}",
    "gated": "{zero} if {1} <= {zero} else {0}",
    "relu": "{zero} if {0} <= {zero} else {0}",
    "clip": "minimum(maximum({0}, {low}), {high})",
    "leaky_relu": "leaky_relu({0}, {negative_slope})",
    "tanh": "tanh({0})",
    "sigmoid": "sigmoid({0})",
    "softplus": "softplus({0})",
    "gelu": "gelu({0})",
    "binary_cross_entropy": "binary_cross_entropy({0}, {1}, {2}, {3})",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "isnan": "{0} != {0}",
    "logical_and": "bool({0}) and bool({1})",
    "logical_or": "bool({0}) or bool({1})",
    "logical_not": "not {0}",
    "astype": "{0}",
    "broadcast_to": "{0}",
}
# NumPy computes these powers otherwise, or products compute them faster.
POWERS = {0.5: "sqrt({0})", 2: "{0} * {0}", 3: "{0} * {0} * {0}"}
# These cost less to compute again where they are read than to store and read back.
CHEAP = frozenset(
    [
        *("add", "sub", "mul", "neg", "square", "abs", "maximum", "minimum", "where", "gated"),
        *("relu", "leaky_relu", "clip", "equal", "not_equal", "less", "less_equal", "greater"),
        *("greater_equal", "isnan", "logical_and", "logical_or", "logical_not"),
        *("astype", "broadcast_to"),
    ]
)
# These compare their operands in a common dtype, and the result is a boolean.
COMPARISONS = frozenset(
    [
        *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isnan"),
        *("logical_and", "logical_or", "logical_not"),
    ]
)
# These may compute with integers; others convert integers to the floats of the result.
INTEGER = frozenset(
    ["add", "sub", "mul", "neg", "maximum", "minimum", "where", "astype", "broadcast_to"]
)
# What is combined of each term: by sums in float64, or by extremes in the dtype of the result.
REDUCTIONS = {"sum": "{0}", "mean": "{0}", "mean_square": "{0} * {0}", "max": "{0}", "min": "{0}"}
EXTREMES = {"max": ("maximum", "-inf"), "min": ("minimum", "inf")}

# Floats around the ends of the range of each integer dtype, and far beyond.
_EDGES = [
    *(sign * (2.0**bits + more) for bits in (7, 8, 15, 16, 31, 32) for sign in (1, -1)
      for more in (-1.0, -0.5, 0.0, 0.5, 1.0, 300.7)),
    *(sign * 2.0**bits * factor for bits in (40, 53, 62, 63, 64) for sign in (1, -1)
      for factor in (1.0, 1.0 + 2.0**-20, 1.5)),
    *(0.0, -0.0, 0.5, -0.5, -1.0, 1e30, -1e30, np.inf, -np.inf, np.nan),
]  # fmt: skip


@functools.cache
def casts_as_numpy(source: Any, target: Any) -> bool:
    """Return whether generated code converts floats of dtype `source` to integers of dtype `target`
    exactly as NumPy does on this machine.

    For a number that the integer cannot hold, NumPy leaves the result to the processor, and its
    code for several elements at once may give another than its code for one.
    """
    from ...kernels import (
        codegen_runtime as generated,  # on first use: few programs convert floats to integers
    )

    cast = getattr(generated, f"to_{target}")
    cast = getattr(cast, "py_func", cast)
    values = np.array(_EDGES, source)
    with np.errstate(all="ignore"):
        expected = np.array([cast(x) for x in values])
        alone = [np.array_equal(x.astype(target), y) for x, y in zip(values, expected, strict=True)]
        many, wanted = np.repeat(values, 256), np.repeat(expected, 256)
        together = [np.array_equal(many[::n].astype(target), wanted[::n]) for n in (1, 2)]
    return all(alone) and all(together)
