"""ReLU and its gate each make one pass; LLVM vectorises them, since they do not branch."""

from ..types import Array
from .jit.decorators import kernel
from .jit.new_arrays import reshaped


def _relu(a: Array, out: Array) -> None:
    """Set out to 0 where a <= 0, and to a elsewhere, also at NaN.

    The arrays have one shape and are in C order.
    """
    xs, ys = reshaped(a, (a.size,)), reshaped(out, (out.size,))
    zero = ys.dtype.type(0)
    for i in range(xs.size):
        x = xs[i]
        ys[i] = zero if x <= zero else x


def _gate(g: Array, y: Array, out: Array) -> None:
    """Set out to 0 where y <= 0, and to g elsewhere, also where y is NaN.

    The arrays have one shape and are in C order.
    """
    gs, ys, outs = reshaped(g, (g.size,)), reshaped(y, (y.size,)), reshaped(out, (out.size,))
    zero = outs.dtype.type(0)
    for i in range(gs.size):
        v = gs[i]  # always loaded, so that LLVM need not branch
        outs[i] = zero if ys[i] <= zero else v


relu = kernel(_relu)
gate = kernel(_gate)
