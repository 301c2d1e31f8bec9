"""Users declare their own primitives here; each run checks the results of forward and vjp."""

import functools
import inspect
import types
from collections.abc import Sequence

import numpy as np

from .. import ops
from ..engine.tensor import Tensor
from ..errors import ArgumentError, DtypeError, ShapeError
from ..ops.primitive import Attribute, Attributes, Formula, Forward, Operand, Rule
from ..types import Array, Shape
from . import array_functions
from ._public import Function, public


def primitive(
    name: str,
    forward: Forward,
    vjp: Rule | Sequence[Rule | None] | None,
    formula: Formula = None,
) -> Function:
    """Declare an operation of your own, and return it as a function of Tensors.

    It is differentiated, to any order, explained and traced like minigrad's own operations.
    mg.compile runs its forward in NumPy, between compiled functions.

    name: a new name, which errors and explanations use.
    forward: `forward(*arrays, **attributes) -> array`, a pure function of NumPy arrays of any
        shapes; inputs that are no arrays, such as numbers, are passed unchanged.
    vjp: the vector-Jacobian products. A function `vjp(g, y, *inputs, **attributes)` returns a tuple
        with a cotangent for each input, or None for an input without a derivative. g is the
        cotangent of the result y, in the shape of y. The cotangent of an input has the shape of the
        input; if the input was broadcast, it may have the shape of y, and minigrad sums it.
        Instead, vjp may be a tuple with one function for each input, which returns the cotangent of
        that input, or None for an input without a gradient. Write these functions with operators
        and functions of minigrad, not of NumPy, since derivatives of higher order are recorded from
        them. None: the result is a constant.
    formula: the forward as an expression, which explanations print and evaluate. Its names are the
        input names in the vjp, the attributes, and functions of minigrad. Without a formula,
        explanations print a call by name.

    Integers become float32 where the result has fractions. Errors: ArgumentError for a name that is
    taken or no identifier, and for the wrong number of rules, inputs or cotangents; ShapeError for
    a cotangent that does not fit its input; DtypeError for an argument or result of a wrong type.

    >>> cube = mg.primitive("cube", lambda a: a**3, lambda g, y, a: (g * 3 * a**2,), "a ** 3")
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> (dx,) = mg.grad(cube(x).sum(), x, create_graph=True)
    >>> dx.tolist(), mg.grad(dx.sum(), x)[0].tolist()
    ([3.0, 12.0], [6.0, 12.0])
    """
    _check_name(name)
    if not callable(forward):
        raise DtypeError(f"primitive {name!r}: forward must be a function, got {forward!r:.60}")
    rules = tuple(vjp) if isinstance(vjp, (tuple, list)) else None
    for rule in [vjp] if rules is None else rules:
        if rule is not None and not isinstance(rule, types.FunctionType):
            raise DtypeError(
                f"primitive {name!r}: vjp must be a function written in Python, a tuple of such "
                f"functions or None, got {rule!r:.60}"
            )
    _check_formula(name, formula)
    declared = ops.primitive(
        name,
        _checked_forward(name, forward, rules),
        _checked_vjp(name, vjp) if rules is None else _checked_rules(name, rules),  # type: ignore[arg-type]
        formula=formula,
        promotes=True,
    )
    return public(declared, f"Declared by mg.primitive({name!r}, ...).")


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise DtypeError(f"primitive: the name must be a str, got {name!r:.60}")
    if not name.isidentifier():
        raise ArgumentError(
            f"primitive: {name!r} is no identifier, which explanations need; use letters, digits "
            "and underscores"
        )
    if name in ops.TABLE or hasattr(array_functions, name):
        known = ops.TABLE.get(name)
        whose = "your own" if known is not None and name not in ops.BUILTIN else "minigrad's"
        raise ArgumentError(
            f"primitive: {name!r} is {whose} already; choose a name that no primitive has"
        )


def _check_formula(name: str, formula: object) -> None:
    if formula is None or callable(formula):
        return
    if not isinstance(formula, str):
        raise DtypeError(
            f"primitive {name!r}: formula must be a str, a function that returns one, or None, "
            f"got {formula!r:.60}"
        )
    try:
        compile(formula, "<formula>", "exec")
    except SyntaxError as error:
        raise ArgumentError(
            f"primitive {name!r}: formula {formula!r} is no expression of Python: {error.msg}"
        ) from error


def _checked_forward(name: str, forward: Forward, rules: tuple[Rule | None, ...] | None) -> Forward:
    """Return a forward that checks inputs and result, and copies a result that is a view."""

    def checked(*arrays: Operand, **attributes: Attribute) -> Array:
        if rules is not None and len(arrays) != len(rules):
            raise ArgumentError(
                f"{name}: got {len(arrays)} inputs, but its vjp has {len(rules)} rules; give one "
                "for each input, None where there is no gradient"
            )
        y = forward(*arrays, **attributes)
        if not isinstance(y, (np.ndarray, np.generic, float, int)):
            raise DtypeError(
                f"{name}: its forward returned {type(y).__name__}, expected an array; write it "
                "with functions of NumPy"
            )
        y = np.asarray(y)
        return y.copy() if any(np.may_share_memory(y, a) for a in arrays if a is not None) else y

    return checked


def _checked_vjp(name: str, vjp: Rule | None) -> Rule | None:
    """Return a rule for all inputs that calls the user's vjp and checks its result."""
    if vjp is None:
        return None

    @functools.wraps(vjp)
    def checked(
        g: Operand, y: Operand, *inputs: Operand, wrt: Sequence[int], **attributes: Attribute
    ) -> list[Operand]:
        found = _run(name, vjp, g, y, inputs, attributes)
        if not isinstance(found, (tuple, list)) or len(found) != len(inputs):
            what = type(found).__name__
            what = f"{len(found)} cotangents" if isinstance(found, (tuple, list)) else what
            raise ArgumentError(
                f"{name}: its vjp returned {what}, expected a tuple with a cotangent for each of "
                f"{len(inputs)} inputs, None where there is none"
            )
        return [
            _cotangent(name, i, gx, g, y, x) if i in wrt else None
            for i, (gx, x) in enumerate(zip(found, inputs, strict=True))
        ]

    return checked


def _checked_rules(name: str, rules: tuple[Rule | None, ...]) -> tuple[Rule | None, ...]:
    """Return rules that call the user's rules and check their results."""

    def checked(i: int, rule: Rule) -> Rule:
        @functools.wraps(rule)
        def one(g: Operand, y: Operand, *inputs: Operand, **attributes: Attribute) -> Operand:
            return _cotangent(name, i, _run(name, rule, g, y, inputs, attributes), g, y, inputs[i])

        return one

    return tuple(None if rule is None else checked(i, rule) for i, rule in enumerate(rules))


def _run(
    name: str,
    rule: Rule,
    g: Operand,
    y: Operand,
    inputs: Sequence[Operand],
    attributes: Attributes,
) -> Operand:
    try:
        inspect.signature(rule).bind(g, y, *inputs, **attributes)
    except TypeError as error:
        raise ArgumentError(
            f"{name}: its vjp does not take g, y, {len(inputs)} inputs and the attributes "
            f"{sorted(attributes)}: {error}"
        ) from error
    try:
        return rule(g, y, *inputs, **attributes)
    except TypeError as error:
        if not isinstance(g, Tensor) or isinstance(error, DtypeError):
            raise
        raise DtypeError(
            f"{name}: its vjp cannot be recorded, as higher derivatives, mg.explain and mg.compile "
            f"need it: {error}; write it with operators and functions of minigrad, not of NumPy"
        ) from error


def _cotangent(name: str, i: int, gx: Operand, g: Operand, y: Operand, x: Operand) -> Operand:
    """Return the cotangent gx of input i after checks, as an array if g is one."""
    if gx is None:
        return None
    if not isinstance(gx, (Tensor, np.ndarray, np.generic)):
        raise DtypeError(
            f"{name}: its vjp returned {type(gx).__name__} for input {i}, expected a Tensor or "
            f"array of shape {x.shape}, or None"
        )
    if not _fits(gx.shape, x.shape, y.shape):
        raise ShapeError(
            f"{name}: its vjp returned shape {gx.shape} for input {i}, expected {x.shape}, the "
            f"shape of the input, or {y.shape}, that of the result, where the input was broadcast"
        )
    return gx._data if isinstance(gx, Tensor) and not isinstance(g, Tensor) else gx


def _fits(given: Shape, shape: Shape, result: Shape) -> bool:
    """Return whether a cotangent of shape `given` can be summed or broadcast to `shape`."""
    if len(given) == len(shape) and all(m in (1, n) for m, n in zip(given, shape, strict=True)):
        return True
    aligned = result[len(result) - len(shape) :]
    broadcast = len(shape) <= len(result) and all(
        m in (1, n) for m, n in zip(shape, aligned, strict=True)
    )
    return given == result and broadcast
