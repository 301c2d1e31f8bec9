"""Users declare their own primitives here; each run checks the results of forward and vjp."""

import ast
import functools
import inspect
import keyword
import sys
import types
from collections.abc import Sequence

import numpy as np

from .. import ops
from ..arrays import checked
from ..engine.tensor import Tensor, TensorLike
from ..errors import ArgumentError, DtypeError, MinigradError, ShapeError
from ..ops.primitive import (
    FORMULA_WORDS,
    Attribute,
    Attributes,
    Formula,
    Forward,
    Operand,
    Rule,
)
from ..types import Array, Shape
from . import array_functions
from ._public import Function, public

# Where each of the user's primitives is declared: the module and the qualified name of the code.
_places: dict[str, tuple[str, str]] = {}


def primitive(
    name: str,
    forward: Forward,
    vjp: Rule | Sequence[Rule | None] | None,
    formula: Formula = None,
) -> Function:
    """Declare an operation of your own, and return it as a function of Tensors.

    It is differentiated, to any order, explained and traced like minigrad's own operations.
    mg.compile runs its forward in NumPy, between compiled functions.

    name: a new name, which errors and explanations use. A declaration that runs again, such as a
        cell of a notebook, replaces its primitive: functions that it has returned before, and what
        was recorded or compiled with them, keep the old one.
    forward: `forward(*arrays, **attributes) -> array`, a pure function of NumPy arrays of any
        shapes, which are copies; other inputs, such as numbers, are passed unchanged. Lists, dicts
        and arrays among the attributes are copied at the call.
        The result is an array of float32, float64, integers or booleans.
    vjp: the vector-Jacobian products. A function `vjp(g, y, *inputs, **attributes)` returns a tuple
        with a cotangent for each input, or None for an input without a derivative. g is the
        cotangent of the result y, in the shape of y. The cotangent of an input has the shape of the
        input; if the input was broadcast, it may have the shape of y, and minigrad sums it.
        Instead, vjp may be a tuple with one function for each input, which returns the cotangent of
        that input, or None for an input without a gradient. Write these functions with operators
        and functions of minigrad, not of NumPy, since derivatives of higher order are recorded from
        them. None: the result is a constant.
    formula: the forward as an expression, which explanations print and evaluate. Its names are the
        input names in the vjp, the attributes, which may have defaults in the forward, and
        functions of minigrad. Lines that name parts of it, as m = mean(a), may come before it.
        Without a formula, explanations print a call by name.

    Integers become float32 where the result has fractions. Errors: ArgumentError for a name that is
    taken or is not an identifier, a formula without a value, and a wrong number of rules, inputs
    or cotangents; ShapeError for a cotangent that does not fit its input; DtypeError for an
    argument, result or cotangent of a wrong type.

    >>> cube = mg.primitive("cube", lambda a: a**3, lambda g, y, a: (g * 3 * a**2,), "a ** 3")
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> (dx,) = mg.grad(cube(x).sum(), x, create_graph=True)
    >>> dx.tolist(), mg.grad(dx.sum(), x)[0].tolist()
    ([3.0, 12.0], [6.0, 12.0])
    """
    place = _place_of(sys._getframe(1))
    _check_name(name, place)
    if not callable(forward):
        raise DtypeError(f"primitive {name!r}: forward must be a function, got {forward!r:.60}")
    rules = tuple(vjp) if isinstance(vjp, (tuple, list)) else None
    for rule in [vjp] if rules is None else rules:
        if rule is not None and not isinstance(rule, types.FunctionType):
            raise DtypeError(
                f"primitive {name!r}: vjp must be a function written in Python, a tuple of such "
                f"functions or None, got {rule!r:.60}"
            )
    formula = _checked_formula(name, formula)
    ops.TABLE.pop(name, None)
    declared = ops.primitive(
        name,
        _checked_forward(name, forward, rules),
        _checked_vjp(name, vjp) if rules is None else _checked_rules(name, rules),  # type: ignore[arg-type]
        formula=formula,
        promotes=True,
    )
    _places[name] = place
    call = public(declared, f"Declared by mg.primitive({name!r}, ...).")

    @functools.wraps(call)
    def called(*inputs: TensorLike, **attributes: Attribute) -> Tensor:
        return call(*inputs, **_copied(attributes))

    return called


def _copied(x: Attribute) -> Attribute:
    """Return a copy of an attribute, so that a later change of a list or array has no effect."""
    if type(x) is dict:
        return {key: _copied(part) for key, part in x.items()}
    if type(x) in (list, tuple, set):
        return type(x)(map(_copied, x))
    return x.copy() if isinstance(x, np.ndarray) else x


def _place_of(frame: types.FrameType) -> tuple[str, str]:
    """Return the module and the qualified name of the code that a frame runs."""
    code = frame.f_code
    name = getattr(code, "co_qualname", code.co_name)  # new in Python 3.11
    # IPython numbers the lines of cells in this name.
    return frame.f_globals.get("__name__", ""), "" if name.startswith("<") else name


def _check_name(name: object, place: tuple[str, str]) -> None:
    if not isinstance(name, str):
        raise DtypeError(f"primitive: the name must be a str, got {name!r:.60}")
    if not name.isidentifier():
        raise ArgumentError(
            f"primitive: {name!r} is no identifier, which explanations need; use letters, digits "
            "and underscores"
        )
    if keyword.iskeyword(name):
        raise ArgumentError(
            f"primitive: {name!r} is a keyword of Python, which no formula can call; choose "
            f"another name, such as {name}_"
        )
    if name in ops.BUILTIN or name in FORMULA_WORDS or hasattr(array_functions, name):
        raise ArgumentError(
            f"primitive: {name!r} is minigrad's already; choose a name that no primitive has"
        )
    if name in ops.TABLE and _places.get(name) != place:
        module, function = _places.get(name, ("another module", ""))
        where = f"{module}, in {function}" if function else module
        raise ArgumentError(
            f"primitive: {name!r} is your own already, declared by {where}; only that declaration "
            "may run again; choose another name"
        )


def _checked_formula(name: str, formula: Formula) -> Formula:
    """Return a formula after checks; if it is a function, each text that it returns is checked."""
    if not callable(formula):
        return _checked_text(name, formula)

    @functools.wraps(formula, updated=())
    def run(*inputs: Operand, **attributes: Attribute) -> str | None:
        return _checked_text(name, formula(*inputs, **attributes))

    return run


def _checked_text(name: str, text: str | None) -> str | None:
    """Return the text of a formula. Errors: DtypeError, ArgumentError unless it has a value."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise DtypeError(
            f"primitive {name!r}: formula must be a str, a function that returns one, or None, "
            f"got {text!r:.60}"
        )
    try:
        lines = ast.parse(text).body
        compile(text, "<formula>", "exec")  # finds more than the parser does
    except (SyntaxError, ValueError) as error:  # ValueError for a null character
        raise ArgumentError(
            f"primitive {name!r}: formula {text!r} is no expression of Python: {error}"
        ) from error
    named = all(
        isinstance(line, ast.Assign) and [*map(type, line.targets)] == [ast.Name]
        for line in lines[:-1]
    )
    if not named or not lines or not isinstance(lines[-1], ast.Expr):
        raise ArgumentError(
            f"primitive {name!r}: formula {text!r} must end with an expression, and each line "
            "before it must give a part of it a name, as in 'm = mean(a)\\na - m'"
        )
    return text


def _checked_forward(name: str, forward: Forward, rules: tuple[Rule | None, ...] | None) -> Forward:
    """Return a forward that checks inputs and result, and gets copies of the inputs."""

    @functools.wraps(forward, updated=())
    def run(*arrays: Operand, **attributes: Attribute) -> Array:
        if rules is not None and len(arrays) != len(rules):
            raise ArgumentError(
                f"{name}: got {len(arrays)} inputs, but its vjp has {len(rules)} rules; give one "
                "for each input, None where there is no gradient"
            )
        # A forward may overwrite its inputs, and return one of them.
        copies = [np.array(a) if isinstance(a, np.ndarray) else a for a in arrays]
        y = forward(*copies, **attributes)
        if not isinstance(y, (np.ndarray, np.generic, float, int)):
            raise DtypeError(
                f"{name}: its forward returned {type(y).__name__}, expected an array; write it "
                "with functions of NumPy"
            )
        return checked(np.asarray(y), name)

    return run


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

    def safe(i: int, rule: Rule) -> Rule:
        @functools.wraps(rule)
        def one(g: Operand, y: Operand, *inputs: Operand, **attributes: Attribute) -> Operand:
            return _cotangent(name, i, _run(name, rule, g, y, inputs, attributes), g, y, inputs[i])

        return one

    return tuple(None if rule is None else safe(i, rule) for i, rule in enumerate(rules))


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
        return rule(*map(_read_only, (g, y, *inputs)), **attributes)
    except (TypeError, AttributeError, ValueError) as error:
        if isinstance(error, MinigradError):
            raise
        if isinstance(error, ValueError):
            if "read-only" not in str(error):
                raise
            raise ArgumentError(
                f"{name}: its vjp changes g, y or an input in place: {error}; compute a new one, "
                "as g = g * a does"
            ) from error
        if isinstance(g, Tensor):
            why = "cannot be recorded, as higher derivatives, mg.explain and mg.compile need it"
        else:
            why = "fails on arrays of NumPy, which it gets in an ordinary backward pass"
        raise DtypeError(
            f"{name}: its vjp {why}: {error}; write it with operators and functions of minigrad, "
            "not of NumPy, on g, y and the inputs themselves, not on their .data"
        ) from error


def _read_only(x: Operand) -> Operand:
    """Return a view of an array that cannot be written to, and anything else as it is."""
    if isinstance(x, np.ndarray):
        x = x.view()
        x.flags.writeable = False
    return x


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
    if not isinstance(gx, Tensor):
        gx = checked(np.asarray(gx), f"{name}: its vjp's cotangent for input {i}")
    if not isinstance(g, Tensor):
        array = gx._data if isinstance(gx, Tensor) else gx
        return array if array.flags.writeable else array.copy()
    if not isinstance(gx, Tensor) and np.any(gx):
        raise DtypeError(
            f"{name}: its vjp returned an array for input {i} where it got Tensors, so that higher "
            "derivatives would be lost; use g itself with operators and functions of minigrad, "
            "not .data or .numpy()"
        )
    return gx


def _fits(given: Shape, shape: Shape, result: Shape) -> bool:
    """Return whether a cotangent of shape `given` can be summed or broadcast to `shape`."""
    if len(given) == len(shape) and all(m in (1, n) for m, n in zip(given, shape, strict=True)):
        return True
    aligned = result[len(result) - len(shape) :]
    broadcast = len(shape) <= len(result) and all(
        m in (1, n) for m, n in zip(shape, aligned, strict=True)
    )
    return given == result and broadcast
