"""`gradcheck` compares derived gradients with finite differences."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from .checks import ABOVE_0, integer, number
from .engine.backward import grad
from .engine.tape import enable_grad
from .engine.tensor import Tensor, as_tensor
from .errors import ArgumentError, DtypeError, GradError
from .ops.primitive import Operand
from .types import Array

# A function to check: it returns one Tensor or several.
Function = Callable[..., Tensor | Sequence[Tensor]]


def gradcheck(
    fn: Function,
    inputs: Tensor | Sequence[Operand],
    *,
    eps: float = 1e-6,
    atol: float = 1e-8,
    rtol: float = 1e-6,
    seed: int = 0,
    order: int = 1,
) -> bool:
    """Return True if the gradients of fn(*inputs) equal central differences; otherwise raise.

    fn: returns one Tensor or several, always the same for the same inputs. inputs: Tensors; those
    that require grad must be float64, and every element of them is checked.
    eps: step of the differences, in the units of the input; atol, rtol: |derived - numeric| must
        not exceed atol + rtol * max |numeric| of that input.
    seed: for the random cotangent that weighs the outputs (with a constant one, errors that sum to
        zero over the outputs would pass).
    order: 2 also checks the gradient of the gradient.
    Errors: GradError that names the input, the index and both values; DtypeError, ArgumentError.
    Warns if all gradients are zero within noise, like that of sum(batch_norm(x)): such a check
    proves nothing.

    >>> x = mg.tensor(np.random.default_rng(0).standard_normal((5, 3)), requires_grad=True)
    >>> mg.gradcheck(lambda x: F.batch_norm(x, training=True), x, order=2)
    True
    >>> mg.gradcheck(lambda x: x * x.detach(), x)
    Traceback (most recent call last):
    minigrad.errors.GradError: gradcheck: input 0 at index (4, 0): derived ...
    """
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    eps = number("gradcheck", "eps", eps, ABOVE_0)
    atol, rtol = (number("gradcheck", n, v, 0) for n, v in (("atol", atol), ("rtol", rtol)))
    seed = integer("gradcheck", "seed", seed, 0)
    if order not in (1, 2):
        raise ArgumentError(f"gradcheck: order must be 1 or 2, got {order!r}")
    active = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    if not active:
        raise GradError("gradcheck: no input requires grad")
    for i in active:
        if given[i].dtype != np.float64:
            raise DtypeError(f"gradcheck: input {i} is {given[i].dtype}, expected float64")
    rng = np.random.default_rng(seed)
    with enable_grad():
        _check(fn, given, active, rng, eps, atol, rtol, "gradcheck")
        if order == 2:

            def gradient(*args: Operand) -> list[Tensor]:
                outputs = [y for y in _outputs(fn, args) if y.requires_grad]
                xs = [args[i] for i in active]
                found = grad(outputs, xs, cotangents, create_graph=True, allow_unused=True)
                return [g for g in found if g is not None]

            live = [y for y in _outputs(fn, given) if y.requires_grad]
            cotangents = [Tensor(rng.standard_normal(y.shape)) for y in live]
            if not live:
                return True  # a constant: its first derivatives are zero
            _check(gradient, given, active, rng, eps, atol, rtol, "gradcheck, second order")
    return True


def _check(
    fn: Function,
    inputs: list[Operand],
    active: list[int],
    rng: np.random.Generator,
    eps: float,
    atol: float,
    rtol: float,
    title: str,
) -> None:
    # fn runs on shifted inputs: copies keep the caller's as they are.
    args = [
        Tensor(x.data.copy()).requires_grad_() if i in active else x for i, x in enumerate(inputs)
    ]
    outputs = _outputs(fn, args)
    cotangents = [rng.standard_normal(y.shape) for y in outputs]
    live = [(y, Tensor(c)) for y, c in zip(outputs, cotangents, strict=True) if y.requires_grad]
    xs = [args[i] for i in active]
    derived: Sequence[Tensor | None] = [None] * len(xs)
    if live:
        derived = grad([y for y, _ in live], xs, [c for _, c in live], allow_unused=True)
    largest, noise = 0.0, 0.0
    for i, x, g in zip(active, xs, derived, strict=True):
        numeric = _differences(fn, args, x, cotangents, eps)
        values = np.zeros(x.shape) if g is None else g.data
        bound = atol + rtol * np.max(np.abs(numeric), initial=0.0)
        wrong = ~(np.abs(values - numeric) <= bound)
        if wrong.any():
            worst = np.where(wrong, np.abs(values - numeric), -1.0)
            index = np.unravel_index(int(np.argmax(np.nan_to_num(worst, nan=np.inf))), x.shape)
            where = tuple(int(n) for n in index)
            raise GradError(
                f"{title}: input {i} at index {where}: derived {values[where]:.17g}, numeric "
                f"{numeric[where]:.17g} (bound {bound:.3g}; "
                f"{int(wrong.sum())} of {x.size} elements)"
            )
        largest = max(largest, float(np.max(np.abs(values), initial=0.0)))
        noise = max(noise, float(bound))
    if largest <= noise and any(x.size for x in xs):
        warnings.warn(
            f"{title}: all gradients are zero within noise ({largest:.3g}), so that a rule which "
            "returned zeros would pass too; weigh the output, say by a random constant",
            stacklevel=3,
        )


def _outputs(fn: Function, args: Sequence[Operand]) -> list[Tensor]:
    result = fn(*args)
    many = result if isinstance(result, (tuple, list)) else [result]
    return [as_tensor(y, "gradcheck") for y in many]


def _differences(
    fn: Function, args: list[Operand], x: Tensor, cotangents: list[Array], eps: float
) -> Array:
    """Return central differences of sum(cotangent * output) along each element of x."""

    def value() -> list[Array]:
        return [y.data.astype(np.float64) for y in _outputs(fn, args)]

    result = np.empty(x.shape)
    flat = x.data.reshape(-1)
    for k in range(flat.size):
        before = flat[k]
        flat[k] = before + eps
        above, right = value(), flat[k]
        flat[k] = before - eps
        below, left = value(), flat[k]
        flat[k] = before
        # Differences first, then their sum: unchanged terms cancel exactly.
        terms = [np.sum(c * (a - b)) for c, a, b in zip(cotangents, above, below, strict=True)]
        result.reshape(-1)[k] = sum(terms) / (right - left)
    return result
